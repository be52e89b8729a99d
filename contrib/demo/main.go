// Command demo is make demo: three systemd hosts on this machine, Gearmesh on them by the
// commands a user has, and the guestbook, step by step.
//
// On a running demo it only looks whether everything is well, and breaks nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"gearmesh.dev/contrib/lab"
	"gearmesh.dev/contrib/story"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n  try: bin/gear lab shell h1 --lab demo, then gear status -p guestbook\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if len(os.Args) > 1 {
		return errors.New("it takes no arguments; make demo calls it")
	}
	if os.Geteuid() != 0 {
		return errors.New("the lab makes namespaces and mounts and needs root; try: sudo make demo")
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	bin := func(name string) string { return filepath.Join(root, "bin", name) }
	l, err := lab.New(lab.Config{Name: "demo", Binaries: []string{bin("gear"), bin("geard"), bin("gear-run")}, Progress: progress})
	if err != nil {
		return err
	}
	w := &story.World{Lab: l, Root: root, Say: say}
	start := time.Now()
	if err := w.Run(ctx, steps(ctx, w), done); err != nil {
		return err
	}
	fmt.Printf("\nDone in %.0f s.\n", time.Since(start).Seconds())
	return farewell(ctx, l)
}

// steps gives the whole story, or a look at one that was told before.
func steps(ctx context.Context, w *story.World) []story.Step {
	if w.Look(ctx) == nil && w.Told(ctx) {
		return append(story.Boot(), story.Visit()...)
	}
	return append(story.Boot(), story.Guestbook()...)
}

func progress(s lab.Step) {
	host := s.Host
	if host == "" {
		host = "lab"
	}
	fmt.Printf("    %-4s %-44s %6.1f s\n", host, s.What, s.Elapsed.Seconds())
}

func say(format string, args ...any) { fmt.Printf("    "+format+"\n", args...) }

func done(s story.Step, took time.Duration, err error) {
	mark := "✔"
	if err != nil {
		mark = "✗"
	}
	fmt.Printf("%s %-76s %6.1f s\n", mark, s.Name, took.Seconds())
}

func farewell(ctx context.Context, l *lab.Lab) error {
	hosts, err := l.List(ctx)
	if err != nil {
		return err
	}
	fmt.Printf(`
The guestbook is at http://%[1]s/ under the name %[2]s, and at the router of every host labelled router.

Try:
  curl -H 'Host: %[2]s' http://%[1]s/
  bin/gear lab exec h1 --lab demo -- gear status -p guestbook
  bin/gear lab exec h1 --lab demo -- gear logs -f -p guestbook web
  bin/gear lab exec h2 --lab demo -- systemctl list-units 'gear-*'
  dig @%[1]s db.guestbook.gear.internal SRV

Take it down: make demo-down
`, hosts[0].Address, story.Alias)
	return nil
}

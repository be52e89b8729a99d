// Command faults is make faults: it boots a lab of its own, starts Gearmesh and the guestbook on it by
// the commands that a user has, does harm to it, and looks whether what the docs promise holds.
//
// What counts is read out of band: from docker, systemctl, iptables-save, the journal and the disk, not
// from Gearmesh's own word. After each fault the invariants are looked at too (look.go). A bound that
// is missed is printed as missed; no figure makes the command fail, only a fault that could not be done.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/lab"
	"gearmesh.dev/contrib/story"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "faults: %v\n", err)
		os.Exit(1)
	}
}

// options are the command's flags.
type options struct {
	only  string
	out   string
	bin   string
	lab   string
	scale int
	keep  bool
	fake  bool
}

func parse(args []string, usage io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("faults", flag.ContinueOnError)
	f.SetOutput(usage)
	f.BoolVar(&o.fake, "serve-fake", false, "be the fake registry of F20, inside a host of the lab")
	f.StringVar(&o.only, "only", "", "`ids` to do, such as F1,F7; all when empty")
	f.StringVar(&o.out, "out", "", "`file` that gets the results as JSON; none when empty")
	f.StringVar(&o.bin, "bin", "bin/failpoints", "`folder` of gear, geard and gear-run, built with failpoints")
	f.StringVar(&o.lab, "lab", "faults", "`name` of the lab")
	f.IntVar(&o.scale, "scale", 200, "how many times F10 creates and deletes; the docs' bound is for 1000")
	f.BoolVar(&o.keep, "keep", false, "keep the lab at the end, and use one that was kept")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 || o.scale < 1 {
		return o, fmt.Errorf("bad arguments %q: want flags alone, and -scale of 1 or more", args)
	}
	return o, nil
}

// fault is an id of the docs, and what does it and gives its rows.
type fault struct {
	id string
	do func(context.Context, *rig) ([]figures.Row, error)
}

func faults() []fault {
	return []fault{{"F1", cutPower}, {"F2", killAgent}, {"F4", rebootAlone}, {"F7", killEngine}, {"F8", killSupervisors}, {"F10", churn},
		{"F11", deleteWhileOff}, {"F18", harmDisk}, {"F19", badPods}, {"F20", badRegistry}, {"F21", restartNeighbours}}
}

// pick gives the faults with the ids, which are separated by commas; all for none.
func pick(all []fault, only string) ([]fault, error) {
	var known []string
	for _, f := range all {
		known = append(known, f.id)
	}
	want := strings.FieldsFunc(only, func(r rune) bool { return r == ',' || r == ' ' })
	for _, id := range want {
		if !slices.Contains(known, id) {
			return nil, fmt.Errorf("there is no fault %q; there are %s", id, strings.Join(known, ", "))
		}
	}
	if len(want) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(all, func(f fault) bool { return !slices.Contains(want, f.id) }), nil
}

func run(ctx context.Context, args []string, out, progress io.Writer) (err error) {
	o, err := parse(args, progress)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if o.fake {
		return serveFake(ctx)
	}
	chosen, err := pick(faults(), o.only)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("the lab makes namespaces and mounts and needs root; try: sudo make faults")
	}
	r, err := newRig(o, progress)
	if err != nil {
		return err
	}
	if !o.keep {
		if err := r.Lab.Down(ctx); err != nil { // what a run that was killed left
			return err
		}
		defer func() { err = errors.Join(err, r.Lab.Down(context.WithoutCancel(ctx))) }()
	}
	if err := r.boot(ctx); err != nil {
		return err
	}
	return r.doAll(ctx, chosen, o.out, out)
}

// diskMiB is the size of each host's own file system: the first host's holds etcd's log and store too.
const diskMiB = 512

func newRig(o options, progress io.Writer) (*rig, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(o.bin)
	if err != nil {
		return nil, err
	}
	r := &rig{scale: o.scale, say: func(format string, args ...any) { fmt.Fprintf(progress, "  "+format+"\n", args...) }}
	self, err := os.Executable() // the hosts have it as the fake registry
	if err != nil {
		return nil, err
	}
	binaries := []string{filepath.Join(dir, "gear"), filepath.Join(dir, "geard"), filepath.Join(dir, "gear-run"), self}
	l, err := lab.New(lab.Config{Name: o.lab, Binaries: binaries, Disk: diskMiB})
	if err != nil {
		return nil, err
	}
	r.World = &story.World{Lab: l, Root: root, Say: r.say}
	return r, nil
}

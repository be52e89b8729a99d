// Command bench is make bench: it boots a lab of its own, starts Gearmesh on it by the commands
// that a user has, and measures it beside a peer in the same run on the same host.
//
// Each figure is the median of -runs runs, which take turns with their peer's, so that both see
// the same noise. A goal that is missed is printed as missed; no figure makes the command fail.
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
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// options are the command's flags.
type options struct {
	only     string
	out      string
	bin      string
	runs     int
	parallel int
	keep     bool
}

func parse(args []string, usage io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(usage)
	f.StringVar(&o.only, "only", "", "`ids` to measure, such as P1,P3; all when empty")
	f.StringVar(&o.out, "out", "", "`file` that gets the results as JSON; none when empty")
	f.StringVar(&o.bin, "bin", "bin", "`folder` of gear, geard and gear-run")
	f.IntVar(&o.runs, "runs", 5, "runs whose median counts; P11 takes at most 3")
	f.IntVar(&o.parallel, "parallel", 0, "containers that P2 starts at once; 0: 50, or 20 on a busy machine")
	f.BoolVar(&o.keep, "keep", false, "keep the lab at the end, and use one that was kept")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 || o.runs < 1 || o.parallel < 0 {
		return o, fmt.Errorf("bad arguments %q: want flags alone, -runs of 1 or more and -parallel of 0 or more", args)
	}
	return o, nil
}

// part is a benchmark: an id of the docs, and what gives its rows.
type part struct {
	id string
	do func(context.Context, *bench) ([]figures.Row, error)
}

func parts() []part {
	return []part{{"P1", measureStart}, {"P2", measureMany}, {"P3", measureServe}, {"P9", measureIdle}, {"P11", measurePowerOff}}
}

// pick gives the parts with the ids, which are separated by commas; all for none.
func pick(all []part, only string) ([]part, error) {
	var known []string
	for _, p := range all {
		known = append(known, p.id)
	}
	want := strings.FieldsFunc(only, func(r rune) bool { return r == ',' || r == ' ' })
	for _, id := range want {
		if !slices.Contains(known, id) {
			return nil, fmt.Errorf("there is no benchmark %q; there are %s", id, strings.Join(known, ", "))
		}
	}
	if len(want) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(all, func(p part) bool { return !slices.Contains(want, p.id) }), nil
}

func run(ctx context.Context, args []string, out, progress io.Writer) (err error) {
	o, err := parse(args, progress)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	chosen, err := pick(parts(), o.only)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("the lab makes namespaces and mounts and needs root; try: sudo make bench")
	}
	b, err := newBench(o, progress)
	if err != nil {
		return err
	}
	if !o.keep {
		if err := b.world.Lab.Down(ctx); err != nil { // what a run that was killed left
			return err
		}
		defer func() { err = errors.Join(err, b.world.Lab.Down(context.WithoutCancel(ctx))) }()
	}
	if err := b.boot(ctx); err != nil {
		return err
	}
	return b.measure(ctx, chosen, o.out, out)
}

// newBench gives the bench with its lab, which is not booted yet.
func newBench(o options, progress io.Writer) (*bench, error) {
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(o.bin)
	if err != nil {
		return nil, err
	}
	b := &bench{runs: o.runs, parallel: o.parallel, say: func(format string, args ...any) { fmt.Fprintf(progress, "  "+format+"\n", args...) }}
	binaries := []string{filepath.Join(dir, "gear"), filepath.Join(dir, "geard"), filepath.Join(dir, "gear-run")}
	l, err := lab.New(lab.Config{Name: "bench", Binaries: binaries})
	if err != nil {
		return nil, err
	}
	b.world = &story.World{Lab: l, Root: root, Say: b.say}
	return b, nil
}

// measure goes through the parts. What was measured is printed and kept also when a later part fails.
func (b *bench) measure(ctx context.Context, chosen []part, file string, out io.Writer) error {
	machine, err := b.machine(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, machine)
	var rows []figures.Row
	var failed error
	for _, p := range chosen {
		got, err := p.do(ctx, b)
		for i := range got {
			got[i].Command = "go run ./contrib/bench -only " + p.id
		}
		rows = append(rows, got...)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", p.id, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed, figures.Print(out, rows), figures.Save(file, rows))
}

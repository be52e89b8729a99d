package figures

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

	"gearmesh.dev/contrib/lab"
	"gearmesh.dev/contrib/story"
)

// Main runs a command that measures, and ends the process.
func Main(name string, run func(ctx context.Context, args []string, out, progress io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Options are the flags that such commands have in common.
type Options struct {
	Only string // ids, separated by commas; all when empty
	Out  string // the file that gets the rows as JSON; none when empty
	Bin  string // the folder of gear, geard and gear-run
	Lab  string // the lab's name
	Keep bool   // keep the lab at the end, and use one that was kept
}

// Flags gives a flag set that reads into o, whose values until now are the defaults.
func (o *Options) Flags(command string, usage io.Writer) *flag.FlagSet {
	f := flag.NewFlagSet(command, flag.ContinueOnError)
	f.SetOutput(usage)
	f.StringVar(&o.Only, "only", o.Only, "`ids` to do, separated by commas; all when empty")
	f.StringVar(&o.Out, "out", o.Out, "`file` that gets the results as JSON; none when empty")
	f.StringVar(&o.Bin, "bin", o.Bin, "`folder` of gear, geard and gear-run")
	f.StringVar(&o.Lab, "lab", o.Lab, "`name` of the lab, so that two runs can share a machine")
	f.BoolVar(&o.Keep, "keep", o.Keep, "keep the lab at the end, and use one that was kept")
	return f
}

// World gives the lab of the options, which is not booted yet. It has the three binaries, and more.
func (o Options) World(c lab.Config, progress io.Writer, more ...string) (*story.World, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the lab makes namespaces and mounts and needs root; try it with sudo")
	}
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(o.Bin)
	if err != nil {
		return nil, err
	}
	c.Name = o.Lab
	c.Binaries = append([]string{filepath.Join(dir, "gear"), filepath.Join(dir, "geard"), filepath.Join(dir, "gear-run")}, more...)
	l, err := lab.New(c)
	if err != nil {
		return nil, err
	}
	return &story.World{Lab: l, Root: root, Say: func(format string, args ...any) { fmt.Fprintf(progress, "  "+format+"\n", args...) }}, nil
}

// Within calls do between the removal of what a run that was killed left of the lab, and the lab's own end, unless it is kept.
func (o Options) Within(ctx context.Context, l *lab.Lab, do func() error) error {
	if o.Keep {
		return do()
	}
	if err := l.Down(ctx); err != nil {
		return err
	}
	return errors.Join(do(), l.Down(context.WithoutCancel(ctx)))
}

// Part gives the rows of an id of the docs, by acting on a T.
type Part[T any] struct {
	ID    string
	Alone bool // it needs no lab
	Do    func(context.Context, T) ([]Row, error)
}

// Pick gives the parts with the ids, which are separated by commas or spaces; all for none.
func Pick[T any](all []Part[T], only string) ([]Part[T], error) {
	var known []string
	for _, p := range all {
		known = append(known, p.ID)
	}
	want := strings.FieldsFunc(only, func(r rune) bool { return r == ',' || r == ' ' })
	for _, id := range want {
		if !slices.Contains(known, id) {
			return nil, fmt.Errorf("there is no id %q; there are %s", id, strings.Join(known, ", "))
		}
	}
	if len(want) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(slices.Clone(all), func(p Part[T]) bool { return !slices.Contains(want, p.ID) }), nil
}

// Each does the parts one after the other, each by do, and then prints the rows and keeps them in a file. It does so also
// when one of the parts fails; command comes before the part's id in a row's command.
func Each[T any](ctx context.Context, parts []Part[T], do func(context.Context, Part[T]) ([]Row, error), command, file string, out io.Writer) error {
	var rows []Row
	var failed error
	for _, p := range parts {
		got, err := do(ctx, p)
		for i := range got {
			got[i].Command = command + p.ID
		}
		rows = append(rows, got...)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", p.ID, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed, Print(out, rows), Save(file, rows))
}

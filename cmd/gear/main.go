// Command gear is the client of Gearmesh: it shows and changes what a cluster runs, sets up hosts
// (up, join), and makes a cluster on one machine to try it (lab).
//
// What it was asked for goes to standard output, progress and errors to standard error. Its exit
// status is 0 when it is done, 1 on an error, 2 when the command line or a manifest is wrong, 3 when something does
// not exist, 4 when a time ran out, and 130 when it was interrupted; lab exec and lab shell end with the command's own.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

func main() { os.Exit(gear()) }

// gear runs the command line of this process.
func gear() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second Ctrl-C ends the program at once, whatever it waits for.
	context.AfterFunc(ctx, stop)
	return run(ctx, os.Args[1:], terminal())
}

// streams are where gear reads and writes, and what it knows of them.
type streams struct {
	in       io.Reader
	out, err io.Writer
	inTTY    bool           // a person can be asked
	outTTY   bool           // tables may have colours
	errTTY   bool           // progress may be drawn in place
	size     func() (w int) // width of the terminal; 0 when there is none
	getenv   func(string) string
}

// terminal gives the process's own streams.
func terminal() streams {
	is := func(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
	return streams{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv,
		inTTY: is(os.Stdin), outTTY: is(os.Stdout), errTTY: is(os.Stderr),
		size: func() int {
			w, _, err := term.GetSize(int(os.Stderr.Fd()))
			if err != nil {
				return 0
			}
			return w
		}}
}

// run carries out a command line and gives the exit status.
func run(ctx context.Context, args []string, s streams) int {
	a := newApp(s)
	root := a.root()
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		return a.fail(ctx, err)
	}
	return exitOK
}

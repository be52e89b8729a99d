package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

// The exit statuses; the package comment and gear help explain them.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitTimeout     = 4
	exitInterrupted = 130
)

// problem is an error as people read it: what is wrong, why, and what to do next.
type problem struct {
	what, why, try string
	code           int
	cause          error
}

// Error implements error.
func (p problem) Error() string {
	if p.why == "" {
		return p.what
	}
	return p.what + ": " + p.why
}

// Unwrap gives the cause.
func (p problem) Unwrap() error { return p.cause }

// exited carries the exit status of a command that gear ran for somebody; there is nothing to say.
type exited int

// Error implements error.
func (e exited) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError says that the command line is wrong, and where help is.
func usageError(c *cobra.Command, format string, args ...any) error {
	return problem{what: fmt.Sprintf(format, args...), try: c.CommandPath() + " --help", code: exitUsage}
}

// flagError names the flag that was meant.
func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return usageError(c, "%v", err)
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return usageError(c, "%v%s", err, didYouMean(unknown.GetSpecifiedName(), names))
}

// didYouMean gives the end of a sentence about a word that is not known.
func didYouMean(word string, known []string) string {
	if best := api.Nearest(word, known); best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return ""
}

// fail prints an error and gives the exit status.
func (a *app) fail(ctx context.Context, err error) int {
	var e exited
	if errors.As(err, &e) {
		return int(e)
	}
	p := asProblem(err)
	if ctx.Err() != nil && p.code != exitTimeout {
		fmt.Fprintln(a.err, "gear: interrupted")
		return exitInterrupted
	}
	p.print(a.err, a.errPaint)
	return p.code
}

// print writes "gear: what", and below it why and what to try.
func (p problem) print(w io.Writer, c paint) {
	fmt.Fprintf(w, "%s %s\n", c.red("gear:"), p.what)
	for line := range strings.Lines(p.why) {
		fmt.Fprintf(w, "  %s\n", strings.TrimRight(line, "\n"))
	}
	if p.try != "" {
		fmt.Fprintf(w, "  %s %s\n", c.bold("try:"), p.try)
	}
}

// asProblem puts an error of the packages below into people's form.
func asProblem(err error) problem {
	var p problem
	var refused *api.Error
	var unreached *client.ConnectError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &refused):
		return fromMaster(refused)
	case errors.As(err, &unreached):
		return fromConnection(unreached)
	case errors.Is(err, context.DeadlineExceeded):
		return problem{what: "it took too long", why: err.Error(), code: exitTimeout}
	}
	what, why, _ := strings.Cut(err.Error(), ": ")
	return problem{what: what, why: why, code: exitError}
}

func fromMaster(e *api.Error) problem {
	p := problem{what: e.Detail, code: exitError}
	if p.what == "" {
		p.what = strings.ToLower(e.Title)
	}
	var lines []string
	for _, f := range e.Faults {
		lines = append(lines, f.String())
	}
	p.why = strings.Join(lines, "\n")
	switch e.Code {
	case api.CodeNotFound:
		p.code = exitNotFound
	case api.CodeInvalid, api.CodeBadRequest:
		p.code = exitUsage
	case api.CodeUnauthorized:
		p.try = "copy ~/.config/gear/config.json from the cluster's first host again"
	case api.CodeConflict:
		p.try = "read it again (gear get -o yaml), and apply your change to that"
	case api.CodeUnavailable, api.CodeRateLimited:
		p.try = "the same again in a moment"
	}
	return p
}

// fromConnection splits the client's sentence, "the master at X cannot be reached: why; next".
func fromConnection(e *client.ConnectError) problem {
	text := e.Error()
	p := problem{what: fmt.Sprintf("the master at %s cannot be reached", e.Server), why: e.Err.Error(), code: exitError}
	if _, next, ok := strings.Cut(text, p.why+"; "); ok {
		p.try = next
	}
	return p
}

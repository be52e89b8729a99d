package install

import (
	"context"
	"fmt"
	"time"
)

// Step tells of a step that has ended, or that waits for somebody.
type Step struct {
	Name    string // what it is about: "dockerd"
	Done    string // what it did, for people; empty when there was nothing to do
	Elapsed time.Duration
	Err     error  // why it could not be done, and what to do next
	Advice  string // what the operator may have to do beside it; it changed nothing
	Waits   string // for what it waits, and what to do for it: it has not ended
}

// String gives the step as a line of progress.
func (s Step) String() string {
	switch {
	case s.Waits != "":
		return s.Name + ": waits " + s.Waits
	case s.Err != nil:
		return fmt.Sprintf("%s: %v", s.Name, s.Err)
	case s.Advice != "":
		return s.Name + ": " + s.Advice
	case s.Done == "":
		return s.Name + ": nothing to do"
	}
	return s.Name + ": " + s.Done
}

// Report is what a run of steps came to.
type Report struct {
	Steps []Step
}

// Changed tells whether any step did anything.
func (r Report) Changed() bool {
	for _, s := range r.Steps {
		if s.Done != "" {
			return true
		}
	}
	return false
}

// step is one idempotent piece of work. It gives what it did, or "" when it was done already.
type step struct {
	name string
	do   func(context.Context) (did string, err error)
	// advises: what do gives is advice, and nothing was done.
	advises bool
}

// runSteps does the steps in order, up to the first that cannot be done.
func runSteps(ctx context.Context, progress func(Step), steps []step) (Report, error) {
	var r Report
	for _, s := range steps {
		start := time.Now()
		did, err := s.do(ctx)
		ended := Step{Name: s.name, Done: did, Elapsed: time.Since(start), Err: err}
		if s.advises {
			ended.Done, ended.Advice = "", did
		}
		r.Steps = append(r.Steps, ended)
		if progress != nil {
			progress(ended)
		}
		if err != nil {
			return r, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return r, nil
}

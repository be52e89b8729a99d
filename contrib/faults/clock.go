package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"gearmesh.dev/contrib/figures"
)

// step is a wall clock that is set to another time than the machine's.
type step struct {
	host string
	to   time.Duration
}

// steps set the clocks of an agent and of the master forward, back by twice as much, and right again.
func steps() []step {
	const far = 6 * time.Hour
	return []step{{target, far}, {target, -far}, {target, 0}, {"h1", far}, {"h1", -far}, {"h1", 0}}
}

// stepClocks steps the wall clocks of Gearmesh's processes. A host of a lab has the machine's clock, and no namespace has one of its own
// (time_namespaces(7)), so the programs are built to read a step from a file (contrib/clockstep).
func stepClocks(ctx context.Context, r *rig) ([]figures.Row, error) {
	if _, none := r.sh(ctx, target, `grep -q /run/clock-step /usr/local/bin/geard`); none != nil {
		return []figures.Row{failure("F19.clock", fmt.Errorf("geard has no clock that can be stepped: make faults builds one"))}, nil //nolint:nilerr // the row is the failure
	}
	for _, h := range hosts() {
		if _, err := r.sh(ctx, h, `head -c 8 /dev/zero >/run/clock-step; systemctl try-restart 'gear-agent*' 'gear-master*'`); err != nil {
			return nil, err
		}
	}
	if err := r.settle(ctx); err != nil {
		return nil, err
	}
	if _, err := r.sh(ctx, target, `grep -q /run/clock-step /proc/$(systemctl show -P MainPID gear-agent.service)/maps`); err != nil {
		return nil, fmt.Errorf("the agent does not read the step: %w", err)
	}
	rows, err := r.afterSteps(ctx)
	if err != nil {
		return rows, err
	}
	loop, err := r.crashBackThen(ctx)
	return append(rows, loop...), err
}

// afterSteps looks after each step whether a container was touched, the singleton's among them, which ends when its host's lease
// does, and whether the hosts are ready and take work.
func (r *rig) afterSteps(ctx context.Context) ([]figures.Row, error) {
	if _, err := r.Apply(ctx, single); err != nil {
		return nil, err
	}
	before, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	alone, err := r.deployTime(ctx, "victim")
	if err != nil {
		return nil, err
	}
	var deploys []time.Duration
	lost := 0.0
	for _, s := range steps() {
		if err := r.step(ctx, s); err != nil {
			return nil, err
		}
		time.Sleep(12 * time.Second) // longer than a host's lease and a singleton's
		took, err := r.deployTime(ctx, "victim")
		if err != nil {
			return nil, fmt.Errorf("with the clock of %s set to %+v: %w", s.host, s.to, err)
		}
		deploys = append(deploys, took)
		one, err := r.changed(ctx, "F19.clock", before)
		if err != nil {
			return nil, err
		}
		lost += one
	}
	return []figures.Row{
		figures.Row{ID: "F19.clock", What: fmt.Sprintf("of %d steps of an agent's and the master's clock by up to 12 h, after which a container was not what it was", len(steps())),
			Value: lost, Unit: "steps"}.WithGoal("0 steps", lost == 0),
		figures.Times("F19.clock.deploy", "a deployment after each step, slowest", deploys).Slowest().Against("before", float64(alone.Milliseconds())).NoMoreThan(3),
	}, r.remove(ctx, "single")
}

// crashBackThen sets the clock back while a container waits for its next try.
func (r *rig) crashBackThen(ctx context.Context) ([]figures.Row, error) {
	if _, err := r.Apply(ctx, crasher("late"), "--no-wait"); err != nil {
		return nil, err
	}
	if _, err := r.crashes(ctx, "late", 3); err != nil {
		return nil, err
	}
	if err := r.step(ctx, step{target, -6 * time.Hour}); err != nil {
		return nil, err
	}
	pauses, err := r.crashes(ctx, "late", 5)
	if err != nil {
		return nil, err
	}
	if err := r.step(ctx, step{target, 0}); err != nil {
		return nil, err
	}
	return []figures.Row{backOff("F19.clock.crash", "a container that ends at once, its host's clock set back after the fourth start", pauses)}, r.remove(ctx, "late")
}

// step sets the wall clock of all of Gearmesh's processes on a host, from now on.
func (r *rig) step(ctx context.Context, s step) error {
	var octal strings.Builder
	for _, b := range binary.NativeEndian.AppendUint64(nil, uint64(int64(s.to/time.Second))) {
		fmt.Fprintf(&octal, `\%03o`, b)
	}
	_, err := r.sh(ctx, s.host, `printf "$1" | dd of=/run/clock-step conv=notrunc status=none`, octal.String())
	return err
}

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
)

// shell is a manifest of a service on the target that runs a shell script.
func shell(name, script string, more ...string) string {
	return fmt.Sprintf(`
kind: Service
metadata: {name: %s, project: guestbook}
spec:
  containers:
    - image: %q
      command: ["/bin/sh", "-c", %q]
      stopSignal: SIGKILL
%s
  placement: {require: [{label: host, in: [%s]}]}
`, name, shellImage, script, strings.Join(more, "\n"), target)
}

// badPods is F19: what containers do to themselves and to their neighbours, and steps of the clock.
func badPods(ctx context.Context, r *rig) (rows []figures.Row, err error) {
	for _, do := range []func(context.Context, *rig) ([]figures.Row, error){outOfMemory, crashLoop, forkBomb, stepClocks} {
		got, err := do(ctx, r)
		rows = append(rows, got...)
		if err != nil {
			return rows, err
		}
	}
	return rows, nil
}

func outOfMemory(ctx context.Context, r *rig) ([]figures.Row, error) {
	start := time.Now()
	if _, err := r.Apply(ctx, shell("glutton", "exec tail /dev/zero", "      resources: {memory: 24Mi}"), "--no-wait"); err != nil {
		return nil, err
	}
	err := story.Until(ctx, 30*time.Second, func() error { return r.podSays(ctx, "glutton", api.ReasonOOMKilled) })
	if err != nil {
		return nil, err
	}
	return []figures.Row{figures.Times("F19.oom", "a container over its memory limit → OOMKilled is its reason", []time.Duration{time.Since(start)})}, r.remove(ctx, "glutton")
}

func (r *rig) podSays(ctx context.Context, svc string, reason api.Reason) error {
	pods, err := r.Pods(ctx, svc)
	if err != nil {
		return err
	}
	for _, p := range pods {
		if p.Status.Reason == reason {
			return nil
		}
	}
	return fmt.Errorf("no pod of %s says %s: %+v", svc, reason, pods)
}

// crashLoop compares the pauses between the starts of a container that ends at once with 1 s, 2 s, 4 s and so on.
func crashLoop(ctx context.Context, r *rig) ([]figures.Row, error) {
	if _, err := r.Apply(ctx, crasher("crasher"), "--no-wait"); err != nil {
		return nil, err
	}
	pauses, err := r.crashes(ctx, "crasher", 5)
	if err != nil {
		return nil, err
	}
	return []figures.Row{backOff("F19.crash", "a container that ends at once", pauses)}, r.remove(ctx, "crasher")
}

func crasher(name string) string { return shell(name, "echo started; exit 3") }

// crashes waits until a crasher has been started again n times, and gives the pauses before these starts, in seconds, from the journal.
func (r *rig) crashes(ctx context.Context, name string, n int) (pauses []float64, err error) {
	return pauses, story.Until(ctx, 50*time.Second, func() error {
		out, err := r.sh(ctx, target, `journalctl -q -b -o short-unix GEAR_SERVICE="$1" | awk '$NF == "started" { print $1 }'`, name)
		if err != nil {
			return err
		}
		var starts []float64
		for f := range strings.FieldsSeq(out) {
			s, err := strconv.ParseFloat(f, 64)
			if err != nil {
				return err
			}
			starts = append(starts, s)
		}
		if len(starts) < n+1 {
			return fmt.Errorf("%d starts", len(starts))
		}
		pauses = nil
		for i := range n {
			pauses = append(pauses, starts[i+1]-starts[i])
		}
		return nil
	})
}

// backOff is the row of pauses that must grow as the back-off does.
func backOff(id, what string, pauses []float64) figures.Row {
	grows := true
	for i, pause := range pauses {
		least := float64(int(1) << i)
		grows = grows && pause >= 0.9*least && pause <= 2*least+5
	}
	row := figures.Row{ID: id, What: fmt.Sprintf("%s: pauses between its starts %.1f; the last", what, pauses), Value: pauses[len(pauses)-1], Unit: "s", Samples: pauses}
	return row.WithGoal("1 s, 2 s, 4 s …", grows)
}

// forkBomb starts as many processes as it is allowed to; the host stays usable.
func forkBomb(ctx context.Context, r *rig) ([]figures.Row, error) {
	alone, err := r.deployTime(ctx, "victim")
	if err != nil {
		return nil, err
	}
	if _, err := r.Apply(ctx, shell("bomb", "while true; do sleep 1000 & done 2>/dev/null; sleep 1000", "      resources: {cpu: 200m}"), "--no-wait"); err != nil {
		return nil, err
	}
	time.Sleep(3 * time.Second)
	out, err := r.sh(ctx, target, `cat /sys/fs/cgroup/pids/gear.slice/gear-guestbook.slice/gear-guestbook-bomb*.slice/pids.current /sys/fs/cgroup/gear.slice/gear-guestbook.slice/gear-guestbook-bomb*.slice/pids.current 2>/dev/null | sort -n | tail -1`)
	if err != nil {
		return nil, err
	}
	processes, err := strconv.ParseFloat(strings.TrimSpace(out), 64)
	if err != nil {
		return nil, fmt.Errorf("counting the processes of the fork bomb: %w", err)
	}
	beside, err := r.deployTime(ctx, "victim")
	if err != nil {
		return nil, err
	}
	return []figures.Row{
		figures.Row{ID: "F19.fork", What: "a fork bomb without a limit of its own: its processes", Value: processes, Unit: "processes"}.AtMost(4200),
		figures.Times("F19.beside", "a deployment on the same host meanwhile", []time.Duration{beside}).Against("before", float64(alone.Milliseconds())).NoMoreThan(3),
	}, r.remove(ctx, "bomb")
}

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

// badPods is F19: what containers do to themselves and to their neighbours. Steps of the clock are missed out: a lab's hosts
// have the clock of the machine they are on, and no namespace has a wall clock of its own (time_namespaces(7)).
func badPods(ctx context.Context, r *rig) ([]figures.Row, error) {
	rows := []figures.Row{figures.Row{ID: "F19.clock", What: "steps of the clock: not done, hosts of a lab share the machine's clock", Unit: "steps"}.
		WithGoal("≥ 1 steps", false)}
	for _, do := range []func(context.Context, *rig) ([]figures.Row, error){outOfMemory, crashLoop, forkBomb} {
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

// crashLoop reads from the journal when a container that ends at once was started, and compares the pauses with
// 1 s, 2 s, 4 s and so on.
func crashLoop(ctx context.Context, r *rig) ([]figures.Row, error) {
	if _, err := r.Apply(ctx, shell("crasher", "echo started; exit 3"), "--no-wait"); err != nil {
		return nil, err
	}
	var starts []float64
	err := story.Until(ctx, 50*time.Second, func() error {
		out, err := r.sh(ctx, target, `journalctl -q -b -o short-unix GEAR_SERVICE=crasher | awk '$NF == "started" { print $1 }'`)
		if err != nil {
			return err
		}
		starts = starts[:0]
		for f := range strings.FieldsSeq(out) {
			s, err := strconv.ParseFloat(f, 64)
			if err != nil {
				return err
			}
			starts = append(starts, s)
		}
		if len(starts) < 6 {
			return fmt.Errorf("%d starts", len(starts))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	grows := true
	var pauses []float64
	for i := 1; i < len(starts); i++ {
		pause := starts[i] - starts[i-1]
		pauses = append(pauses, pause)
		least := float64(int(1) << (i - 1))
		grows = grows && pause >= 0.9*least && pause <= 2*least+5
	}
	row := figures.Row{ID: "F19.crash", What: fmt.Sprintf("a container that ends at once: pauses between its starts %.1f; the last", pauses), Value: pauses[len(pauses)-1], Unit: "s", Samples: pauses}
	return []figures.Row{row.WithGoal("1 s, 2 s, 4 s …", grows)}, r.remove(ctx, "crasher")
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

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
	"gearmesh.dev/internal/failpoint"
)

// arm arms a failpoint on a host.
func (r *rig) arm(ctx context.Context, host string, point failpoint.Name, action string) error {
	_, err := r.sh(ctx, host, `mkdir -p "$1" && rm -f "$1"/* && echo "$3" >"$1/$2"`, failpoint.Dir, string(point), action)
	return err
}

// hit waits until a failpoint was hit, and gives the time at which it was: a host's clock is this machine's.
func (r *rig) hit(ctx context.Context, host string, point failpoint.Name) (time.Time, error) {
	var at time.Time
	err := story.Until(ctx, story.Patience, func() error {
		out, err := r.sh(ctx, host, `stat -c %.Z "$1/$2.hit"`, failpoint.Dir, string(point))
		if err != nil {
			return fmt.Errorf("failpoint %q was not passed: %w", point, err)
		}
		at, err = unixTime(out)
		return err
	})
	return at, err
}

func unixTime(text string) (time.Time, error) {
	seconds, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	return time.UnixMicro(int64(seconds * 1e6)), err
}

// killAgent is F2: the process that passes a failpoint gets SIGKILL there, at each point of a start and of a removal.
func killAgent(ctx context.Context, r *rig) ([]figures.Row, error) {
	var starts, removals []time.Duration
	for _, point := range r.starts {
		took, err := r.killAtStart(ctx, point)
		if err != nil {
			return nil, fmt.Errorf("at %s: %w", point, err)
		}
		r.say("F2 killed at %-20s running %5.2f s later", point, took.Seconds())
		starts = append(starts, took)
	}
	for _, point := range r.removals {
		took, err := r.killAtRemoval(ctx, point)
		if err != nil {
			return nil, fmt.Errorf("at %s: %w", point, err)
		}
		r.say("F2 killed at %-20s removed %5.2f s later", point, took.Seconds())
		removals = append(removals, took)
	}
	return []figures.Row{
		figures.Times("F2", fmt.Sprintf("kill -9 at each of %d points of a start → running, slowest", len(starts)), starts).Slowest().AtMost(5000),
		figures.Times("F2.remove", fmt.Sprintf("kill -9 at each of %d points of a removal → nothing left, slowest", len(removals)), removals).Slowest().AtMost(5000),
	}, nil
}

func (r *rig) killAtStart(ctx context.Context, point failpoint.Name) (time.Duration, error) {
	if err := r.arm(ctx, target, point, "kill"); err != nil {
		return 0, err
	}
	if _, err := r.Apply(ctx, service("victim", target), "--no-wait"); err != nil {
		return 0, err
	}
	at, err := r.hit(ctx, target, point)
	if err != nil {
		return 0, err
	}
	if err := r.runs(ctx, "victim", target, 1); err != nil {
		return 0, err
	}
	took := time.Since(at)
	return took, r.remove(ctx, "victim")
}

func (r *rig) killAtRemoval(ctx context.Context, point failpoint.Name) (time.Duration, error) {
	if _, err := r.Apply(ctx, service("victim", target)); err != nil {
		return 0, err
	}
	if err := r.arm(ctx, target, point, "kill"); err != nil {
		return 0, err
	}
	if _, err := r.Gear(ctx, "delete", "service", "victim", "-p", story.Project, "--confirm", "victim"); err != nil {
		return 0, err
	}
	at, err := r.hit(ctx, target, point)
	if err != nil {
		return 0, err
	}
	err = story.Until(ctx, story.Patience, func() error { return r.clean(ctx, target) })
	took := time.Since(at)
	return took, errors.Join(err, r.remove(ctx, "victim"))
}

// clean tells whether nothing of the service victim is on a host, and nothing else that is no pod's.
func (r *rig) clean(ctx context.Context, host string) error {
	s, err := r.lookAt(ctx, host)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(s.containers, func(c container) bool { return c.service == "victim" }); i >= 0 {
		return fmt.Errorf("%s still has the container %s", host, s.containers[i].id)
	}
	return view{host: s}.residue()
}

// killEngine is F7: dockerd dies five times in a minute, past the three that systemd starts it again for, then containerd does.
func killEngine(ctx context.Context, r *rig) ([]figures.Row, error) {
	before, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	var back []time.Duration
	for range 5 {
		took, err := r.killUnit(ctx, "docker.service")
		if err != nil {
			return nil, err
		}
		back = append(back, took)
	}
	within := time.Since(start)
	limits, err := r.sh(ctx, target, `journalctl -b -u docker.service -o cat --since=-5min | grep -ci 'start request repeated too quickly' || true`)
	if err != nil {
		return nil, err
	}
	containerd, err := r.killUnit(ctx, "containerd.service")
	if err != nil {
		return nil, err
	}
	restarts, err := r.changed(ctx, "F7", before)
	if err != nil {
		return nil, err
	}
	return []figures.Row{
		figures.Row{ID: "F7", What: fmt.Sprintf("dockerd killed 5 times in %.0f s (start limit hit %s times): hosts with a changed container", within.Seconds(), strings.TrimSpace(limits)),
			Value: restarts, Unit: "hosts"}.WithGoal("0 hosts", restarts == 0),
		figures.Times("F7.back", "dockerd answers again after a kill, slowest of five", back).Slowest().AtMost(30000),
		figures.Times("F7.containerd", "containerd killed → dockerd answers and containerd runs", []time.Duration{containerd}).AtMost(30000),
	}, nil
}

// killUnit kills a unit's main process and waits until it is up again and dockerd answers.
func (r *rig) killUnit(ctx context.Context, unit string) (time.Duration, error) {
	start := time.Now()
	pid, err := r.sh(ctx, target, `p=$(systemctl show -P MainPID "$1"); kill -9 $p; echo $p`, unit)
	if err != nil {
		return 0, err
	}
	err = story.Until(ctx, story.Patience, func() error {
		_, err := r.sh(ctx, target, `p=$(systemctl show -P MainPID "$1"); [ "$p" != 0 ] && [ "$p" != "$2" ] && systemctl is-active -q "$1" && timeout 2 docker version >/dev/null`, unit, strings.TrimSpace(pid))
		return err
	})
	return time.Since(start), err
}

// killSupervisors is F8: every gear-run of a host dies, three times over.
func killSupervisors(ctx context.Context, r *rig) ([]figures.Row, error) {
	before, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	var copies int
	var back []time.Duration
	for range 3 {
		start := time.Now()
		killed, err := r.sh(ctx, target, `for u in $(systemctl list-units --state=active --plain --no-legend 'gear-guestbook-*.service' | awk '{print $1}' | grep -v -e -net.service); do
			p=$(systemctl show -P MainPID $u); kill -9 $p; echo $u $p; done`)
		if err != nil {
			return nil, err
		}
		err = story.Until(ctx, story.Patience, func() error {
			now, err := r.look(ctx)
			if err != nil {
				return err
			}
			copies = max(copies, len(now[target].containers)-len(before[target].containers))
			return r.supervised(ctx, killed)
		})
		if err != nil {
			return nil, err
		}
		back = append(back, time.Since(start))
	}
	return []figures.Row{
		figures.Row{ID: "F8", What: "every gear-run of a host killed, three times: second copies of a container", Value: float64(copies), Unit: "copies"}.WithGoal("0 copies", copies == 0),
		figures.Times("F8.back", "until all containers are adopted again, slowest", back).Slowest(),
	}, nil
}

// supervised tells whether each unit is active again with another main process.
func (r *rig) supervised(ctx context.Context, killed string) error {
	for line := range strings.Lines(killed) {
		f := strings.Fields(line)
		out, err := r.sh(ctx, target, `systemctl show -P ActiveState -P MainPID "$1"`, f[0])
		if err != nil {
			return err
		}
		if now := strings.Fields(out); len(now) != 2 || !slices.Contains(now, "active") || slices.Contains(now, f[1]) || slices.Contains(now, "0") {
			return fmt.Errorf("%s is %q", f[0], now)
		}
	}
	return nil
}

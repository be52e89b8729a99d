package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
	"gearmesh.dev/internal/failpoint"
)

// loseThePower is F1.
func loseThePower(ctx context.Context, r *rig) ([]figures.Row, error) {
	rows, err := cutPower(ctx, r)
	if err != nil {
		return rows, err
	}
	more, err := cutAll(ctx, r)
	return append(rows, more...), err
}

// cutPower is the part of F1 with one host: at each point of a start the power goes, and with it all that was not synced.
func cutPower(ctx context.Context, r *rig) ([]figures.Row, error) {
	r.mayChange[target] = true
	var restored []time.Duration
	broken := 0
	for _, point := range r.cuts {
		took, bad, err := r.cutAt(ctx, point)
		if err != nil {
			return nil, fmt.Errorf("at %s: %w", point, err)
		}
		r.say("F1 power cut at %-20s restored %5.2f s after dockerd; empty or masked units: %d", point, took.Seconds(), bad)
		restored, broken = append(restored, took), broken+bad
	}
	return []figures.Row{
		figures.Times("F1", fmt.Sprintf("power cut with loss of unsynced data at each of %d points → restored after dockerd is up, slowest", len(restored)), restored).
			Slowest().AtMost(15000),
		figures.Row{ID: "F1.units", What: "of it, units that were empty or masked once the host had booted", Value: float64(broken), Unit: "units"}.WithGoal("0 units", broken == 0),
	}, nil
}

func (r *rig) cutAt(ctx context.Context, point failpoint.Name) (took time.Duration, bad int, err error) {
	if err := r.arm(ctx, target, point, "sleep 5m"); err != nil {
		return 0, 0, err
	}
	if _, err := r.Apply(ctx, service("victim", target), "--no-wait"); err != nil {
		return 0, 0, err
	}
	if _, err := r.hit(ctx, target, point); err != nil {
		return 0, 0, err
	}
	if err := r.Lab.PowerCut(ctx, target); err != nil {
		return 0, 0, err
	}
	if err := r.Lab.Boot(ctx, target); err != nil {
		return 0, 0, err
	}
	if bad, err = r.badUnits(ctx); err != nil {
		return 0, 0, err
	}
	err = story.Until(ctx, story.Patience, func() error {
		for _, svc := range []string{"victim", "ticker", "db"} {
			if err := r.up(ctx, svc, target, 1); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, bad, err
	}
	if took, err = r.sinceDocker(ctx); err != nil {
		return 0, bad, err
	}
	return took, bad, r.remove(ctx, "victim")
}

// badUnits counts units of ours that a power cut has made useless.
func (r *rig) badUnits(ctx context.Context) (int, error) {
	out, err := r.sh(ctx, target, `find /etc/systemd/system -name 'gear*' -type f -size 0 | wc -l; systemctl list-units --all --plain --no-legend 'gear*' | awk '$2 == "masked"' | wc -l`)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, f := range strings.Fields(out) {
		i, err := strconv.Atoi(f)
		if err != nil {
			return 0, err
		}
		n += i
	}
	return n, nil
}

// sinceDocker gives the time since dockerd came up, by the target's clock since its machine's boot.
func (r *rig) sinceDocker(ctx context.Context) (time.Duration, error) {
	out, err := r.sh(ctx, target, `systemctl show -P ActiveEnterTimestampMonotonic docker.service; cut -d' ' -f1 /proc/uptime`)
	if err != nil {
		return 0, err
	}
	var micros int64
	var uptime float64
	if _, err := fmt.Sscan(out, &micros, &uptime); err != nil {
		return 0, fmt.Errorf("asking when dockerd came up: %q: %w", out, err)
	}
	return time.Duration(uptime*1e9) - time.Duration(micros)*time.Microsecond, nil
}

// rebootAlone is F4, the part of a host: all masters are down, and a host reboots meanwhile.
func rebootAlone(ctx context.Context, r *rig) ([]figures.Row, error) {
	r.mayChange[target] = true
	before, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := r.sh(ctx, "h1", `systemctl kill --signal=KILL gear-master.service; systemctl stop gear-master.service`); err != nil {
		return nil, err
	}
	rows, err := r.aloneWithoutMaster(ctx, before)
	if _, startErr := r.sh(ctx, "h1", `systemctl start gear-master.service`); err == nil {
		err = startErr
	}
	return rows, err
}

func (r *rig) aloneWithoutMaster(ctx context.Context, before view) ([]figures.Row, error) {
	if err := r.Lab.PowerOff(ctx, target); err != nil {
		return nil, err
	}
	start := time.Now()
	if err := r.Lab.Boot(ctx, target); err != nil {
		return nil, err
	}
	booted := time.Since(start)
	// The database is on the target: the guestbook counts again only when it serves, through links of other hosts.
	if err := story.Until(ctx, story.Patience, func() error { _, _, err := r.Visit(ctx, "h1"); return err }); err != nil {
		return nil, err
	}
	serving := time.Since(start)
	restarts, err := r.changed(ctx, "F4", before)
	if err != nil {
		return nil, err
	}
	return []figures.Row{
		figures.Times("F4", fmt.Sprintf("no master, a host reboots (userspace took %.1f s) → it serves again", booted.Seconds()), []time.Duration{serving}).AtMost(15000),
		figures.Row{ID: "F4.elsewhere", What: "of it, other hosts with a container that changed", Value: restarts, Unit: "hosts"}.WithGoal("0 hosts", restarts == 0),
	}, nil
}

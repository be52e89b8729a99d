package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
)

// neighbour is something that happens to a part of the host that is not ours.
type neighbour struct {
	id, what, script string
}

func neighbours() []neighbour {
	const journal = "systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket"
	return []neighbour{
		{"journald.restart", "journald restarted", "systemctl restart systemd-journald.service"},
		{"journald.stop", "journald stopped for 2 s", "systemctl stop " + journal + "; sleep 2; systemctl start systemd-journald.service"},
		{"journald.kill", "journald killed", "systemctl kill -s KILL systemd-journald.service"},
		{"reexec", "systemctl daemon-reexec", "systemctl daemon-reexec"},
		{"dbus", "dbus restarted", "systemctl restart dbus.service"},
	}
}

// restartNeighbours is F21: containers run on and keep logging, rules come back.
func restartNeighbours(ctx context.Context, r *rig) ([]figures.Row, error) {
	var rows []figures.Row
	began, err := r.lastTick(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range neighbours() {
		if _, err := r.sh(ctx, target, n.script); err != nil {
			return rows, err
		}
		start := time.Now()
		if err := r.keepsLogging(ctx); err != nil {
			return rows, fmt.Errorf("after %s: %w", n.what, err)
		}
		rows = append(rows, figures.Times("F21."+n.id, n.what+" → output is in the journal", []time.Duration{time.Since(start)}).AtMost(5000))
		if err := r.deployable(ctx); err != nil {
			return rows, fmt.Errorf("after %s: %w", n.what, err)
		}
	}
	lost, err := r.lostTicks(ctx, began)
	if err != nil {
		return rows, err
	}
	rows = append(rows, figures.Row{ID: "F21.lost", What: "of it, lines of output that are not in the journal", Value: float64(lost), Unit: "lines"})
	more, err := rulesBack(ctx, r)
	return append(rows, more...), err
}

// lastTick gives the greatest number that the ticker has in the journal.
func (r *rig) lastTick(ctx context.Context) (int, error) {
	out, err := r.sh(ctx, target, `journalctl -q -o cat -n 50 GEAR_SERVICE=ticker | sed -n 's/^tick //p' | sort -n | tail -1`)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(out))
}

// keepsLogging waits until lines that were written from now on are in the journal.
func (r *rig) keepsLogging(ctx context.Context) error {
	first := -1
	return story.Until(ctx, 30*time.Second, func() error {
		n, err := r.lastTick(ctx)
		if err != nil {
			return err
		}
		if first < 0 {
			first = n
		}
		if n < first+5 {
			return fmt.Errorf("the journal has %d more lines of the ticker", n-first)
		}
		return nil
	})
}

// lostTicks counts the lines since one that are not in the journal.
func (r *rig) lostTicks(ctx context.Context, since int) (int, error) {
	out, err := r.sh(ctx, target, `journalctl -q -o cat -n 3000 GEAR_SERVICE=ticker | sed -n 's/^tick //p' | sort -nu | awk -v s="$1" '$1 >= s { n++; if ($1 > m) m = $1 } END { print m - s + 1 - n }'`,
		strconv.Itoa(since))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(out))
}

// deployable sees that the agent can still work: a service starts on the target and goes again.
func (r *rig) deployable(ctx context.Context) error {
	if _, err := r.Apply(ctx, service("victim", target)); err != nil {
		return err
	}
	if err := r.runs(ctx, "victim", target, 1); err != nil {
		return err
	}
	return r.remove(ctx, "victim")
}

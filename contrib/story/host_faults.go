package story

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// podUnits gives the container units of a host that are active, each with its main process.
const podUnits = `for u in $(systemctl list-units --state=active --plain --no-legend 'gear-guestbook-*.service' | awk '{print $1}' | grep -v -e -net.service); do
	echo $u $(systemctl show -P MainPID $u); done`

func supervisorsKilled(ctx context.Context, w *World) error {
	const host = "h1"
	if err := w.atRest(ctx, host); err != nil {
		return err
	}
	before, err := w.containers(ctx, host)
	if err != nil {
		return err
	}
	killed, err := w.Exec(ctx, host, "sh", "-c", podUnits)
	if err != nil {
		return err
	}
	if before == "" || killed == "" {
		return errors.New("nothing runs on " + host)
	}
	for line := range strings.Lines(killed) {
		if _, err := w.Exec(ctx, host, "kill", "-9", strings.Fields(line)[1]); err != nil {
			return err
		}
	}
	if err := Until(ctx, Patience, func() error { return w.supervisedAnew(ctx, host, killed) }); err != nil {
		return err
	}
	after, err := w.containers(ctx, host)
	if err != nil || after != before {
		return fmt.Errorf("containers changed from\n%s to\n%s: %w", before, after, err)
	}
	return w.Count(ctx, 4, "h1", "h2")
}

// supervisedAnew tells whether the same units are active again, each with another main process.
func (w *World) supervisedAnew(ctx context.Context, host, killed string) error {
	now, err := w.Exec(ctx, host, "sh", "-c", podUnits)
	if err != nil {
		return err
	}
	if strings.Count(now, "\n") != strings.Count(killed, "\n") {
		return fmt.Errorf("the active units were\n%s and are\n%s", killed, now)
	}
	for line := range strings.Lines(killed) {
		if strings.Contains(now, strings.TrimSpace(line)+"\n") {
			return fmt.Errorf("this unit has its old main process: %s", line)
		}
	}
	return nil
}

func rulesFlushed(ctx context.Context, w *World) error {
	const rules = `for t in raw mangle nat filter; do iptables-save -t $t | grep GEAR- | grep -v '^:' | sed "s/^/$t /"; done | sort`
	if err := w.atRest(ctx, "h2"); err != nil {
		return err
	}
	want, err := w.Exec(ctx, "h2", "sh", "-c", rules)
	if err != nil {
		return err
	}
	if _, err := w.Exec(ctx, "h2", "sh", "-c", `for t in nat filter mangle raw; do iptables -t $t -F; done`); err != nil {
		return err
	}
	start := time.Now()
	err = Until(ctx, Patience, func() error {
		have, err := w.Exec(ctx, "h2", "sh", "-c", rules)
		if err == nil && have != want {
			err = fmt.Errorf("the rules are\n%s and were\n%s", have, want)
		}
		return err
	})
	if err != nil {
		return err
	}
	w.Say("back after %.1f s", time.Since(start).Seconds())
	if err := w.settle(ctx, "h1", "h2"); err != nil { // a router may have found pods of h2 silent meanwhile, and looks again
		return err
	}
	return w.Count(ctx, 4, "h1", "h2")
}

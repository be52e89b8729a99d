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

// inFlight is how many services of the churn are there at a time.
const inFlight = 5

// churn is F10: services are created and deleted as quickly as the command line can, most of them before they run.
func churn(ctx context.Context, r *rig) ([]figures.Row, error) {
	storeBefore, err := r.storeKiB(ctx)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	for i := range r.scale + inFlight {
		if i < r.scale {
			if _, err := r.Apply(ctx, service(churned(i), target), "--no-wait"); err != nil {
				return nil, err
			}
		}
		if i >= inFlight {
			if _, err := r.Gear(ctx, "delete", "service", churned(i-inFlight), "-p", story.Project, "--confirm", churned(i-inFlight)); err != nil {
				return nil, err
			}
		}
	}
	submitted := time.Since(start)
	end := time.Now()
	err = story.Until(ctx, 2*time.Minute, func() error { return r.churnGone(ctx) })
	if err != nil {
		return nil, err
	}
	rest := time.Since(end)
	storeAfter, err := r.storeKiB(ctx)
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("%d services created and deleted in %.0f s", r.scale, submitted.Seconds())
	grown := storeAfter - storeBefore
	return []figures.Row{
		figures.Times("F10", what+": the last deletion → nothing left on the host", []time.Duration{rest}).AtMost(10000),
		figures.Row{ID: "F10.store", What: "of it, growth of the store on disk", Value: float64(grown), Unit: "KiB"}.WithGoal("≤ 65536 KiB", grown <= 64<<10),
	}, nil
}

func churned(i int) string { return fmt.Sprintf("churn%d", i) }

// churnGone tells whether nothing of the churn is on the target, and the target has nothing that is no pod's.
func (r *rig) churnGone(ctx context.Context) error {
	out, err := r.sh(ctx, target, `ls /etc/systemd/system /etc/systemd/system/gear.target.wants | grep -c guestbook-churn || true
		docker ps -aq -f name=churn | wc -l
		systemctl list-units --all --plain --no-legend '*churn*' | wc -l`)
	if err != nil {
		return err
	}
	if f := strings.Fields(out); len(f) != 3 || f[0]+f[1]+f[2] != "000" {
		return fmt.Errorf("unit files, containers and units of the churn: %q", f)
	}
	return r.clean(ctx, target)
}

// storeKiB gives the size of the master's store on disk.
func (r *rig) storeKiB(ctx context.Context) (int, error) {
	out, err := r.sh(ctx, "h1", `du -sk /var/lib/gear/master | cut -f1`)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(out))
}

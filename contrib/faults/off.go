package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
)

// deleteWhileOff is F11: a service is deleted while its host has no power.
func deleteWhileOff(ctx context.Context, r *rig) ([]figures.Row, error) {
	r.mayChange[target] = true
	if _, err := r.Apply(ctx, service("victim", target)); err != nil {
		return nil, err
	}
	if err := r.Lab.PowerOff(ctx, target); err != nil {
		return nil, err
	}
	if _, err := r.Gear(ctx, "delete", "service", "victim", "-p", story.Project, "--confirm", "victim"); err != nil {
		return nil, err
	}
	if err := r.Lab.Boot(ctx, target); err != nil {
		return nil, err
	}
	up := time.Now()
	err := story.Until(ctx, time.Minute, func() error { return r.clean(ctx, target) })
	row := figures.Times("F11", "service deleted while its host is off; host booted → nothing of it runs or is left", []time.Duration{time.Since(up)}).AtMost(5000)
	answer, askErr := r.Dig(ctx, "h1", "victim.guestbook.gear.internal", "A")
	if strings.TrimSpace(answer) != "" {
		err = errors.Join(err, fmt.Errorf("its name still answers %q", answer))
	}
	return []figures.Row{row}, errors.Join(err, askErr, r.remove(ctx, "victim"))
}

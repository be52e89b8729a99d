package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
)

// changeLeader is F6.leader: masters that lead are killed and stay down, or stand still, while a singleton runs by its lease. A change of
// the leader must not end it.
func changeLeader(ctx context.Context, r *rig) ([]figures.Row, error) {
	if _, err := r.Apply(ctx, single); err != nil {
		return nil, err
	}
	on, _, err := r.singleRuns(ctx)
	if err != nil {
		return nil, err
	}
	before, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	ended := 0.0
	for i, how := range []string{"KILL", "STOP", "KILL", "STOP"} {
		change, err := r.otherLeader(ctx, how)
		if err != nil {
			return nil, fmt.Errorf("leader gets SIG%s: %w", how, err)
		}
		r.say("F6.leader %d: SIG%s, all hosts hear another one %.1f s later", i+1, how, change.Seconds())
		took = append(took, change)
		one, err := r.changed(ctx, "F6.leader", before)
		if err != nil {
			return nil, err
		}
		ended += one
	}
	return []figures.Row{
		figures.Row{ID: "F6.leader", What: fmt.Sprintf("leader killed or standing still, %d times, with a singleton on %s: changes after which a container was not what it was", len(took), on),
			Value: ended, Unit: "changes"}.WithGoal("0 changes", ended == 0),
		figures.Times("F6.leader.time", "of it, until all hosts hear another leader, slowest; a lease is for "+api.SingletonLease.String(), took).Slowest(),
	}, r.remove(ctx, "single")
}

// otherLeader takes the leader away until all hosts have heard another one, and for longer than a lease and a stop after it, and
// gives it back.
func (r *rig) otherLeader(ctx context.Context, how string) (took time.Duration, err error) {
	leader, err := r.Leader(ctx)
	if err != nil {
		return 0, err
	}
	was, err := r.terms(ctx)
	if err != nil {
		return 0, err
	}
	away, back := `systemctl kill --signal=STOP gear-master.service`, `systemctl kill --signal=CONT gear-master.service`
	if how == "KILL" {
		away, back = `systemctl kill --signal=KILL gear-master.service; systemctl stop gear-master.service`, `systemctl start gear-master.service`
	}
	start := time.Now()
	if _, err := r.sh(ctx, leader, away); err != nil {
		return 0, err
	}
	defer func() {
		_, undo := r.sh(ctx, leader, back)
		err = errors.Join(err, undo, r.allMastersReady(ctx))
	}()
	err = story.Until(ctx, 30*time.Second, func() error {
		now, err := r.terms(ctx)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(hosts(), func(h string) bool { return now[h] <= was[h] }); i >= 0 {
			return fmt.Errorf("%s has heard no other leader", hosts()[i])
		}
		return nil
	})
	took = time.Since(start)
	time.Sleep(api.SingletonLease + api.SingletonStop)
	return took, err
}

// allMastersReady waits until every host's master says that it is ready: the next one may go then.
func (r *rig) allMastersReady(ctx context.Context) error {
	return story.Until(ctx, time.Minute, func() error {
		for _, h := range hosts() {
			if _, err := r.sh(ctx, h, `[ "$(curl -sk -m 3 https://127.0.0.1:7443/readyz)" = ok ]`); err != nil {
				return fmt.Errorf("the master of %s is not ready: %w", h, err)
			}
		}
		return nil
	})
}

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
	"gearmesh.dev/internal/failpoint"
)

// killMaster is F3: the master gets SIGKILL at each of its points between a write and its answer, and the assignment
// of the pod. What is asked for again has one effect.
func killMaster(ctx context.Context, r *rig) ([]figures.Row, error) {
	leader, err := r.Leader(ctx)
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	copies := 0
	for _, point := range failpoint.Master() {
		if err := r.arm(ctx, leader, point, "kill"); err != nil {
			return nil, err
		}
		_, first := r.Apply(ctx, service("victim", target), "--no-wait") // may have had no answer
		back, err := r.hit(ctx, leader, point)
		if err != nil {
			return nil, err
		}
		if err := r.leads(ctx); err != nil {
			return nil, err
		}
		lead := time.Now()
		if _, err := r.Apply(ctx, service("victim", target), "--no-wait"); err != nil {
			return nil, fmt.Errorf("applying again after %s: %w", point, err)
		}
		if err := r.runs(ctx, "victim", target, 1); err != nil {
			return nil, err
		}
		took = append(took, time.Since(lead))
		time.Sleep(2 * time.Second) // a second effect would show by now
		n, err := r.running(ctx, "victim", target)
		if err != nil {
			return nil, err
		}
		copies = max(copies, n)
		r.say("F3 killed at %-16s first answer %v; leader after %.1f s, running %.1f s later, %d copies", point, first, lead.Sub(back).Seconds(), took[len(took)-1].Seconds(), n)
		if err := r.remove(ctx, "victim"); err != nil {
			return nil, err
		}
	}
	return []figures.Row{
		figures.Times("F3", "master killed at each of its 3 points; a leader is back → running, slowest", took).Slowest().AtMost(5000),
		figures.Row{ID: "F3.effect", What: "asked for again after each kill: containers", Value: float64(copies), Unit: "copies"}.WithGoal("1 copy", copies == 1),
	}, nil
}

// leads waits until a master leads and says that it is ready.
func (r *rig) leads(ctx context.Context) error {
	return story.Until(ctx, 30*time.Second, func() error {
		leader, err := r.Leader(ctx)
		if err != nil {
			return err
		}
		_, err = r.sh(ctx, leader, `systemctl is-active -q gear-master && [ "$(curl -sk -m 3 https://127.0.0.1:7443/readyz)" = ok ]`)
		return err
	})
}

// onThree tells whether a fault is for three masters.
func onThree(id string) bool {
	return slices.Contains([]string{"F6.leader", "F9", "F12", "F13", "HIST"}, id)
}

// grow makes every host a master, once. What is at rest is another thing from then on.
func (r *rig) grow(ctx context.Context) error {
	var list api.MasterList
	if err := r.JSON(ctx, &list, "master", "list"); err != nil {
		return err
	}
	if len(list.Items) == len(hosts()) {
		return nil
	}
	r.first = nil
	if err := story.GrowMasters(ctx, r.World); err != nil {
		return err
	}
	time.Sleep(5 * time.Second) // what they take when they have just started is not what they take at rest
	return nil
}

// signalMaster sends a signal to a host's master.
func (r *rig) signalMaster(ctx context.Context, host, signal string) error {
	_, err := r.sh(ctx, host, `systemctl kill --signal="$1" gear-master.service`, signal)
	return err
}

// loseQuorum is F12: two of three masters stand still, so that nobody hears that they are gone.
func loseQuorum(ctx context.Context, r *rig) (rows []figures.Row, err error) {
	leader, err := r.Leader(ctx)
	if err != nil {
		return nil, err
	}
	others := []string{}
	for _, h := range hosts() {
		if h != leader {
			others = append(others, h)
		}
	}
	stopped := []string{leader, others[0]}
	defer func() {
		for _, h := range stopped {
			err = errors.Join(err, r.signalMaster(ctx, h, "CONT"))
		}
		err = errors.Join(err, r.leads(ctx))
	}()
	for _, h := range stopped {
		if err := r.signalMaster(ctx, h, "STOP"); err != nil {
			return nil, err
		}
	}
	var writes []time.Duration
	wrong := 0
	for i := range 8 {
		status, took, err := r.Write(ctx, others[1], fmt.Sprintf("quorum%d", i))
		if err != nil {
			return nil, err
		}
		if status != "503" {
			wrong++
		}
		writes = append(writes, took)
	}
	misses := 0
	for range 20 {
		if _, _, err := r.Visit(ctx, "h1"); err != nil {
			misses++
		}
	}
	return []figures.Row{
		figures.Times("F12", "two of three masters stand still: a write to the third is refused, slowest of 8", writes).Slowest().AtMost(2100),
		figures.Row{ID: "F12.refused", What: "answers to these writes that were not 503", Value: float64(wrong), Unit: "answers"}.WithGoal("0 answers", wrong == 0),
		figures.Row{ID: "F12.visits", What: "meanwhile, of 20 visits of the guestbook failed", Value: float64(misses), Unit: "visits"}.WithGoal("0 visits", misses == 0),
	}, nil
}

// splitMasters is F13: the leader's store is cut off from the others' for 20 s; hosts and people reach all three.
func splitMasters(ctx context.Context, r *rig) (rows []figures.Row, err error) {
	old, err := r.Leader(ctx)
	if err != nil {
		return nil, err
	}
	before, err := r.terms(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.cutStore(ctx, old, true); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.cutStore(ctx, old, false), r.leads(ctx)) }()
	start := time.Now()
	acked := 0
	for i := 0; time.Since(start) < 20*time.Second; i++ {
		status, _, err := r.Write(ctx, old, fmt.Sprintf("split%d", i))
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(status, "2") {
			acked++
		}
	}
	var took time.Duration
	err = story.Until(ctx, 30*time.Second, func() error {
		now, err := r.terms(ctx)
		if err != nil {
			return err
		}
		for h, term := range now {
			if term <= before[h] {
				return fmt.Errorf("%s is at term %d, as before", h, term)
			}
		}
		took = time.Since(start)
		return nil
	})
	if err != nil {
		return nil, err
	}
	high, err := r.terms(ctx)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(r.cutStore(ctx, old, false), r.leads(ctx)); err != nil {
		return nil, err
	}
	time.Sleep(5 * time.Second) // the old leader is back: would a host take its word?
	after, err := r.terms(ctx)
	if err != nil {
		return nil, err
	}
	back := 0
	for h := range after {
		if after[h] < high[h] {
			back++
		}
	}
	return []figures.Row{
		figures.Row{ID: "F13", What: "writes that the cut-off leader acknowledged in 20 s", Value: float64(acked), Unit: "writes"}.WithGoal("0 writes", acked == 0),
		figures.Row{ID: "F13.terms", What: fmt.Sprintf("hosts at a higher term within %.0f s; hosts that went back to a lower one", took.Seconds()), Value: float64(back), Unit: "hosts"}.WithGoal("0 hosts", back == 0),
	}, nil
}

// cutStore cuts a master's store off from the others', or ends that.
func (r *rig) cutStore(ctx context.Context, host string, cut bool) error {
	verb := map[bool]string{true: "-I", false: "-D"}[cut]
	_, err := r.sh(ctx, host, `for c in INPUT OUTPUT; do for p in --dport --sport; do
		if [ "$1" = -I ] || iptables -w -C $c -p tcp $p 2380 -j DROP 2>/dev/null; then iptables -w "$1" $c -p tcp $p 2380 -j DROP; fi
	done; done`, verb)
	return err
}

// terms gives the highest term that each host has on its disk.
func (r *rig) terms(ctx context.Context) (map[string]int64, error) {
	out := map[string]int64{}
	for _, h := range hosts() {
		text, err := r.sh(ctx, h, `grep -o '"term": *[0-9]*' /var/lib/gear/agent/desired.json | head -1 | grep -o '[0-9]*$'`)
		if err != nil {
			return nil, err
		}
		if out[h], err = strconv.ParseInt(strings.TrimSpace(text), 10, 64); err != nil {
			return nil, fmt.Errorf("the term of %s: %w", h, err)
		}
	}
	return out, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
)

// lossy makes a host lose a part of what comes over the lab's network, and sound undoes it. The rule is found by its comment: ours go before
// others, so its place changes.
const (
	lossy = `iptables -w -t raw -I PREROUTING -i eth0 -m comment --comment faults-loss -m statistic --mode random --probability "$1" -j DROP`
	sound = `iptables-save -t raw | sed -n 's/^-A \(PREROUTING .*faults-loss.*\)/-D \1/p' | while read -r rule; do iptables -w -t raw $rule; done; ! iptables-save -t raw | grep -q faults-loss`
	drops = `iptables -w -t raw -nvxL PREROUTING | awk '/faults-loss/ {print $1}'`
)

// loseDatagrams is F17: loss, then a network that comes and goes.
func loseDatagrams(ctx context.Context, r *rig) ([]figures.Row, error) {
	var rows []figures.Row
	for _, percent := range []int{10, 30} {
		long := r.loss
		if percent > 10 {
			long = min(long, time.Minute) // the docs bound 10 % alone
			for _, h := range hosts() {
				r.mayChange[h] = true // a host that is not heard of for its lease is replaced
			}
		}
		row, err := r.bearLoss(ctx, percent, long)
		if err != nil {
			return rows, err
		}
		if rows = append(rows, row); percent == 10 {
			rows[0] = row.WithGoal("0 failures", row.Value == 0)
		}
	}
	more, err := r.flap(ctx)
	return append(rows, more...), err
}

// bearLoss counts how often a host, all of which are well, is taken for failed: by the master, or out of the names.
func (r *rig) bearLoss(ctx context.Context, percent int, long time.Duration) (row figures.Row, err error) {
	lost := 0
	defer func() {
		for _, h := range hosts() {
			_, undo := r.sh(ctx, h, sound)
			err = errors.Join(err, undo)
		}
	}()
	for _, h := range hosts() {
		if _, err := r.sh(ctx, h, lossy, fmt.Sprintf("0.%02d", percent)); err != nil {
			return row, err
		}
	}
	failures, down := 0, map[string]bool{}
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		for _, h := range hosts() {
			was := down[h]
			if down[h] = r.takenForFailed(ctx, h); down[h] && !was {
				failures++
				r.say("F17: %s is taken for failed at %d %% loss", h, percent)
			}
		}
	}
	for _, h := range hosts() {
		out, err := r.sh(ctx, h, drops)
		var n int
		if _, scanErr := fmt.Sscan(out, &n); err != nil || scanErr != nil || n == 0 {
			return row, errors.Join(fmt.Errorf("%s dropped %q: this shows nothing", h, out), err, scanErr)
		}
		lost += n
	}
	what := fmt.Sprintf("%d %% loss at each of %d hosts for %v, %d packets lost → hosts taken for failed", percent, len(hosts()), long, lost)
	return figures.Row{ID: fmt.Sprintf("F17.loss%d", percent), What: what, Value: float64(failures), Unit: "failures"}, nil
}

// takenForFailed asks the master, and the DNS server of h1 within h1, where nothing is lost on the way.
func (r *rig) takenForFailed(ctx context.Context, host string) bool {
	var h api.Host
	if err := r.JSON(ctx, &h, "get", "host", host); err == nil && h.Status.State != api.HostReady {
		return true
	}
	if host != target {
		return false
	}
	answer, err := r.Dig(ctx, "h1", "db.guestbook.gear.internal", "A") // db is on the target alone
	return err == nil && strings.TrimSpace(answer) == ""
}

// flaps is how often the target is cut off for five seconds, and there for five.
const flaps = 3

// flap cuts the target off again and again, and looks when its links are as before, and what has moved.
func (r *rig) flap(ctx context.Context) ([]figures.Row, error) {
	before, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	from, err := r.webHost(ctx)
	if err != nil {
		return nil, err
	}
	var healed []time.Duration
	for range flaps {
		if err := r.Lab.Partition(ctx, target); err != nil {
			return nil, err
		}
		time.Sleep(5 * time.Second)
		if err := r.Lab.Heal(ctx, target); err != nil {
			return nil, err
		}
		start := time.Now()
		err := story.Until(ctx, 30*time.Second, func() error { return r.answersFrom(ctx, from) })
		if err != nil {
			return nil, err
		}
		healed = append(healed, time.Since(start))
		time.Sleep(max(0, 5*time.Second-healed[len(healed)-1]))
	}
	after, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("%s cut off for 5 s, %d times 5 s apart", target, flaps)
	return []figures.Row{
		figures.Times("F17.heal", what+"; healed → a link to it leads there and is answered", healed).Slowest().AtMost(5000),
		figures.Amounts("F17.moves", what+" → containers that were made for it", "containers", []float64{float64(made(before, after))}).AtMost(1),
	}, nil
}

// answersFrom asks the database through the link of a web pod of a host, over a connection of its own.
func (r *rig) answersFrom(ctx context.Context, host string) error {
	_, err := r.sh(ctx, host, `uid=$(docker ps -q -f label=dev.gearmesh.service=web | head -1 | xargs docker inspect -f '{{index .Config.Labels "dev.gearmesh.uid"}}')
timeout 2 nsenter --net=/run/netns/gear-$uid bash -c 'exec 3<>/dev/tcp/127.0.0.1/6379 && echo PING >&3 && read -r answer <&3'`)
	return err
}

// made counts the containers of the second view that are not in the first.
func made(before, after view) int {
	old := map[string]bool{}
	for _, s := range before {
		for _, c := range s.containers {
			old[c.id] = true
		}
	}
	n := 0
	for _, s := range after {
		for _, c := range s.containers {
			if !old[c.id] {
				n++
			}
		}
	}
	return n
}

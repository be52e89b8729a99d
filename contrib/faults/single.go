package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
)

// single is a singleton that may run on two hosts, and does not end when it is asked to: it takes its whole grace.
const single = `
kind: Service
metadata: {name: single, project: guestbook}
spec:
  singleton: true
  containers:
    - image: ` + shellImage + `
      command: ["/bin/sh", "-c", "trap '' TERM; while true; do sleep 1; done # faults-singleton"]
  placement: {require: [{label: host, in: [h2, h3]}]}
`

// singleHosts are the hosts that the singleton may run on.
func singleHosts() []string { return []string{target, "h3"} }

// watchSingle notes every 50 ms whether the singleton's process lives on a host, by the clock that all hosts of a lab share.
// It asks the kernel, so that a container whose supervisor is dead counts too.
const watchSingle = `
systemctl stop faults-watch.service 2>/dev/null || true
rm -f /root/alive
systemd-run -q --unit=faults-watch --collect sh -c 'while true; do t=$(date +%s%N); grep -qs "faults-singl[e]ton" /proc/[0-9]*/cmdline && echo $t >>/root/alive; sleep 0.05; done'`

// harm is something that keeps a singleton's host from renewing its lease, and what ends it.
type harm struct {
	id, what string
	do, undo func(ctx context.Context, r *rig, host string) error
}

func script(text string) func(context.Context, *rig, string) error {
	return func(ctx context.Context, r *rig, host string) error { _, err := r.sh(ctx, host, text); return err }
}

func cut(ctx context.Context, r *rig, host string) error  { return r.Lab.Partition(ctx, host) }
func heal(ctx context.Context, r *rig, host string) error { return r.Lab.Heal(ctx, host) }

func both(a, b func(context.Context, *rig, string) error) func(context.Context, *rig, string) error {
	return func(ctx context.Context, r *rig, host string) error {
		return errors.Join(a(ctx, r, host), b(ctx, r, host))
	}
}

const (
	oneWay  = `iptables -I INPUT ! -i lo -j DROP`
	twoWays = `iptables -D INPUT ! -i lo -j DROP`
	loud    = `iptables -I INPUT ! -i lo -j REJECT; iptables -I OUTPUT ! -o lo -j REJECT`
	quiet   = `iptables -D INPUT ! -i lo -j REJECT; iptables -D OUTPUT ! -o lo -j REJECT`
	freeze  = `systemctl kill --signal=STOP gear-agent.service`
	thaw    = `systemctl kill --signal=CONT gear-agent.service`
	murder  = `systemctl kill --signal=KILL gear-agent.service; systemctl stop gear-agent.service` // systemd would start it again
	revive  = `systemctl start gear-agent.service`
)

// cutSingleton is F5.
func cutSingleton(ctx context.Context, r *rig) ([]figures.Row, error) {
	return r.harmSingleton(ctx, []harm{
		{"F5", "singleton's host cut off without a word", cut, heal},
		{"F5.loud", "the same, each packet refused", script(loud), script(quiet)},
		{"F5.oneway", "the same, it sends but hears nothing", script(oneWay), script(twoWays)},
	})
}

// stopSingletonsAgent is F6.
func stopSingletonsAgent(ctx context.Context, r *rig) ([]figures.Row, error) {
	return r.harmSingleton(ctx, []harm{
		{"F6", "agent of the singleton's host stopped (SIGSTOP)", script(freeze), script(thaw)},
		{"F6.cut", "the same, and its host cut off", both(script(freeze), cut), both(heal, script(thaw))},
		{"F6.kill", "agent killed (SIGKILL) and not started again", script(murder), script(revive)},
	})
}

func (r *rig) harmSingleton(ctx context.Context, harms []harm) (rows []figures.Row, err error) {
	for _, h := range singleHosts() {
		r.mayChange[h] = true
		if _, err := r.sh(ctx, h, watchSingle); err != nil {
			return nil, err
		}
	}
	if _, err := r.Apply(ctx, single); err != nil {
		return nil, err
	}
	for _, h := range harms {
		more, err := r.oneHarm(ctx, h)
		rows = append(rows, more...)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", h.what, err)
		}
	}
	for _, h := range singleHosts() {
		if _, err := r.sh(ctx, h, `systemctl stop faults-watch.service; rm -f /root/alive`); err != nil {
			return rows, err
		}
	}
	return rows, r.remove(ctx, "single")
}

// oneHarm does one harm to the host on which the singleton runs, undoes it when it runs on the other, and compares when it
// lived on each.
func (r *rig) oneHarm(ctx context.Context, h harm) ([]figures.Row, error) {
	on, other, err := r.whereSingle(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := h.do(ctx, r, on); err != nil {
		return nil, errors.Join(err, h.undo(ctx, r, on))
	}
	moved := story.Until(ctx, 45*time.Second, func() error { return r.livesSince(ctx, other, began) })
	time.Sleep(2 * time.Second) // what comes late on the old host would show
	if err := h.undo(ctx, r, on); err != nil || moved != nil {
		return nil, errors.Join(moved, err)
	}
	if err := r.settled(ctx, on); err != nil {
		return nil, err
	}
	last, err := r.alive(ctx, on)
	if err != nil {
		return nil, err
	}
	first, err := r.alive(ctx, other)
	if err != nil {
		return nil, err
	}
	twice := overlap(last, first, began)
	return []figures.Row{
		figures.Times(h.id, h.what+" → it runs on another host", []time.Duration{after(first, began).Sub(began)}).AtMost(25000),
		figures.Row{ID: h.id + ".overlap", What: fmt.Sprintf("of it, time in which both ran; it ended after %.1f s", last[len(last)-1].Sub(began).Seconds()),
			Value: float64(twice.Milliseconds()), Unit: "ms"}.WithGoal("0 ms", twice == 0),
	}, nil
}

// whereSingle waits until the singleton runs on one host and lives, and names that and the other one.
func (r *rig) whereSingle(ctx context.Context) (on, other string, err error) {
	if on, other, err = r.singleRuns(ctx); err != nil {
		return "", "", err
	}
	since := time.Now().Add(-2 * time.Second)
	return on, other, story.Until(ctx, 20*time.Second, func() error { return r.livesSince(ctx, on, since) })
}

// singleRuns waits until the singleton runs on one host, and names that and the other one.
func (r *rig) singleRuns(ctx context.Context) (on, other string, err error) {
	hosts := singleHosts()
	err = story.Until(ctx, time.Minute, func() error {
		for i, h := range hosts {
			if r.up(ctx, "single", h, 1) == nil && r.up(ctx, "single", hosts[1-i], 0) == nil {
				on, other = h, hosts[1-i]
				return nil
			}
		}
		return errors.New("the singleton runs on neither host")
	})
	return on, other, err
}

// settled waits until nothing of the singleton is left on a host that is back.
func (r *rig) settled(ctx context.Context, host string) error {
	return story.Until(ctx, time.Minute, func() error {
		_, err := r.sh(ctx, host, `! ls /etc/systemd/system/ | grep -q '^gear-guestbook-single-'`)
		return err
	})
}

func (r *rig) livesSince(ctx context.Context, host string, since time.Time) error {
	list, err := r.alive(ctx, host)
	if err != nil {
		return err
	}
	if after(list, since).IsZero() {
		return fmt.Errorf("the singleton does not live on %s", host)
	}
	return nil
}

// alive gives when the singleton was seen to live on a host.
func (r *rig) alive(ctx context.Context, host string) ([]time.Time, error) {
	out, err := r.sh(ctx, host, `cat /root/alive 2>/dev/null || true`)
	if err != nil {
		return nil, err
	}
	return readAlive(out)
}

func readAlive(text string) ([]time.Time, error) {
	var out []time.Time
	for _, f := range strings.Fields(text) {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("reading when the singleton lived: %w", err)
		}
		out = append(out, time.Unix(0, n))
	}
	return out, nil
}

// after gives the first time after another one, or zero.
func after(list []time.Time, t time.Time) time.Time {
	for _, x := range list {
		if x.After(t) {
			return x
		}
	}
	return time.Time{}
}

// overlap gives how long the old pod was still seen after the new one was first seen, since the harm began. Both ends are
// what was seen, so one look in common counts.
func overlap(old, next []time.Time, began time.Time) time.Duration {
	first, end := after(next, began), time.Time{}
	if len(old) > 0 {
		end = old[len(old)-1]
	}
	if first.IsZero() || end.Before(first) {
		return 0
	}
	return end.Sub(first) + time.Millisecond
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
)

// The services of P11: the stateless pods of one are on all hosts, and the other one links to it from h1.
const (
	powerService = "power"
	powerProbe   = "probe"
	powerAlias   = "power.bench.lab"
	powerHosts   = 5 // what the goal is for
	powerPods    = powerHosts
)

// linksLead waits until the links of the pods of a host lead to an address, or, with "out", until
// none does, and prints when that was.
const linksLead = `
	while :; do
		state=out
		for n in /run/netns/gear-*; do
			rules=$(nsenter --net=$n iptables-save -t nat)
			case $rules in *"$1:"*) state=in ;; esac
		done
		[ $state = $2 ] && break
		sleep 0.05
	done
	date +%s%N`

// routerKnows waits until the router sends requests to an address, or, with "out", until it does
// not, and prints when that was. In HAProxy's list of servers the fifth field is the address and
// the sixth the operational state, 0 is down (HAProxy's management guide, "show servers state").
const routerKnows = `
	while :; do
		list=$(echo "show servers state" | nc -NU /run/gear/haproxy.sock)
		state=$(echo "$list" | awk -v a="$1" '$5 == a && $6 != 0 { s = "in" } END { print s ? s : "out" }')
		[ $state = $2 ] && break
		sleep 0.05
	done
	date +%s%N`

// lost is how long things took after a host lost its power.
type lost struct {
	names, links, router time.Duration // until its endpoints were out of them
	elsewhere            time.Duration // until its pods were ready on other hosts
}

// measurePowerOff is P11. It makes more hosts when there are fewer than the goal is for.
func measurePowerOff(ctx context.Context, b *bench) ([]figures.Row, error) {
	if err := b.grow(ctx, powerHosts); err != nil {
		return nil, err
	}
	var all []lost
	for i := range min(b.runs, 3) {
		l, err := b.losePower(ctx)
		if err != nil {
			return nil, err
		}
		b.say("P11 run %d: %+v", i+1, l)
		all = append(all, l)
		if err := b.comeBack(ctx); err != nil {
			return nil, err
		}
	}
	column := func(field func(lost) time.Duration) []time.Duration {
		var out []time.Duration
		for _, l := range all {
			out = append(out, field(l))
		}
		return out
	}
	hosts := fmt.Sprintf("%d hosts", len(b.address))
	return []figures.Row{
		figures.Times("P11", "power-off → out of DNS, links and router; "+hosts, column(func(l lost) time.Duration { return max(l.names, l.links, l.router) })).AtMost(4000),
		figures.Times("P11.names", "of it, DNS of h1 and h3", column(func(l lost) time.Duration { return l.names })),
		figures.Times("P11.links", "of it, links on h1", column(func(l lost) time.Duration { return l.links })),
		figures.Times("P11.router", "of it, HAProxy of h1", column(func(l lost) time.Duration { return l.router })),
		figures.Times("P11.elsewhere", "power-off → its stateless pods ready elsewhere, slowest run", column(func(l lost) time.Duration { return l.elsewhere })).Slowest().AtMost(12000),
	}, nil
}

// powerServices gives the probe, then what it links to.
func powerServices() []*api.Service {
	s := service(powerService, powerPods, web())
	s.Spec.Ports = []api.Port{{Name: "http", Port: 8080}}
	s.Spec.Aliases = []api.Hostname{powerAlias}
	probe := service(powerProbe, 1, sleeper(), "h1")
	probe.Spec.Links = []api.Link{{Service: powerService, LocalPort: 8081}}
	return []*api.Service{probe, s}
}

// losePower spreads pods, pulls the target's plug, and watches from the other hosts.
func (b *bench) losePower(ctx context.Context) (lost, error) {
	var l lost
	for _, s := range powerServices() {
		if err := b.put(ctx, s); err != nil {
			return l, err
		}
	}
	if _, err := b.ready(ctx, powerService, powerPods); err != nil {
		return l, err
	}
	if _, err := b.ready(ctx, powerProbe, 1); err != nil {
		return l, err
	}
	if err := b.watchTarget(ctx, time.Now(), "in", &l); err != nil { // else there is nothing to lose
		return l, fmt.Errorf("before the power-off: %w", err)
	}
	if err := sleep(ctx, settle/4); err != nil {
		return l, err
	}
	start := time.Now()
	watched := make(chan error, 1)
	go func() { watched <- b.watchTarget(ctx, start, "out", &l) }()
	err := b.world.Lab.PowerOff(ctx, target)
	if err == nil {
		l.elsewhere, err = b.runsElsewhere(ctx, start)
	}
	return l, errors.Join(err, <-watched)
}

// watchTarget waits until DNS, links and router have the target's endpoints ("in") or have them no more ("out").
func (b *bench) watchTarget(ctx context.Context, start time.Time, state string, l *lost) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var errs [4]error
	var h1, h3 time.Duration
	var watching sync.WaitGroup
	watching.Go(func() { h1, errs[0] = b.names(ctx, start, "h1", state) })
	watching.Go(func() { h3, errs[1] = b.names(ctx, start, "h3", state) })
	watching.Go(func() { l.links, errs[2] = b.when(ctx, start, linksLead, state) })
	watching.Go(func() { l.router, errs[3] = b.when(ctx, start, routerKnows, state) })
	watching.Wait()
	l.names = max(h1, h3)
	return errors.Join(errs[:]...)
}

// names waits for the DNS answers of a host: the service's addresses, and as the target runs a
// router too, the alias's.
func (b *bench) names(ctx context.Context, start time.Time, host, state string) (time.Duration, error) {
	r, gone := resolver(b.address[host]), b.address[target]
	return until(ctx, start, pollNames, func(ctx context.Context) error {
		for _, name := range []string{powerService + "." + string(project) + "." + domain, powerAlias} {
			if err := lookUpOne(ctx, r, name, gone, state == "in"); err != nil {
				return err
			}
		}
		return nil
	})
}

// when runs one of the scripts above on h1.
func (b *bench) when(ctx context.Context, start time.Time, script, state string) (time.Duration, error) {
	out, err := b.sh(ctx, "h1", script, b.address[target].String(), state)
	if err != nil {
		return 0, err
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	return time.Unix(0, ns).Sub(start), err
}

// runsElsewhere waits until there are enough ready pods on hosts other than the target.
func (b *bench) runsElsewhere(ctx context.Context, start time.Time) (time.Duration, error) {
	err := story.Until(ctx, time.Minute, func() error {
		pods, err := b.pods(ctx, powerService)
		if err != nil {
			return err
		}
		ready := 0
		for _, p := range pods {
			if p.Spec.Host != target && p.Status.Ready {
				ready++
			}
		}
		if ready < powerPods {
			return fmt.Errorf("%d of %d pods are ready on other hosts", ready, powerPods)
		}
		return nil
	})
	return time.Since(start), err
}

// comeBack boots the target and clears up, so that the next run spreads its pods anew.
func (b *bench) comeBack(ctx context.Context) error {
	if err := b.world.Lab.Boot(ctx, target); err != nil {
		return err
	}
	err := story.Until(ctx, time.Minute, func() error {
		h, err := client.Get[api.Host](ctx, b.api, "", target)
		if err == nil && h.Status.State != api.HostReady {
			err = fmt.Errorf("host %s is %s: %s", target, h.Status.State, h.Status.Message)
		}
		return err
	})
	for _, s := range powerServices() {
		err = errors.Join(err, b.remove(ctx, s))
	}
	return err
}

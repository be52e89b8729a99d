package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/figures"
)

// How often it is asked whether something is there yet. This machine is a stranger to the hosts' DNS
// servers, which answer a network of strangers 100 times a second and drop the rest: two names each
// period stay below that.
const (
	poll      = 5 * time.Millisecond
	pollNames = 25 * time.Millisecond
)

// served is when the parts of a deployment were there, from the API call on.
type served struct {
	start  time.Duration // its process, as dockerd tells it
	router time.Duration // the first request answered with 200 through the router of h1
	name   time.Duration // the service's name, in the DNS server of h1
	alias  time.Duration // the alias's name, there too
}

// measureServe is P3: from the API call to the first request served by a new alias.
func measureServe(ctx context.Context, b *bench) ([]figures.Row, error) {
	check := web()
	check.Ready = &api.Check{HTTP: &api.HTTPCheck{Port: 8080, Path: "/healthz"}}
	var plain, checked []served
	for i := range b.runs + 1 {
		p, err := b.serveOne(ctx, fmt.Sprintf("serve-%d", i), web())
		if err != nil {
			return nil, err
		}
		c, err := b.serveOne(ctx, fmt.Sprintf("check-%d", i), check)
		if err != nil {
			return nil, err
		}
		b.say("P3 run %d: %+v; with a readiness check %+v", i, p, c)
		if i > 0 { // the first one warms caches
			plain, checked = append(plain, p), append(checked, c)
		}
	}
	return serveRows(plain, checked), nil
}

func serveRows(plain, checked []served) []figures.Row {
	column := func(of []served, field func(served) time.Duration) []time.Duration {
		var out []time.Duration
		for _, s := range of {
			out = append(out, field(s))
		}
		return out
	}
	start := func(s served) time.Duration { return s.start }
	router := func(s served) time.Duration { return s.router }
	after := figures.Times("P3.after", "of it, after the process was started", column(plain, func(s served) time.Duration { return s.router - s.start }))
	total := figures.Times("P3", "apply → first request served by a new alias through h1's router", column(plain, router))
	from := figures.Times("P3.start", "of it, until the process was started", column(plain, start))
	withCheck := figures.Times("P3.check", "the same with an HTTP readiness check", column(checked, router))
	return []figures.Row{
		total.Against("start of the process in the same runs", from.Value).WithGoal("≤ peer + 150 ms", after.Value <= 150),
		from, after,
		figures.Times("P3.name", "apply → the service's name answers in h1's DNS", column(plain, func(s served) time.Duration { return s.name })),
		figures.Times("P3.alias", "apply → the alias answers in h1's DNS", column(plain, func(s served) time.Duration { return s.alias })),
		withCheck.Against("start of the process in the same runs", figures.Times("", "", column(checked, start)).Value),
	}
}

// serveOne makes a service with an alias on the target, and watches from outside.
func (b *bench) serveOne(ctx context.Context, name string, c api.Container) (served, error) {
	s := service(name, 1, c, target)
	s.Spec.Ports = []api.Port{{Name: "http", Port: 8080}}
	alias := api.Hostname(name + ".bench.lab")
	s.Spec.Aliases = []api.Hostname{alias}
	web := visitor(b.address["h1"])
	defer web.CloseIdleConnections()
	names := resolver(b.address["h1"])
	var r served
	ask := []question{
		{&r.router, poll, func(ctx context.Context) error { return visit(ctx, web, string(alias)) }},
		{&r.name, pollNames, func(ctx context.Context) error { return lookUp(ctx, names, name+"."+string(project)+"."+domain) }},
		{&r.alias, pollNames, func(ctx context.Context) error { return lookUp(ctx, names, string(alias)) }},
	}
	took, err := b.startAsking(ctx, s, ask)
	if err != nil {
		return r, fmt.Errorf("service %s: %w", name, err)
	}
	r.start = took
	return r, b.remove(ctx, s)
}

// question is asked until its answer is right; took gets when that was.
type question struct {
	took  *time.Duration
	every time.Duration
	ask   func(context.Context) error
}

// startAsking puts a service with one pod and asks the questions from then on. The questions'
// clocks begin before the call, the pod's does too.
func (b *bench) startAsking(ctx context.Context, s *api.Service, questions []question) (time.Duration, error) {
	if _, err := b.api.Version(ctx); err != nil {
		return 0, err
	}
	begin := time.Now()
	errs := make([]error, len(questions))
	var asking sync.WaitGroup
	for i, q := range questions {
		asking.Go(func() { *q.took, errs[i] = until(ctx, begin, q.every, q.ask) })
	}
	err := b.put(ctx, s)
	asking.Wait()
	for _, e := range append(errs, err) {
		if e != nil {
			return 0, e
		}
	}
	pods, err := b.ready(ctx, string(s.Metadata.Name), 1)
	if err != nil {
		return 0, err
	}
	last, err := b.lastStart(ctx, pods)
	return last.Sub(begin), err
}

// until asks again and again until there is no error, and gives the time since begin. The
// answer that counts is the first good one, at the time when it was there.
func until(ctx context.Context, begin time.Time, every time.Duration, ask func(context.Context) error) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return time.Since(begin), nil
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("asking for a minute: %w", err)
		case <-tick.C:
		}
	}
}

// visitor asks the router at an address, with a connection of its own for each request.
func visitor(router netip.Addr) *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", netip.AddrPortFrom(router, 80).String())
	}
	return &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}
}

// visit asks for a page that needs no database.
func visit(ctx context.Context, c *http.Client, host string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/healthz", nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 4096)); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", host, resp.Status)
	}
	return nil
}

// resolver asks the DNS server of a host, and no other.
func resolver(server netip.Addr) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, netip.AddrPortFrom(server, 53).String())
	}}
}

// addresses asks for a name once. An answer that is lost shall cost less than the resolver's own 5 s.
func addresses(ctx context.Context, r *net.Resolver, name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	return r.LookupNetIP(ctx, "ip4", name+".")
}

// lookUp wants an address for a name.
func lookUp(ctx context.Context, r *net.Resolver, name string) error {
	addresses, err := addresses(ctx, r, name)
	if err == nil && len(addresses) == 0 {
		err = fmt.Errorf("%s has no address", name)
	}
	return err
}

// lookUpOne wants addresses for a name, and one of them there or not.
func lookUpOne(ctx context.Context, r *net.Resolver, name string, one netip.Addr, there bool) error {
	addresses, err := addresses(ctx, r, name)
	if err != nil {
		return err
	}
	if has := slices.Contains(addresses, one); has != there {
		return fmt.Errorf("%s answers %v", name, addresses)
	}
	return nil
}

package dnsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

// forwarder resolves names that are not ours at other servers. Equal questions that wait are
// asked once: that also ends a loop, should a server send our question back to us.
type forwarder struct {
	upstreams func() []netip.AddrPort
	split     []Route // the longest domain first
	log       *slog.Logger
	limits    Limits
	cache     cache
	flight    singleflight.Group
	work      *sync.WaitGroup // of goroutines

	mu      sync.Mutex
	waiting int
	askers  map[netip.Addr]int
	failed  map[netip.AddrPort]time.Time // when a server last gave no answer
}

func newForwarder(c Config, work *sync.WaitGroup) *forwarder {
	if c.Upstreams == nil {
		c.Upstreams = func() []netip.AddrPort { return nil }
	}
	split := slices.SortedStableFunc(slices.Values(c.Split), func(a, b Route) int { return len(b.Domain) - len(a.Domain) })
	return &forwarder{upstreams: c.Upstreams, split: split, log: c.Logger, limits: c.Limits, cache: cache{size: c.Limits.Cached},
		work: work, askers: map[netip.Addr]int{}, failed: map[netip.AddrPort]time.Time{}}
}

var (
	errNoUpstream = errors.New("there is no other DNS server to ask: the host's resolv.conf names none but this one")
	errOverload   = errors.New("too many questions wait for other DNS servers")
	errStale      = errors.New("other DNS servers give no answer, and the last one is too old")
)

// reserve takes a place among those that wait; release gives it back.
func (f *forwarder) reserve(asker netip.Addr) (release func(), ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting >= f.limits.Forwards || f.askers[asker] >= f.limits.AskerForwards {
		return nil, false
	}
	f.waiting++
	f.askers[asker]++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.waiting--
		if f.askers[asker]--; f.askers[asker] == 0 {
			delete(f.askers, asker)
		}
	}, true
}

// key gives the question as other servers are asked it.
func (w *worker) key() key {
	return key{name: string(w.name), qtype: w.qtype, dnssec: w.dnssec, unchecked: w.unchecked()}
}

// cached gives the answer to q when it is known, or known to be the best there is for now.
func (f *forwarder) cached(q *question, now time.Time) *answer {
	e, ok := f.cache.get(q.name, q.qtype, q.dnssec, q.unchecked())
	if ok && (now.Before(e.until) || now.Before(e.again)) {
		return e.answer
	}
	return nil
}

// staleWait is how long an asker waits for a fresh answer when there is an old one (RFC 8767, section 5).
const staleWait = 1800 * time.Millisecond

// ask gives the answer of other servers; when they give none in time, the last one that they gave.
func (f *forwarder) ask(ctx context.Context, k key) (*answer, error) {
	e, ok := f.cache.get([]byte(k.name), k.qtype, k.dnssec, k.unchecked)
	if !ok || e.answer.rcode == dns.RcodeServerFailure || time.Since(e.until) >= maxStale {
		return f.fetch(ctx, k)
	}
	fresh := make(chan *answer, 1)
	f.work.Go(func() {
		a, err := f.fetch(ctx, k)
		if err != nil {
			f.log.Debug("a name is not resolved, an old answer is given", "name", k.name, "error", err)
			a = nil
		}
		fresh <- a
	})
	select {
	case a := <-fresh:
		if a != nil {
			return a, nil
		}
	case <-time.After(staleWait):
	}
	if a := f.cache.stale(k, time.Now()); a != nil {
		return a, nil
	}
	return nil, errStale
}

// fetch asks other servers, once for all that wait for the same, and keeps what they say. That there is no
// answer is kept for a moment.
func (f *forwarder) fetch(ctx context.Context, k key) (*answer, error) {
	got, err, _ := f.flight.Do(k.String(), func() (any, error) {
		// Whoever comes a moment after the others have had their answer does not ask anew.
		if e, ok := f.cache.get([]byte(k.name), k.qtype, k.dnssec, k.unchecked); ok && time.Now().Before(e.until) && e.answer.rcode != dns.RcodeServerFailure {
			return e.answer, nil
		}
		m, err := f.resolve(ctx, k)
		now := time.Now()
		if err != nil {
			if f.cache.stale(k, now) == nil && ctx.Err() == nil {
				f.cache.put(k, failure(dns.RcodeServerFailure), failedKeep, now)
			}
			return nil, err
		}
		d := keep(m)
		a, err := adopt(k, m, now)
		if err == nil {
			f.cache.put(k, a, d, now)
		}
		return a, err
	})
	if err != nil {
		return nil, err
	}
	return got.(*answer), nil
}

// adopt makes another server's answer one to give.
func adopt(k key, m *dns.Msg, now time.Time) (*answer, error) {
	m.Extra = slices.DeleteFunc(m.Extra, func(r dns.RR) bool { return r.Header().Rrtype == dns.TypeOPT })
	m.Authoritative, m.AuthenticatedData = false, m.AuthenticatedData && k.dnssec
	m.Rcode &= 15
	a, err := pack(k.name, k.qtype, m)
	if err != nil {
		return nil, fmt.Errorf("writing the answer of another server again: %w", err)
	}
	a.since = now
	return a, nil
}

// servers gives those that are to be asked for a name.
func (f *forwarder) servers(name string) []netip.AddrPort {
	for _, r := range f.split {
		if r.covers(name) {
			return r.Servers
		}
	}
	return f.upstreams()
}

// forwardTries is how often other servers are asked for a name: a datagram may be lost.
const forwardTries = 4

// resolve asks one server after the other, those that answered lately first, and then from the first again.
func (f *forwarder) resolve(ctx context.Context, k key) (*dns.Msg, error) {
	servers := f.order(f.servers(k.name), time.Now())
	if len(servers) == 0 {
		return nil, errNoUpstream
	}
	var all []error
	for i := range forwardTries {
		s := servers[i%len(servers)]
		m, err := f.exchange(ctx, s, k)
		if err == nil {
			f.mark(s, time.Time{})
			return m, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		f.mark(s, time.Now())
		all = append(all, fmt.Errorf("asking %s: %w", s, err))
	}
	return nil, errors.Join(all...)
}

// exchange asks one server over UDP from a port of its own with a random id, so that an answer is hard
// to forge, and over TCP when the answer is cut.
func (f *forwarder) exchange(ctx context.Context, server netip.AddrPort, k key) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(k.name, k.qtype)
	m.CheckingDisabled = k.unchecked
	m.AuthenticatedData = k.dnssec
	m.SetEdns0(maxUDP, k.dnssec)
	for _, network := range []string{"udp", "tcp"} {
		client := dns.Client{Net: network, Timeout: f.limits.ForwardTime, UDPSize: maxUDP}
		got, _, err := client.ExchangeContext(ctx, m, server.String())
		if err != nil {
			return nil, err
		}
		if err := sameQuestion(m, got); err != nil {
			return nil, err
		}
		if !got.Truncated || network == "tcp" {
			return got, nil
		}
	}
	return nil, errors.New("the answer is cut, also over TCP")
}

// sameQuestion checks what the client of miekg/dns does not.
func sameQuestion(sent, got *dns.Msg) error {
	switch {
	case !got.Response || got.Id != sent.Id:
		return errors.New("the reply is not one to this question")
	case got.Rcode == dns.RcodeServerFailure || got.Rcode == dns.RcodeRefused || got.Rcode == dns.RcodeNotImplemented || got.Rcode == dns.RcodeFormatError:
		return fmt.Errorf("it answers %s", dns.RcodeToString[got.Rcode])
	case len(got.Question) != 1 || lower(got.Question[0].Name) != sent.Question[0].Name || got.Question[0].Qtype != sent.Question[0].Qtype:
		return errors.New("the reply is to another question")
	}
	return nil
}

// badFor is how long a server that gave no answer is asked last.
const badFor = 10 * time.Second

func (f *forwarder) order(servers []netip.AddrPort, now time.Time) []netip.AddrPort {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := slices.Clone(servers)
	slices.SortStableFunc(out, func(a, b netip.AddrPort) int {
		return f.badness(a, now) - f.badness(b, now)
	})
	return out
}

func (f *forwarder) badness(a netip.AddrPort, now time.Time) int {
	if at, ok := f.failed[a]; ok && now.Sub(at) < badFor {
		return 1
	}
	return 0
}

// mark notes a failure, or with no time a success.
func (f *forwarder) mark(a netip.AddrPort, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at.IsZero() || len(f.failed) > 64 {
		delete(f.failed, a)
		return
	}
	f.failed[a] = at
}

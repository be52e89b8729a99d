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
	log       *slog.Logger
	limits    Limits
	cache     cache
	flight    singleflight.Group

	mu      sync.Mutex
	waiting int
	askers  map[netip.Addr]int
	failed  map[netip.AddrPort]time.Time // when a server last gave no answer
}

func newForwarder(c Config) *forwarder {
	if c.Upstreams == nil {
		c.Upstreams = func() []netip.AddrPort { return nil }
	}
	return &forwarder{upstreams: c.Upstreams, log: c.Logger, limits: c.Limits, cache: cache{size: c.Limits.Cached},
		askers: map[netip.Addr]int{}, failed: map[netip.AddrPort]time.Time{}}
}

var (
	errNoUpstream = errors.New("there is no other DNS server to ask: the host's resolv.conf names none but this one")
	errOverload   = errors.New("too many questions wait for other DNS servers")
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

func (s *Server) overload(q *query) []byte {
	s.config.Logger.Debug("a name is not resolved", "asker", q.asker, "error", errOverload)
	m := q.reply(dns.RcodeServerFailure)
	m.RecursionAvailable = true
	return q.pack(m)
}

// cached gives the reply when the answer is known.
func (f *forwarder) cached(q *query) *dns.Msg {
	m := f.cache.get(q.key(), time.Now())
	if m == nil {
		return nil
	}
	return q.adopt(m)
}

// ask gives the reply from the cache or from other servers.
func (f *forwarder) ask(ctx context.Context, q *query) (*dns.Msg, error) {
	key := q.key()
	got, err, _ := f.flight.Do(key.String(), func() (any, error) {
		m, err := f.resolve(ctx, key)
		if err == nil {
			f.cache.put(key, m, time.Now())
		}
		return m, err
	})
	if err != nil {
		return nil, err
	}
	return q.adopt(got.(*dns.Msg).Copy()), nil
}

// adopt makes another server's answer the reply to q.
func (q *query) adopt(m *dns.Msg) *dns.Msg {
	out := q.reply(m.Rcode)
	out.RecursionAvailable, out.AuthenticatedData = true, m.AuthenticatedData && q.key().dnssec
	out.Answer, out.Ns = m.Answer, m.Ns
	extra := slices.DeleteFunc(m.Extra, func(r dns.RR) bool { return r.Header().Rrtype == dns.TypeOPT })
	out.Extra = append(extra, out.Extra...)
	return out
}

// resolve asks one server after the other, those that answered lately first.
func (f *forwarder) resolve(ctx context.Context, k key) (*dns.Msg, error) {
	servers := f.order(f.upstreams(), time.Now())
	if len(servers) == 0 {
		return nil, errNoUpstream
	}
	var all []error
	for _, s := range servers[:min(len(servers), 3)] {
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

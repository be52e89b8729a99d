package dnsd

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// flaky is a DNS server on loopback that fails while it is down, and counts. It says so at once: no test waits for silence, which on
// a slow machine cannot be told from a slow answer.
type flaky struct {
	at    netip.AddrPort
	down  atomic.Bool
	drop  atomic.Int32 // so many queries are lost first
	asked atomic.Int32
}

func newFlaky(t *testing.T, address string) *flaky {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{at: pc.LocalAddr().(*net.UDPAddr).AddrPort()}
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		f.asked.Add(1)
		if f.down.Load() {
			_ = w.WriteMsg(new(dns.Msg).SetRcode(m, dns.RcodeServerFailure))
			return
		}
		if f.drop.Add(-1) >= 0 {
			return
		}
		rr, err := dns.NewRR(m.Question[0].Name + " 100 IN A " + address)
		if err != nil {
			t.Error(err)
		}
		reply := new(dns.Msg).SetReply(m)
		reply.Answer = []dns.RR{rr}
		_ = w.WriteMsg(reply) // a lost one is asked again
	})}
	go func() { _ = s.ActivateAndServe() }() // ends with Shutdown
	t.Cleanup(func() { _ = s.Shutdown() })
	return f
}

func (f *flaky) forwarder(t *testing.T) *forwarder {
	limits := DefaultLimits()
	limits.ForwardTime = 2 * time.Second
	s, err := newServer(Config{Source: table(), Limits: limits, Logger: slog.New(slog.DiscardHandler), Upstreams: func() []netip.AddrPort { return []netip.AddrPort{f.at} }})
	if err != nil {
		t.Fatal(err)
	}
	s.forward.work = new(sync.WaitGroup)
	return s.forward
}

// first gives the address that an asker gets, and whether it is an old one.
func first(t *testing.T, a *answer, now time.Time) string {
	t.Helper()
	var q question
	var m dns.Msg
	q.read(ask("www.example."))
	if err := m.Unpack(q.write(nil, a, plainUDP, true, nil, now)); err != nil || len(m.Answer) != 1 {
		return fmt.Sprint(m.Rcode, err)
	}
	text := m.Answer[0].(*dns.A).A.String()
	if m.Answer[0].Header().Ttl == staleTTL {
		text += " stale"
	}
	return text
}

// When other servers are silent the last answer is given, for a day; the servers are asked again after a while.
func TestServeStale(t *testing.T) {
	up := newFlaky(t, "198.51.100.7")
	f, k := up.forwarder(t), key{name: "www.example.", qtype: dns.TypeA}
	a, err := f.ask(context.Background(), k)
	if err != nil || first(t, a, time.Now()) != "198.51.100.7" {
		t.Fatal(a, err)
	}
	age := func(d time.Duration) { // makes what is kept older, when nobody asks
		f.work.Wait()
		e := f.cache.kept[k]
		e.until, e.again = e.until.Add(-d), e.again.Add(-d)
		f.cache.kept[k] = e
	}
	age(time.Hour)
	up.down.Store(true)
	if a, err = f.ask(context.Background(), k); err != nil || first(t, a, time.Now()) != "198.51.100.7 stale" {
		t.Fatalf("no server answers: %v, %v", a, err)
	}
	var q question
	q.read(ask("www.example."))
	if a := f.cached(&q, time.Now()); a == nil || !a.stale {
		t.Error("it is asked for at once again")
	}
	if a := f.cached(&q, time.Now().Add(staleAgain+time.Second)); a != nil {
		t.Error("it is never asked for again")
	}
	up.down.Store(false)
	age(time.Minute)
	// The old answer is given once more when the new one takes more than staleWait, as on a machine that stalls.
	for range 10 {
		if a, err = f.ask(context.Background(), k); err == nil && !a.stale {
			break
		}
	}
	if err != nil || first(t, a, time.Now()) != "198.51.100.7" {
		t.Errorf("the server is back: %v, %v", a, err)
	}
	up.down.Store(true)
	age(maxStale + time.Hour)
	before := time.Now()
	if a, err = f.ask(context.Background(), k); err == nil {
		t.Errorf("an answer of yesterday is given: %v", a)
	}
	if a := f.cached(&q, before); a == nil || a.rcode != dns.RcodeServerFailure {
		t.Error("a failure is not kept for a moment")
	}
}

// A datagram that is lost is sent again, also to a server that is alone.
func TestLostDatagrams(t *testing.T) {
	up := newFlaky(t, "198.51.100.7")
	up.drop.Store(2)
	f := up.forwarder(t)
	if a, err := f.ask(context.Background(), key{name: "www.example.", qtype: dns.TypeA}); err != nil || first(t, a, time.Now()) != "198.51.100.7" {
		t.Error(a, err)
	}
	if n := up.asked.Load(); n < 3 {
		t.Errorf("asked %d times", n)
	}
}

// A domain's own servers alone are asked for it, those of the longest domain; our names never leave.
func TestSplit(t *testing.T) {
	world, corp, lab := newFlaky(t, "198.51.100.1"), newFlaky(t, "198.51.100.2"), newFlaky(t, "198.51.100.3")
	split, err := ParseRoutes(fmt.Sprintf("corp.example=%s,lab.corp.example=%s,internal=%s", corp.at, lab.at, world.at), DefaultDomain)
	if err != nil {
		t.Fatal(err)
	}
	at := serve(t, Config{Source: table(), Split: split, Upstreams: func() []netip.AddrPort { return []netip.AddrPort{world.at} }})
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at.String())
	}}
	for name, want := range map[string]string{"corp.example.": "2", "www.Corp.example.": "2", "a.b.corp.example.": "2", "lab.corp.example.": "3", "x.lab.corp.example.": "3",
		"xcorp.example.": "1", "example.": "1", "other.internal.": "1"} {
		got, err := r.LookupHost(t.Context(), name)
		if err != nil || !slices.Contains(got, "198.51.100."+want) {
			t.Errorf("%s: %v, %v; want of server %s", name, got, err, want)
		}
	}
	before := world.asked.Load()
	if got, err := r.LookupHost(t.Context(), "nope.gear.internal."); err == nil || world.asked.Load() != before {
		t.Errorf("our name was asked elsewhere: %v", got)
	}
}

func TestParseRoutes(t *testing.T) {
	got, err := ParseRoutes("a.example=192.0.2.1 b.example=192.0.2.2,A.example.=[2001:db8::1]:54", "x.test")
	if err != nil || fmt.Sprint(got) != "[{a.example [192.0.2.1:53 [2001:db8::1]:54]} {b.example [192.0.2.2:53]}]" {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"a.example", "=192.0.2.1", "a.example=", "a.example=x", "x.test=192.0.2.1", "y.X.test=192.0.2.1", "a.example=224.0.0.1"} {
		if got, err := ParseRoutes(bad, "x.test"); err == nil {
			t.Errorf("%s: %v", bad, got)
		}
	}
	if err := NotOwn([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}, []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:53")}); err == nil {
		t.Error("an address of this host is another server")
	}
	if err := NotOwn([]netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:54")}, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")}); err != nil {
		t.Error(err) // another server on this host
	}
}

// One asker does not take the connections of all, strangers not those of the cluster, and a secondary is no stranger.
func TestStreamsAreShared(t *testing.T) {
	l := Limits{Streams: 20, StrangerTCP: 6, AskerTCP: 4, StreamIdle: 8 * time.Second}
	c := newStreamCount(l)
	var leaves []func()
	enter := func(asker string, stranger bool) (n int) {
		for {
			leave, ok := c.enter(ip(asker), stranger)
			if !ok {
				return n
			}
			n, leaves = n+1, append(leaves, leave)
		}
	}
	if c.idle() != l.StreamIdle {
		t.Error("idle time is short though there is room")
	}
	for i, want := range []int{4, 2, 0} {
		if got := enter(fmt.Sprintf("203.0.113.%d", i), true); got != want {
			t.Errorf("stranger %d has %d connections, want %d", i, got, want)
		}
	}
	if c.idle() != time.Second {
		t.Errorf("idle time %v though strangers have all of theirs", c.idle())
	}
	for i, want := range []int{4, 4, 4, 2, 0} {
		if got := enter(fmt.Sprintf("10.127.0.%d", i+2), false); got != want {
			t.Errorf("pod %d has %d connections, want %d", i, got, want)
		}
	}
	for _, leave := range leaves {
		leave()
	}
	if c.all != 0 || c.strangers != 0 || len(c.askers) != 0 || c.idle() != l.StreamIdle {
		t.Errorf("%+v", c)
	}
}

func TestParseLimits(t *testing.T) {
	l, err := ParseLimits("tcp=10,stranger-rate=7")
	if err != nil || l.Streams != 10 || l.StrangerTCP != 5 || l.AskerTCP != 5 || l.StrangerRate != 7 || l.PodRate != DefaultLimits().PodRate {
		t.Errorf("%+v, %v", l, err)
	}
	if l, err := ParseLimits(""); err != nil || l != DefaultLimits() {
		t.Errorf("%+v, %v", l, err)
	}
	for _, bad := range []string{"tcp", "tcp=", "tcp=0", "tcp=-1", "tcp=x", "tcp=1000001", "sockets=65", "x=1", "=1"} {
		if _, err := ParseLimits(bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

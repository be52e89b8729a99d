package dnsd

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// world is a real DNS server on loopback that stands for the rest of the world.
type world struct {
	at    netip.AddrPort
	asked atomic.Int64
	slow  chan struct{} // when set, answers wait for it
}

func newWorld(t *testing.T, slow chan struct{}) *world {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{slow: slow, at: l.Addr().(*net.TCPAddr).AddrPort()}
	pc, err := net.ListenPacket("udp", w.at.String())
	if err != nil {
		l.Close()
		return newWorld(t, slow) // somebody has that port for UDP
	}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: w}, {Listener: l, Handler: w}} {
		go s.ActivateAndServe()
		t.Cleanup(func() { s.Shutdown() })
	}
	return w
}

func (w *world) ServeDNS(out dns.ResponseWriter, req *dns.Msg) {
	w.asked.Add(1)
	if w.slow != nil {
		<-w.slow
	}
	q, m := req.Question[0], new(dns.Msg).SetReply(req)
	_, udp := out.RemoteAddr().(*net.UDPAddr)
	rr := func(ttl int) dns.RR {
		if q.Qtype == dns.TypeAAAA {
			r, _ := dns.NewRR(fmt.Sprintf("%s %d IN AAAA 2001:db8::7", q.Name, ttl))
			return r
		}
		r, _ := dns.NewRR(fmt.Sprintf("%s %d IN A 198.51.100.7", q.Name, ttl))
		return r
	}
	switch q.Name {
	case "gone.example.":
		soa, _ := dns.NewRR("example. 600 IN SOA a. b. 1 1 1 1 20")
		m.Rcode, m.Ns = dns.RcodeNameError, []dns.RR{soa}
	case "big.example.":
		if m.Truncated = udp; !udp {
			for range 300 {
				m.Answer = append(m.Answer, rr(60))
			}
		}
	case "never.example.":
		m.Answer = []dns.RR{rr(0)}
	case "broken.example.":
		m.Rcode = dns.RcodeServerFailure
	case "other.example.":
		m.Question = []dns.Question{{Name: "evil.example.", Qtype: q.Qtype, Qclass: q.Qclass}}
	default:
		m.Answer = []dns.RR{rr(3600)}
	}
	out.WriteMsg(m)
}

func TestForward(t *testing.T) {
	w := newWorld(t, nil)
	limits := DefaultLimits()
	limits.ForwardTime = time.Minute // a slow answer is not asked for again
	at := serve(t, Config{Source: table(), Limits: limits, Upstreams: func() []netip.AddrPort { return []netip.AddrPort{w.at} }})
	for _, c := range []struct {
		ask   string
		want  []string
		asked int64
	}{
		{"www.example A", []string{"NOERROR", "198.51.100.7", "flags: qr rd ra;"}, 1},
		{"WWW.example A", []string{"NOERROR", "WWW.example.", "IN\tA\t198.51.100.7"}, 0},
		{"gone.example A", []string{"NXDOMAIN", "SOA"}, 1},
		{"gone.example A", []string{"NXDOMAIN"}, 0},
		{"never.example A", []string{"NOERROR"}, 1},
		{"never.example A", []string{"NOERROR"}, 1},
		{"+tcp big.example A", []string{"ANSWER: 300,"}, 2},
		{"+ignore big.example A", []string{" tc "}, 0},
		{"broken.example A", []string{"SERVFAIL"}, forwardTries},
		{"other.example A", []string{"SERVFAIL"}, forwardTries},
		{"x.example ANY", []string{"NOTIMP"}, 0},
		{"shop.example.com MX", []string{"NOERROR"}, 1},
		{"nothing.shop.gear.internal A", []string{"NXDOMAIN"}, 0},
		{"shop.gear.internal TXT", []string{"NOERROR", "SOA"}, 0},
	} {
		before := w.asked.Load()
		got := dig(t, at, strings.Fields(c.ask)...)
		for _, want := range c.want {
			if !strings.Contains(got, want) {
				t.Errorf("dig %s: no %q in\n%.600s", c.ask, want, got)
			}
		}
		if n := w.asked.Load() - before; n != c.asked {
			t.Errorf("dig %s: the other server was asked %d times, want %d", c.ask, n, c.asked)
		}
	}
}

func TestForwardTurnsToTheNextServer(t *testing.T) {
	w := newWorld(t, nil)
	dead, err := net.ListenPacket("udp", "127.0.0.1:0") // takes queries and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	limits := DefaultLimits()
	limits.ForwardTime = 3 * time.Second // more than this process takes to answer itself on a slow machine
	both := []netip.AddrPort{dead.LocalAddr().(*net.UDPAddr).AddrPort(), w.at}
	c := Config{Source: table(), Limits: limits, Upstreams: func() []netip.AddrPort { return both }}
	if got := dig(t, serve(t, c), "a.example"); !strings.Contains(got, "198.51.100.7") {
		t.Error(got)
	}
	f := newForwarder(c, new(sync.WaitGroup))
	now := time.Now()
	f.mark(both[0], now)
	if got := f.order(both, now); got[0] != w.at {
		t.Errorf("order %v", got)
	}
	if got := f.order(both, now.Add(badFor)); got[0] != both[0] {
		t.Errorf("order %v", got)
	}
}

// Equal questions are one, and those that wait are bounded: also a loop ends.
func TestForwardIsBounded(t *testing.T) {
	w := newWorld(t, make(chan struct{}))
	limits := DefaultLimits()
	limits.AskerForwards, limits.ForwardTime = 3, time.Minute
	at := serve(t, Config{Source: table(), Limits: limits, Upstreams: func() []netip.AddrPort { return []netip.AddrPort{w.at} }})
	conn, err := dns.Dial("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 10 {
		if err := conn.WriteMsg(new(dns.Msg).SetQuestion("same.example.", dns.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	rcodes := map[int]int{}
	for i := range 10 {
		if i == 7 {
			close(w.slow)
		}
		m, err := conn.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		rcodes[m.Rcode]++
	}
	if rcodes[dns.RcodeServerFailure] != 7 || rcodes[dns.RcodeSuccess] != 3 || w.asked.Load() != 1 {
		t.Errorf("%v, asked %d times", rcodes, w.asked.Load())
	}
}

func TestForwardLoopEnds(t *testing.T) {
	limits := DefaultLimits()
	limits.ForwardTime = 300 * time.Millisecond
	var self atomic.Pointer[netip.AddrPort]
	at := serve(t, Config{Source: table(), Limits: limits, Upstreams: func() []netip.AddrPort {
		if p := self.Load(); p != nil {
			return []netip.AddrPort{*p}
		}
		return nil
	}})
	self.Store(&at)
	if got := dig(t, at, "loop.example"); !strings.Contains(got, "SERVFAIL") {
		t.Error(got)
	}
}

func TestResolvConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	text := "# nameserver 9.9.9.9\nsearch x\nnameserver 192.0.2.53\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver\nnameserver 0.0.0.0\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	get := ResolvConf(path, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")})
	want := []string{"192.0.2.53:53", "127.0.0.53:53", "[fe80::1%eth0]:53"}
	if got := text2(get()); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if err := os.Remove(path); err != nil || len(get()) != 3 {
		t.Error("servers are lost with the file")
	}
	if got := ResolvConf(path, nil)(); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if !ownAddresses([]netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:53")})[ip("127.0.0.1")] {
		t.Error("all addresses are not ours")
	}
}

func text2(list []netip.AddrPort) (out []string) {
	for _, a := range list {
		out = append(out, a.String())
	}
	return out
}

func TestCache(t *testing.T) {
	c, at := cache{size: 50}, time.Unix(1000, 0)
	m := new(dns.Msg).SetQuestion("a.", dns.TypeA)
	rr, _ := dns.NewRR("a. 100000 IN A 192.0.2.1")
	m.Answer = []dns.RR{rr}
	a, err := adopt(key{name: "a.", qtype: dns.TypeA}, m, at)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 500 {
		c.put(key{name: fmt.Sprint(i)}, a, keep(m), at)
	}
	if len(c.kept) != 50 {
		t.Errorf("%d kept", len(c.kept))
	}
	f := newForwarder(Config{}, new(sync.WaitGroup))
	f.cache.size = 1
	f.cache.put(key{name: "a.", qtype: dns.TypeA}, a, keep(m), at)
	var q question
	q.read(ask("a."))
	for after, want := range map[time.Duration]uint32{0: 300, 100 * time.Second: 200, maxKeep: 0} {
		var ttl uint32
		if a := f.cached(&q, at.Add(after)); a != nil {
			var got dns.Msg
			if err := got.Unpack(q.write(nil, a, plainUDP, true, nil, at.Add(after))); err != nil {
				t.Fatal(err)
			}
			ttl = got.Answer[0].Header().Ttl
		}
		if ttl != want {
			t.Errorf("after %v: TTL %d, want %d", after, ttl, want)
		}
	}
}

package dnsd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"gearmesh.dev/api"
)

// dig asks the server as people do.
func dig(t *testing.T, at netip.AddrPort, args ...string) string {
	t.Helper()
	args = append([]string{"@" + at.Addr().String(), "-p", fmt.Sprint(at.Port()), "+tries=1", "+time=60", "+nocookie"}, args...)
	cmd := exec.CommandContext(t.Context(), "dig", args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("dig %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestDig(t *testing.T) {
	at := serve(t, Config{Source: table()})
	for _, c := range []struct {
		ask  string
		want []string
	}{
		{"web.shop.gear.internal A", []string{"status: NOERROR", "flags: qr aa rd ra;", "ANSWER: 2,", "web.shop.gear.internal.\t5\tIN\tA\t192.0.2.1", "udp: 1232"}},
		{"WeB.shop.gear.INTERNAL A", []string{"WeB.shop.gear.INTERNAL.\t5\tIN\tA\t192.0.2.2"}},
		{"web.shop.gear.internal AAAA", []string{"ANSWER: 1,", "2001:db8::3"}},
		{"db.shop.gear.internal AAAA", []string{"status: NOERROR", "ANSWER: 0, AUTHORITY: 1", "SOA\tn1.host.gear.internal. hostmaster.gear.internal. 1 60 10 3600 5"}},
		{"_pg._tcp.db.shop.gear.internal SRV", []string{"SRV\t10 10 20003 db-a.pod.shop.gear.internal.", "ADDITIONAL: 2", "db-a.pod.shop.gear.internal. 5\tIN\tA\t192.0.2.1"}},
		{"nope.shop.gear.internal A", []string{"status: NXDOMAIN", "AUTHORITY: 1", "gear.internal.\t\t5\tIN\tSOA"}},
		{"shop.example.com A", []string{"flags: qr aa", "ANSWER: 2,"}},
		{"+tcp web.shop.gear.internal A", []string{"ANSWER: 2,"}},
		{"+bufsize=512 web.shop.gear.internal ANY", []string{"HINFO\t\"RFC8482\" \"\""}},
		{"+noedns web.shop.gear.internal A", []string{"ANSWER: 2,", "ADDITIONAL: 0"}},
		{"+norec example.com A", []string{"status: SERVFAIL"}},
		{"+opcode=NOTIFY gear.internal SOA", []string{"status: NOTIMP"}},
		{"+noednsneg +edns=7 web.shop.gear.internal", []string{"status: BADVERS"}},
		{"-c CH version.bind TXT", []string{"status: REFUSED"}},
		{"-x 192.0.2.2", []string{"PTR\tn2.host.gear.internal."}},
		{"gear.internal AXFR", []string{"Transfer failed"}},
		{"gear.internal NS", []string{"ANSWER: 3,"}},
	} {
		got := dig(t, at, strings.Fields(c.ask)...)
		for _, w := range c.want {
			if !strings.Contains(got, w) {
				t.Errorf("dig %s: no %q in\n%s", c.ask, w, got)
			}
		}
	}
}

// big gives a service with n endpoints.
func big(n int) api.Directory {
	d := api.Directory{Services: []api.ServiceEntry{{Project: "p", Name: "s"}}}
	for i := range n {
		a := netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})
		d.Hosts = append(d.Hosts, api.HostEntry{Name: api.Name(fmt.Sprintf("n%d", i)), Address: a})
		d.Endpoints = append(d.Endpoints, api.HostEndpoints{Host: api.Name(fmt.Sprintf("n%d", i)), Endpoints: []api.Endpoint{{Project: "p", Service: "s",
			Pod: api.Name(fmt.Sprintf("s-%d", i)), Port: "main", Protocol: api.TCP, Address: netip.AddrPortFrom(a, 20000), Ready: true}}})
	}
	return d
}

func TestBigAnswers(t *testing.T) {
	at := serve(t, Config{Source: Static{Zone: NewZone(big(500), Options{})}})
	for _, c := range []struct {
		ask    string
		size   int
		cut    bool
		answer string
	}{
		{"+ignore +noedns s.p.gear.internal A", 512, true, ""},
		{"+ignore +bufsize=4096 s.p.gear.internal A", 1232, true, ""},
		{"+ignore +bufsize=4096 s.p.gear.internal SRV", 1232, true, ""},
		{"s.p.gear.internal A", 65535, false, "ANSWER: 500,"}, // dig turns to TCP by itself
		{"s.p.gear.internal SRV", 65535, false, "ANSWER: 500,"},
	} {
		got := dig(t, at, strings.Fields(c.ask)...)
		var size int
		if i := strings.Index(got, "MSG SIZE  rcvd: "); i >= 0 {
			fmt.Sscan(got[i+16:], &size)
		}
		if size == 0 || size > c.size || strings.Contains(got, " tc ") != c.cut || !strings.Contains(got, c.answer) {
			t.Errorf("dig %s: %d bytes\n%.300s", c.ask, size, got)
		}
	}
}

func TestRotation(t *testing.T) {
	v := View{Zone: NewZone(big(3), Options{})}
	first := map[string]bool{}
	for range 200 {
		m, _ := say(t, v, "s.p.gear.internal.", "A")
		first[m.Answer[0].(*dns.A).A.String()] = true
	}
	if len(first) != 3 {
		t.Errorf("only %v come first", first)
	}
}

func TestGoResolver(t *testing.T) {
	at := serve(t, Config{Source: table()})
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, at.String())
	}}
	addrs, err := r.LookupNetIP(t.Context(), "ip", "web.shop.gear.internal.")
	if err != nil || len(addrs) != 3 {
		t.Errorf("%v, %v", addrs, err)
	}
	_, srv, err := r.LookupSRV(t.Context(), "http", "tcp", "web.shop.gear.internal.")
	if err != nil || len(srv) != 3 {
		t.Errorf("%v, %v", srv, err)
	}
	names, err := r.LookupAddr(t.Context(), "192.0.2.1")
	if err != nil || !slices.Equal(names, []string{"n1.host.gear.internal."}) {
		t.Errorf("%v, %v", names, err)
	}
	var missing *net.DNSError
	if _, err = r.LookupHost(t.Context(), "no.shop.gear.internal."); err == nil || !errors.As(err, &missing) || !missing.IsNotFound {
		t.Errorf("%v", err)
	}
}

func TestListensWhereNoAddressIsYetAndRefusesATakenOne(t *testing.T) {
	listen(t, Config{Source: table(), Listen: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.200:0")}}).close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if s, err := New(Config{Source: table(), Listen: []netip.AddrPort{l.Addr().(*net.TCPAddr).AddrPort()}}); err == nil {
		s.close()
		t.Error("a taken port is no error")
	} else {
		t.Log(err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("nothing to listen on is no error")
	}
}

func TestTCPIsBounded(t *testing.T) {
	limits := DefaultLimits()
	limits.Streams, limits.StreamQueries, limits.StreamIdle = 2, 2, 300*time.Millisecond
	at := serve(t, Config{Source: table(), Limits: limits}).String()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	slow := []net.Conn{dial(), dial()}
	slow[0].Write([]byte{0}) // half a length, then nothing
	time.Sleep(50 * time.Millisecond)
	if n, err := io.Copy(io.Discard, dial()); n != 0 || err != nil { // closed at once
		t.Logf("third connection: %d, %v", n, err)
	}
	for _, c := range slow { // closed when idle
		if n, _ := io.Copy(io.Discard, c); n != 0 {
			t.Errorf("%d bytes", n)
		}
	}
	// One that asks is closed after its queries; one that only takes its time is not, on a slow machine either.
	limits.StreamIdle = time.Minute
	at = serve(t, Config{Source: table(), Limits: limits}).String()
	c := &dns.Conn{Conn: dial()}
	m := new(dns.Msg).SetQuestion("web.shop.gear.internal.", dns.TypeA)
	for i := range 3 {
		err := c.WriteMsg(m)
		if err == nil {
			_, err = c.ReadMsg()
		}
		if ok := i < 2; ok != (err == nil) {
			t.Errorf("query %d: %v", i, err)
		}
	}
}

func TestStrangersAreLimited(t *testing.T) {
	limits := DefaultLimits()
	limits.StrangerRate = 10
	s := listen(t, Config{Source: table(), Limits: limits})
	defer s.close()
	raw, _ := new(dns.Msg).SetQuestion("web.shop.gear.internal.", dns.TypeA).Pack()
	w, now := s.newWorker(false), time.Now()
	var full, cut, none int
	for range 200 {
		reply, _ := w.respond(nil, raw, ip("203.0.113.7"), now)
		switch {
		case reply == nil:
			none++
		case reply[2]&2 != 0:
			cut++
			if len(reply) > len(raw) {
				t.Fatal("a cut reply is longer than the query")
			}
			var m dns.Msg
			if err := m.Unpack(reply); err != nil || !m.Truncated || m.Question[0].Name != "web.shop.gear.internal." {
				t.Fatalf("%v %v", m, err)
			}
		default:
			full++
		}
	}
	if full > 15 || cut == 0 || none == 0 {
		t.Errorf("%d answered, %d cut, %d dropped", full, cut, none)
	}
	for range 200 {
		if reply, _ := w.respond(nil, raw, ip("10.127.0.2"), time.Now()); len(reply) < 40 {
			t.Fatal("a pod is limited")
		}
	}
	if reply, out := w.respond(nil, ask("example.com."), ip("198.51.100.1"), time.Now()); out != replied || reply[3]&15 != dns.RcodeRefused {
		t.Error("a stranger may recurse")
	}
}

func ask(name string) []byte {
	raw, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
	if err != nil {
		panic(err)
	}
	return raw
}

// noSockets gives a server that is asked by respond alone.
func noSockets(t testing.TB, c Config) *Server {
	t.Helper()
	c.Limits = DefaultLimits()
	c.Limits.StrangerRate, c.Limits.PodRate = 1<<30, 1<<30
	s, err := newServer(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// FuzzRespond gives the server anything. A reply must be a message to this query, fit, and be no
// answer that makes other servers reply.
func FuzzRespond(f *testing.F) {
	for _, name := range []string{"web.shop.gear.internal.", "example.com.", ".", "a\\.b.gear.internal.", "\\000.shop.example.com."} {
		f.Add(ask(name), true)
		m := new(dns.Msg).SetQuestion(name, dns.TypeSRV)
		m.SetEdns0(4096, true)
		raw, _ := m.Pack()
		f.Add(raw, false)
		f.Add(raw[:len(raw)-3], false)
	}
	s := noSockets(f, Config{Source: table()})
	f.Fuzz(func(t *testing.T, raw []byte, tcp bool) {
		for _, asker := range []string{"127.0.0.1", "10.127.0.2", "203.0.113.5"} {
			reply, out := s.newWorker(tcp).respond(nil, raw, ip(asker), time.Now())
			if out == elsewhere && asker == "203.0.113.5" || out == transfer || (out == replied) != (reply != nil) {
				t.Fatalf("outcome %d for %s", out, asker)
			}
			if reply == nil {
				continue
			}
			if len(reply) < headerLen || !bytes.Equal(reply[:2], raw[:2]) || reply[2]&0x80 == 0 || !tcp && len(reply) > maxUDP {
				t.Fatalf("reply %x to %x", reply, raw)
			}
			var m dns.Msg
			if err := m.Unpack(reply); err != nil {
				t.Fatalf("reply %x to %x: %v", reply, raw, err)
			}
			if asker == "10.127.0.2" && strings.Contains(m.String(), "\t192.0.2.66") {
				t.Fatal("a pod sees another project")
			}
		}
	})
}

func BenchmarkRespond(b *testing.B) {
	w := noSockets(b, Config{Source: table()}).newWorker(false)
	m := new(dns.Msg).SetQuestion("web.shop.gear.internal.", dns.TypeA)
	m.SetEdns0(1232, false)
	raw, _ := m.Pack()
	asker := ip("10.127.0.2")
	b.ReportAllocs()
	now, buf := time.Now(), make([]byte, 0, maxUDP)
	for b.Loop() {
		if reply, _ := w.respond(buf, raw, asker, now); reply == nil {
			b.Fatal("no reply")
		}
	}
}

func BenchmarkNewZone(b *testing.B) {
	for _, n := range []int{1000, 30_000} {
		d := big(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				NewZone(d, Options{})
			}
		})
	}
}

// manyServices is a directory of some 10,000 names: 100 hosts that share the pods of 900 services.
func manyServices() api.Directory {
	d := api.Directory{}
	name := func(format string, a ...any) api.Name { return api.Name(fmt.Sprintf(format, a...)) }
	for s := range 900 {
		d.Services = append(d.Services, api.ServiceEntry{Project: name("p%d", s%40), Name: name("s%d", s), Ports: []api.Port{{Name: "main", Port: 80, Protocol: api.TCP}}})
	}
	for i := range 100 {
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		e := api.HostEndpoints{Host: name("h%d", i)}
		for k := range 80 {
			s := d.Services[(i*80+k)%len(d.Services)]
			e.Endpoints = append(e.Endpoints, api.Endpoint{Project: s.Project, Service: s.Name, Pod: name("%s-%d-%d", s.Name, i, k), Port: "main", Protocol: api.TCP,
				Address: netip.AddrPortFrom(a, 20000+uint16(k)), Ready: true})
		}
		d.Hosts, d.Endpoints = append(d.Hosts, api.HostEntry{Name: e.Host, Address: a}), append(d.Endpoints, e)
	}
	return d
}

// What a host does when one endpoint of the cluster changes.
func BenchmarkChange(b *testing.B) {
	d, table, serial := manyServices(), NewTable(netip.MustParsePrefix("10.127.0.0/16")), uint32(0)
	for b.Loop() {
		serial++
		d.Endpoints[3].Endpoints[3].Ready = serial%2 == 0
		table.SetZone(NewZone(d, Options{Serial: serial}), d.Hosts)
	}
	b.ReportMetric(float64(len(table.now.Load().zone.nodes)), "names")
}

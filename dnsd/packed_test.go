package dnsd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"gearmesh.dev/api"
)

// types that are asked for here.
var types = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT, dns.TypePTR, dns.TypeNS, dns.TypeSOA, dns.TypeANY, dns.TypeMX, dns.TypeHTTPS, 65280}

// expect gives the answer as miekg/dns would pack it: the reference that packed ones are compared with.
func expect(v View, name string, qtype uint16) *dns.Msg {
	z, m := v.Zone, new(dns.Msg)
	n, near := v.find([]byte(lower(name)))
	switch local := z.owner([]byte(lower(name))); {
	case n == nil:
		m.Rcode, m.Ns = dns.RcodeNameError, []dns.RR{z.soa(local.name)}
	case qtype == dns.TypeANY:
		m.Answer = []dns.RR{&dns.HINFO{Hdr: header(name, dns.TypeHINFO), Cpu: "RFC8482"}}
	default:
		if m = z.records(n, lower(name), qtype, near, mostRecords); len(m.Answer) == 0 {
			owner := name
			if local != nil {
				owner = local.name
			}
			m.Ns = []dns.RR{z.soa(owner)}
		}
	}
	return m
}

// texts gives records in a form that does not depend on order or case.
func texts(rrs []dns.RR) (out []string) {
	for _, r := range rrs {
		if r.Header().Rrtype != dns.TypeOPT {
			out = append(out, strings.ToLower(r.String()))
		}
	}
	slices.Sort(out)
	return out
}

// Every name of the cluster, for every kind of asker, says the same as when miekg/dns packs it.
func TestPackedIsWhatMiekgPacks(t *testing.T) {
	src := table()
	s := noSockets(t, Config{Source: src})
	names := []string{"nope.shop.gear.internal.", "nearest.web.shop.gear.internal.", "_http._tcp.nearest.web.shop.gear.internal.", "9.9.127.10.in-addr.arpa."}
	for name := range src.View(ip("127.0.0.1")).Zone.nodes {
		names = append(names, name, strings.ToUpper(name))
	}
	asked := 0
	for _, asker := range []string{"127.0.0.1", "10.127.0.2", "10.127.0.3", "203.0.113.1"} {
		w, v := s.newWorker(false), src.View(ip(asker))
		for _, name := range names {
			for _, qtype := range types {
				if _, is := v.answer([]byte(lower(name)), qtype); is == foreign {
					continue
				}
				asked++
				reply, _ := w.respond(nil, query(t, name, qtype, 4096), ip(asker), time.Now())
				if problem := differs(reply, expect(v, name, qtype), v.Recurse); problem != "" {
					t.Errorf("%s asks %s %s: %s", asker, name, dns.TypeToString[qtype], problem)
				}
			}
		}
	}
	if asked < 1000 {
		t.Errorf("only %d questions", asked)
	}
}

func differs(reply []byte, want *dns.Msg, recurse bool) string {
	var got dns.Msg
	if err := got.Unpack(reply); err != nil {
		return err.Error()
	}
	opt := got.IsEdns0()
	switch {
	case got.Rcode != want.Rcode || !got.Authoritative || !got.Response || got.Truncated || got.RecursionAvailable != recurse:
		return got.MsgHdr.String()
	case opt == nil || opt.UDPSize() != maxUDP:
		return "no EDNS"
	case !slices.Equal(texts(got.Answer), texts(want.Answer)) || !slices.Equal(texts(got.Ns), texts(want.Ns)) || !slices.Equal(texts(got.Extra), texts(want.Extra)):
		return fmt.Sprintf("got\n%v\nwant\n%v", &got, want)
	}
	return ""
}

// Truncation: never longer than the asker takes, whole records only, TC when an answer is missing but not when
// only what is beside it is, and over TCP everything.
func TestTruncation(t *testing.T) {
	d := big(1000)
	v := View{Zone: NewZone(d, Options{})}
	for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV} {
		a, _ := v.answer([]byte("s.p.gear.internal."), qtype)
		for _, size := range []int{0, 512, 513, 700, 1000, 1231, 1232, 4096} {
			var q question
			q.read(query(t, "s.p.gear.internal.", qtype, uint16(size)))
			reply := q.write(nil, a, q.room(false), true, nil, time.Now())
			var m dns.Msg
			if err := m.Unpack(reply); err != nil || len(reply) > q.room(false) || len(reply) < q.room(false)-80 || !m.Truncated {
				t.Errorf("%d bytes for %d, cut %v: %v", len(reply), size, m.Truncated, err)
			}
		}
		var q question
		q.read(query(t, "s.p.gear.internal.", qtype, 1232))
		var m dns.Msg
		if err := m.Unpack(q.write(nil, a, q.room(true), true, nil, time.Now())); err != nil || m.Truncated || len(m.Answer) != 1000 {
			t.Errorf("over TCP: %d answers, %v", len(m.Answer), err)
		}
	}
	few := View{Zone: NewZone(big(10), Options{})}
	a, _ := few.answer([]byte("s.p.gear.internal."), dns.TypeSRV)
	var q question
	q.read(query(t, "s.p.gear.internal.", dns.TypeSRV, 0))
	var m dns.Msg
	if err := m.Unpack(q.write(nil, a, q.room(false), true, nil, time.Now())); err != nil || m.Truncated || len(m.Answer) != 10 || len(m.Extra) == 10 {
		t.Errorf("%d answers, %d beside, cut %v: %v", len(m.Answer), len(m.Extra), m.Truncated, err)
	}
}

// The hot path costs no memory.
func TestNoAllocations(t *testing.T) {
	src := table()
	src.SetPods(map[netip.Addr]Pod{ip("10.127.0.2"): NewPod(DefaultDomain, "shop", []api.LinkTarget{{Service: "db", Local: ip("127.1.0.1"), Port: 5432}})})
	s := noSockets(t, Config{Source: src, Upstreams: func() []netip.AddrPort { return nil }})
	now := time.Now()
	rr, _ := dns.NewRR("www.example. 300 IN A 198.51.100.7")
	k := key{name: "www.example.", qtype: dns.TypeA}
	a, err := adopt(k, &dns.Msg{Answer: []dns.RR{rr}}, now)
	if err != nil {
		t.Fatal(err)
	}
	s.forward.cache.put(k, a, time.Minute, now)
	w, buf := s.newWorker(false), make([]byte, 0, maxUDP)
	cookie := &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"}
	for what, raw := range map[string][]byte{
		"a service": query(t, "web.shop.gear.internal.", dns.TypeA, 1232), "without EDNS": query(t, "WEB.shop.gear.internal.", dns.TypeA, 0),
		"a link": query(t, "db.shop.gear.internal.", dns.TypeA, 1232), "SRV": query(t, "_http._tcp.web.shop.gear.internal.", dns.TypeSRV, 1232),
		"no such name": query(t, "nope.shop.gear.internal.", dns.TypeA, 1232), "no such type": query(t, "web.shop.gear.internal.", dns.TypeMX, 1232),
		"nearest": query(t, "nearest.web.shop.gear.internal.", dns.TypeA, 1232), "reverse": query(t, "1.2.0.192.in-addr.arpa.", dns.TypePTR, 1232),
		"a cookie": query(t, "web.shop.gear.internal.", dns.TypeA, 1232, cookie), "forwarded": query(t, "www.example.", dns.TypeA, 1232),
	} {
		ask := func() {
			if reply, out := w.respond(buf, raw, ip("10.127.0.2"), now); out != replied || len(reply) < 40 {
				t.Fatalf("%s: %d, %x", what, out, reply)
			}
		}
		if ask(); testing.AllocsPerRun(200, ask) != 0 {
			t.Errorf("%s: %v allocations for an answer", what, testing.AllocsPerRun(200, ask))
		}
	}
}

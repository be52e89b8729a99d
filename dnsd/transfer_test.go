package dnsd

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"gearmesh.dev/api"
)

// A secondary gets every record of the domain, of a zone that needs many messages, and nothing beside it.
func TestTransfer(t *testing.T) {
	d := big(3000)
	d.Aliases = shop().Aliases
	ports := make([]api.Port, 64)
	for i := range ports {
		ports[i] = api.Port{Name: api.Name(strings.Repeat("p", 12) + string(rune('a'+i%26)) + string(rune('a'+i/26))), Port: uint16(i + 1)}
	}
	for i := range 120 { // long texts
		d.Services = append(d.Services, api.ServiceEntry{Project: "q", Name: api.Name("t" + string(rune('a'+i%26)) + string(rune('a'+i/26))), Ports: ports})
	}
	z := NewZone(d, Options{PodNet: podNet, Serial: 7})
	at := serve(t, Config{Source: Static{Zone: z}, Secondaries: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}, Limits: unlimited()})
	for _, m := range []*dns.Msg{new(dns.Msg).SetAxfr("gear.internal."), new(dns.Msg).SetIxfr("gear.internal.", 1, "a.", "b.")} {
		envelopes, err := (&dns.Transfer{ReadTimeout: time.Minute}).In(m, at.String())
		if err != nil {
			t.Fatal(err)
		}
		var got []dns.RR
		messages := 0
		for e := range envelopes {
			if e.Error != nil {
				t.Fatal(e.Error)
			}
			got, messages = append(got, e.RR...), messages+1
		}
		want := slices.Collect(z.all())
		if messages < 5 || len(got) != len(want) || !slices.Equal(texts(got), texts(want)) {
			t.Errorf("%d records in %d messages, want %d", len(got), messages, len(want))
		}
		for _, rr := range got {
			if !dns.IsSubDomain("gear.internal.", rr.Header().Name) {
				t.Fatalf("%v is not in the domain", rr)
			}
		}
	}
	reply := dig(t, at, "+notcp", "gear.internal", "IXFR=1")
	if !strings.Contains(reply, "SOA") || !strings.Contains(reply, " 7 60 10 3600 5") {
		t.Errorf("IXFR over UDP: %s", reply)
	}
}

func TestTransferIsRefused(t *testing.T) {
	s := noSockets(t, Config{Source: table(), Secondaries: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.7:53")}})
	for _, c := range []struct {
		asker, name string
		tcp         bool
		want        int // the rcode, or -1 for a transfer
	}{
		{"192.0.2.7", "gear.internal.", true, -1},
		{"192.0.2.7", "gear.internal.", false, dns.RcodeRefused},
		{"192.0.2.7", "shop.gear.internal.", true, dns.RcodeNotAuth},
		{"192.0.2.7", "example.com.", true, dns.RcodeNotAuth},
		{"192.0.2.8", "gear.internal.", true, dns.RcodeRefused},
		{"127.0.0.1", "gear.internal.", true, dns.RcodeRefused},
		{"10.127.0.2", "gear.internal.", true, dns.RcodeRefused}, // a pod would see other projects
	} {
		reply, out := s.newWorker(c.tcp).respond(nil, query(t, c.name, dns.TypeAXFR, 0), ip(c.asker), time.Now())
		if (out == transfer) != (c.want < 0) || c.want >= 0 && int(reply[3]&15) != c.want {
			t.Errorf("%+v: outcome %d, %x", c, out, reply)
		}
	}
}

// A secondary is told of every new serial, again when it does not answer, and not when nothing has changed.
func TestNotify(t *testing.T) {
	told := make(chan uint32, 10)
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	secondary := &dns.Server{PacketConn: pc, MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
			if m.Opcode == dns.OpcodeNotify && m.Authoritative && m.Question[0].Name == "gear.internal." {
				told <- m.Answer[0].(*dns.SOA).Serial
			}
			if err := w.WriteMsg(new(dns.Msg).SetReply(m)); err != nil {
				t.Error(err)
			}
		})}
	go func() { _ = secondary.ActivateAndServe() }() // ends with Shutdown
	defer func() { _ = secondary.Shutdown() }()
	d, table := shop(), NewTable(podNet)
	table.SetZone(NewZone(d, Options{Serial: 40}), d.Hosts)
	serve(t, Config{Source: table, Secondaries: []netip.AddrPort{pc.LocalAddr().(*net.UDPAddr).AddrPort()}})
	last := uint32(0)
	want := func(serial uint32) {
		t.Helper()
		for {
			select {
			case got := <-told:
				if got == serial {
					last = serial
					return
				}
				if got != last { // an answer that came late is one that did not come: it is told again
					t.Fatalf("told of serial %d, want %d", got, serial)
				}
			case <-time.After(2 * time.Minute):
				t.Fatalf("not told of serial %d", serial)
			}
		}
	}
	want(40)
	table.SetZone(NewZone(d, Options{Serial: 50}), d.Hosts) // says the same
	d.Hosts = d.Hosts[:2]
	table.SetZone(NewZone(d, Options{Serial: 3}), d.Hosts) // a clock set back
	want(41)
}

package dnsd

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Bursts that are longer than a batch are all answered, each asker gets its own, and no buffer is another's: over IPv4,
// IPv6, and IPv4 on a socket for both.
func TestBursts(t *testing.T) {
	d := big(3 * batchLen)
	for listen, from := range map[string]string{"127.0.0.1:0": "127.0.0.1", "[::1]:0": "::1", "[::]:0": "127.0.0.1"} {
		at := serve(t, Config{Source: Static{Zone: NewZone(d, Options{})}, Limits: unlimited(), Listen: []netip.AddrPort{netip.MustParseAddrPort(listen)}})
		c, err := net.Dial("udp", netip.AddrPortFrom(ip(from), at.Port()).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conn := &dns.Conn{Conn: c}
		want := map[uint16]string{}
		for i := range 3 * batchLen {
			want[uint16(i)] = netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}).String()
		}
		left := maps.Clone(want)
		for range 10 { // the kernel drops datagrams that nobody reads in time
			burst(t, conn, want, left)
		}
		if len(left) > 0 {
			t.Errorf("%s: %d answers are missing", listen, len(left))
		}
	}
}

// burst asks for all that is left and checks the answers that come, also those to bursts before.
func burst(t *testing.T, conn *dns.Conn, want, left map[uint16]string) {
	t.Helper()
	for i := range left {
		m := new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.host.gear.internal.", i), dns.TypeA)
		m.Id = i
		if err := conn.WriteMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	for len(left) > 0 {
		m, err := conn.ReadMsg()
		if err != nil {
			t.Logf("%d answers are missing yet: %v", len(left), err)
			return
		}
		if len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != want[m.Id] {
			t.Fatalf("%v, want %s", m, want[m.Id])
		}
		delete(left, m.Id)
	}
}

func unlimited() Limits {
	l := DefaultLimits()
	l.StrangerRate, l.PodRate = 1<<30, 1<<30
	return l
}

// A datagram that is longer than a query is none, and the next one is answered.
func TestLongDatagram(t *testing.T) {
	at := serve(t, Config{Source: table()})
	c, err := net.Dial("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	long := make([]byte, 60000)
	copy(long, ask("web.shop.gear.internal."))
	good := ask("n1.host.gear.internal.")
	if _, err := c.Write(long); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(good); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	replies := map[byte]bool{} // by rcode; the kernel may give the two to two sockets, so in any order
	for range 2 {
		buf := make([]byte, 512)
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if n < headerLen {
			t.Fatalf("%x", buf[:n])
		}
		replies[buf[3]&15] = true
	}
	if !replies[dns.RcodeFormatError] || !replies[dns.RcodeSuccess] {
		t.Errorf("rcodes %v", replies)
	}
}

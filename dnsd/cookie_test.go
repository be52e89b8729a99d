package dnsd

import (
	"bytes"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestCookies(t *testing.T) {
	s := noSockets(t, Config{Source: table()})
	c, at := cookies{block: s.secret}, time.Unix(1_800_000_000, 0)
	client := []byte("12345678")
	given := bytes.Clone(c.give(client, ip("203.0.113.7"), at))
	if len(given) != cookieLen || !bytes.Equal(given[:8], client) {
		t.Fatalf("%x", given)
	}
	for what, ok := range map[string]bool{
		"fresh":             c.check(given, ip("203.0.113.7"), at),
		"after 59 minutes":  c.check(given, ip("203.0.113.7"), at.Add(59*time.Minute)),
		"a clock that lags": c.check(given, ip("203.0.113.7"), at.Add(-4*time.Minute)),
	} {
		if !ok {
			t.Errorf("%s: it is not taken", what)
		}
	}
	changed := func(i int) []byte {
		b := bytes.Clone(given)
		b[i] ^= 1
		return b
	}
	other, _ := newSecret()
	for what, taken := range map[string]bool{
		"another address":   c.check(given, ip("203.0.113.8"), at),
		"after two hours":   c.check(given, ip("203.0.113.7"), at.Add(2*time.Hour)),
		"of the future":     c.check(given, ip("203.0.113.7"), at.Add(-time.Hour)),
		"the client's":      c.check(changed(0), ip("203.0.113.7"), at),
		"the version":       c.check(changed(8), ip("203.0.113.7"), at),
		"the reserved bits": c.check(changed(10), ip("203.0.113.7"), at),
		"the time":          c.check(changed(15), ip("203.0.113.7"), at),
		"the hash":          c.check(changed(23), ip("203.0.113.7"), at),
		"half":              c.check(given[:16], ip("203.0.113.7"), at),
		"none":              c.check(nil, ip("203.0.113.7"), at),
		"another server":    (&cookies{block: other}).check(given, ip("203.0.113.7"), at),
	} {
		if taken {
			t.Errorf("%s: it is taken", what)
		}
	}
}

// A stranger with a cookie is not forged, and not limited; the same cookie helps nobody else.
func TestACookieIsThePassOfAStranger(t *testing.T) {
	limits := DefaultLimits()
	limits.StrangerRate = 5
	s, err := newServer(Config{Source: table(), Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	w, now, me := s.newWorker(false), time.Now(), ip("203.0.113.7")
	client := &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"}
	var got dns.Msg
	reply, _ := w.respond(nil, query(t, "web.shop.gear.internal.", dns.TypeA, 1232, client), me, now)
	if err := got.Unpack(reply); err != nil {
		t.Fatal(err)
	}
	whole := got.IsEdns0().Option[0].(*dns.EDNS0_COOKIE)
	if len(whole.Cookie) != 2*cookieLen || whole.Cookie[:16] != client.Cookie {
		t.Fatalf("cookie %s", whole.Cookie)
	}
	full := func(o *dns.EDNS0_COOKIE, asker string) (n int) {
		for range 100 {
			reply, _ := w.respond(nil, query(t, "web.shop.gear.internal.", dns.TypeA, 1232, o), ip(asker), now)
			if reply != nil && reply[2]&bitTC == 0 {
				n++
			}
		}
		return n
	}
	if n := full(whole, me.String()); n != 100 {
		t.Errorf("with its cookie %d of 100 are answered", n)
	}
	if n := full(whole, "203.0.113.99"); n > 5 {
		t.Errorf("with another's cookie %d of 100 are answered", n)
	}
	if n := full(client, "203.0.113.7"); n > 5 {
		t.Errorf("without a server's cookie %d of 100 are answered", n)
	}
}

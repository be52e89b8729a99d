package dnsd

import (
	"bytes"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// query gives the bytes of a query, with options in its OPT record.
func query(t testing.TB, name string, qtype uint16, size uint16, options ...dns.EDNS0) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, qtype)
	if size > 0 {
		m.SetEdns0(size, false)
		m.Extra[0].(*dns.OPT).Option = options
	}
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// longest is a name of 255 octets: three labels of 63, one of 61.
var longest = strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("b", 61) + "."

func TestReadQuestions(t *testing.T) {
	var q question
	for name, want := range map[string]string{
		"Web.SHOP.gear.internal.": "web.shop.gear.internal.", ".": ".", longest: longest,
		`a\.b.gear.internal.`: `a\.b.gear.internal.`, `\000\255.x.`: `\000\255.x.`, `\"\;.x.`: `\"\;.x.`,
	} {
		raw := query(t, name, dns.TypeSRV, 0)
		if rcode := q.read(raw); rcode != 0 || string(q.name) != want || q.qtype != dns.TypeSRV || q.class != 1 || q.end != len(raw) || q.edns || q.room(false) != 512 {
			t.Errorf("%s: rcode %d, %q", name, rcode, q.name)
		}
	}
	if q.read(query(t, "a.", dns.TypeA, 4096)); !q.edns || q.room(false) != maxUDP || q.room(true) != maxMessage {
		t.Errorf("%+v", q)
	}
	if q.read(query(t, "a.", dns.TypeA, 100)); q.room(false) != 512 { // RFC 6891, section 6.2.3
		t.Errorf("room %d", q.room(false))
	}
}

// Each bad message gets its rcode, and nothing of the one before stays.
func TestReadBadMessages(t *testing.T) {
	good := query(t, "web.shop.gear.internal.", dns.TypeA, 1232, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"})
	edit := func(at int, b ...byte) []byte {
		raw := bytes.Clone(good)
		copy(raw[at:], b)
		return raw
	}
	option := func(o ...byte) []byte { // the length of the OPT record's data, and options
		raw := query(t, "a.", dns.TypeA, 1232)
		raw[len(raw)-1] = byte(len(o))
		return append(raw, o...)
	}
	opt := query(t, ".", dns.TypeA, 1232)[12+5:]
	two := append(query(t, "a.", dns.TypeA, 1232), opt...)
	two[11] = 2
	for what, c := range map[string]struct {
		raw  []byte
		want int
	}{
		"nothing": {nil, ignored}, "half a header": {good[:11], ignored}, "an answer": {edit(2, bitQR), ignored},
		"notify": {edit(2, dns.OpcodeNotify<<3), dns.RcodeNotImplemented}, "no question": {edit(4, 0, 0), 1}, "two questions": {edit(4, 0, 2), 1},
		"a label of 64": {edit(12, 64), 1}, "a pointer": {edit(12, 0xC0, 12), 1}, "cut in the name": {good[:20], 1}, "cut in the type": {good[:37], 1},
		"a record too few": {edit(10, 0, 2), 1}, "bytes at the end": {append(bytes.Clone(good), 0), 1}, "cut in the OPT": {good[:len(good)-1], 1},
		"two OPT": {two, 1}, "a cookie of 7 bytes": {option(0, 10, 0, 7, 1, 2, 3, 4, 5, 6, 7), 1}, "a cookie of 9 bytes": {option(0, 10, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9), 1},
		"an option cut": {option(0, 10, 0), 1}, "an option too long": {option(0, 3, 0, 9, 1), 1}, "unknown options": {option(0, 3, 0, 0, 0, 12, 0, 1, 0), 0},
	} {
		var q question
		if q.read(good); q.cookie == nil {
			t.Fatal("no cookie")
		}
		if got := q.read(c.raw); got != c.want || q.cookie != nil && c.want < 0 {
			t.Errorf("%s: %d, want %d", what, got, c.want)
		}
	}
	tooLong := append(make([]byte, 5, 400), 1, 0, 0, 0, 0, 0, 0)
	for range 4 {
		tooLong = append(append(tooLong, 63), bytes.Repeat([]byte{'a'}, 63)...)
	}
	if q := new(question); q.read(append(tooLong, 0, 0, 1, 0, 1)) != dns.RcodeFormatError {
		t.Error("a name of 257 octets is taken")
	}
}

// FuzzQuestion: what we read is what miekg/dns reads.
func FuzzQuestion(f *testing.F) {
	f.Add(query(f, "web.shop.gear.internal.", dns.TypeA, 1232))
	f.Add(query(f, longest, dns.TypeSRV, 0))
	f.Add(query(f, `\000\.\\.x.`, dns.TypeAXFR, 4096, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var q question
		var m dns.Msg
		if q.read(raw) != dns.RcodeSuccess || m.Unpack(raw) != nil { // it knows more of other records, and refuses bad ones
			return
		}
		if len(m.Question) != 1 || lower(m.Question[0].Name) != string(q.name) || m.Question[0].Qtype != q.qtype || m.Question[0].Qclass != q.class {
			t.Fatalf("%x: %q %d, want %v", raw, q.name, q.qtype, m.Question)
		}
		if opt := m.IsEdns0(); (opt != nil) != q.edns || opt != nil && (int(max(opt.UDPSize(), 512)) != q.udpSize || opt.Do() != q.dnssec || opt.Version() != q.version) {
			t.Fatalf("%x: %+v, want %v", raw, q, opt)
		}
		if m.CheckingDisabled != q.unchecked() {
			t.Fatalf("%x: flags", raw)
		}
	})
}

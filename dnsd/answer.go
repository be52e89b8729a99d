package dnsd

import (
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// ttl of every record of ours, in seconds, also of "no such name": what is said may be untrue
// a moment later, and asking again costs a few microseconds.
const ttl = 5

// verdict is what becomes of a question.
type verdict int

const (
	answered verdict = iota // also: the name exists, but not with that type
	missing                 // no such name
	foreign                 // not ours to answer
	unready                 // there is no zone yet
)

// answer gives the answer to a question from memory. What a name has is packed when it is first
// asked for, and kept with the name; a new zone or pod has new names.
func (v View) answer(name []byte, qtype uint16) (*answer, verdict) {
	if v.Zone == nil {
		return nil, unready
	}
	n, near := v.find(name)
	switch {
	case n == nil:
		if l := v.Zone.owner(name); l != nil {
			return l.missing, missing
		}
		return nil, foreign
	case n.outside && !ourType(qtype):
		return nil, foreign
	case qtype == dns.TypeANY: // RFC 8482: one small record instead of all there is
		return v.Zone.any, answered
	}
	if a := n.known(qtype, near); a != nil {
		return a, answered
	}
	a := v.Zone.pack(n, string(name), qtype, near)
	n.keep(qtype, near, a)
	return a, answered
}

// ourType tells whether a type of an alias beyond our domain is answered here. Those that tell
// addresses are; mail and the rest stay with the world's DNS.
func ourType(t uint16) bool {
	switch t {
	case dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeANY:
		return true
	}
	return false
}

// known is an answer of a name, with the next.
type known struct {
	qtype  uint16
	near   bool
	answer *answer
	next   *known
}

// known gives the answer when it was asked for before.
func (n *node) known(qtype uint16, near bool) *answer {
	for k := n.answers.Load(); k != nil; k = k.next {
		if k.qtype == qtype && k.near == near {
			return k.answer
		}
	}
	return nil
}

// keep keeps an answer. Only types that are asked for in earnest are kept, so that nobody fills the
// memory with others.
func (n *node) keep(qtype uint16, near bool, a *answer) {
	switch qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT, dns.TypePTR, dns.TypeNS, dns.TypeSOA, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeMX:
	default:
		return
	}
	k := &known{qtype: qtype, near: near, answer: a}
	for {
		k.next = n.answers.Load()
		if n.known(qtype, near) != nil || n.answers.CompareAndSwap(k.next, k) {
			return
		}
	}
}

// pack makes the answer of a name.
func (z *Zone) pack(n *node, name string, qtype uint16, near bool) *answer {
	local := z.owner([]byte(name))
	m := z.records(n, name, qtype, near, mostRecords)
	if len(m.Answer) == 0 {
		if local != nil {
			return local.nodata
		}
		m.Ns = []dns.RR{z.soa(name)} // an alias or a reverse name: no name above it is ours
	}
	m.Authoritative = true
	a, err := pack(name, qtype, m)
	if err != nil {
		return failure(dns.RcodeServerFailure) // no name of ours is too long, and no answer too big
	}
	return a.fixed(qtype)
}

// records gives a name's records of a type, and what belongs to them. With near, the addresses are
// the nearest, and services have a priority by distance.
func (z *Zone) records(n *node, name string, qtype uint16, near bool, most int) *dns.Msg {
	m := new(dns.Msg)
	switch qtype {
	case dns.TypeA, dns.TypeAAAA:
		m.Answer = z.addresses(n, name, qtype, near, most)
	case dns.TypeSRV:
		z.services(m, n, name, near, most)
	case dns.TypePTR:
		if n.text != "" {
			m.Answer = []dns.RR{&dns.PTR{Hdr: header(name, dns.TypePTR), Ptr: n.text}}
		}
	case dns.TypeTXT:
		if len(n.about) > 0 {
			m.Answer = []dns.RR{&dns.TXT{Hdr: header(name, dns.TypeTXT), Txt: n.about}}
		}
	case dns.TypeNS:
		for _, s := range n.servers {
			m.Answer = append(m.Answer, &dns.NS{Hdr: header(name, dns.TypeNS), Ns: s.name})
			m.Extra = append(m.Extra, address(s.name, s.addr)) // glue
		}
	case dns.TypeSOA:
		if name == z.domain {
			m.Answer = []dns.RR{z.soa(name)}
		}
	}
	return m
}

// The most records that are made for an answer.
const (
	mostRecords = maxMessage / 16 // more than a message holds: 16 bytes are an IPv4 address with its head
	mostBeside  = 300             // addresses beside services: clients ask for those that they miss
)

func (z *Zone) addresses(n *node, name string, qtype uint16, near bool, most int) (out []dns.RR) {
	least := far
	for _, a := range n.addrs {
		if near && a.Is4() == (qtype == dns.TypeA) {
			least = min(least, z.distance(a))
		}
	}
	for i, from := 0, start(len(n.addrs)); i < len(n.addrs) && len(out) < most; i++ {
		a := n.addrs[(from+i)%len(n.addrs)]
		if a.Is4() == (qtype == dns.TypeA) && (!near || z.distance(a) == least) {
			out = append(out, address(name, a))
		}
	}
	return out
}

// services gives SRV records, and the addresses of their targets beside them. Priority and weight
// are the same for all, unless the nearest are asked for: every ready endpoint is as good.
func (z *Zone) services(m *dns.Msg, n *node, name string, near bool, most int) {
	told := map[target]bool{}
	for i, from := 0, start(len(n.targets)); i < min(len(n.targets), most); i++ {
		t := n.targets[(from+i)%len(n.targets)]
		rr := &dns.SRV{Hdr: header(name, dns.TypeSRV), Priority: 10, Weight: 10, Port: t.port, Target: t.name}
		if near {
			rr.Priority += 10 * uint16(z.distance(t.addr))
		}
		m.Answer = append(m.Answer, rr)
		if at := (target{name: t.name, addr: t.addr}); !told[at] && len(told) < mostBeside {
			told[at] = true
			m.Extra = append(m.Extra, address(t.name, t.addr))
		}
	}
}

func start(n int) int {
	if n < 2 {
		return 0
	}
	return rand.IntN(n)
}

func address(name string, a netip.Addr) dns.RR {
	if a.Is4() {
		return &dns.A{Hdr: header(name, dns.TypeA), A: a.AsSlice()}
	}
	return &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: a.AsSlice()}
}

func header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
}

// soa gives the start of authority of one of our zones; Minttl is how long a "no" may be kept
// (RFC 2308).
func (z *Zone) soa(owner string) dns.RR {
	server := z.domain
	if s := z.nodes[z.domain].servers; len(s) > 0 {
		server = s[0].name
	}
	return &dns.SOA{Hdr: header(owner, dns.TypeSOA), Ns: server, Mbox: "hostmaster" + z.suffix, Serial: z.serial,
		Refresh: 60, Retry: 10, Expire: 3600, Minttl: ttl}
}

// local is a zone of ours, with what it says of names and types that it does not have.
type local struct {
	name            string
	missing, nodata *answer
}

// owner gives the zone of ours that a name is in, the domain or a reverse zone, or nil.
func (z *Zone) owner(name []byte) *local {
	for i := range z.local {
		l := z.local[i].name
		at := len(name) - len(l)
		if at >= 0 && string(name[at:]) == l && (at == 0 || name[at-1] == '.') {
			return &z.local[i]
		}
	}
	return nil
}

// packLocal packs what does not depend on a name.
func (z *Zone) packLocal() {
	for i := range z.local {
		l := &z.local[i]
		no := &dns.Msg{Ns: []dns.RR{z.soa(l.name)}}
		no.Authoritative = true
		l.nodata = packedAlone(no)
		no.Rcode = dns.RcodeNameError
		l.missing = packedAlone(no)
	}
	any := &dns.Msg{Answer: []dns.RR{&dns.HINFO{Hdr: header(".", dns.TypeHINFO), Cpu: "RFC8482"}}}
	any.Authoritative = true
	z.any = packedAlone(any)
	z.any.body = append([]byte{0xC0, headerLen}, z.any.body[1:]...) // its owner is the question's name
	z.any.ends[0]++
}

func packedAlone(m *dns.Msg) *answer {
	a, err := packAlone(m)
	if err != nil {
		return failure(dns.RcodeServerFailure)
	}
	return a.fixed(0)
}

// lower gives the name in lower case. Unpacked names are ASCII: other bytes are escaped.
func lower(name string) string { return strings.ToLower(name) }

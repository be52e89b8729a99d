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

// lookup answers a question from memory. At most limit records of a kind are given; cut says
// that there are more.
func (v View) lookup(q dns.Question, limit int) (m dns.Msg, is verdict, cut bool) {
	if v.Zone == nil {
		return m, unready, false
	}
	name := lower(q.Name)
	zone, ours := v.Zone.owner(name)
	n := v.find(name)
	switch {
	case n == nil && !ours:
		return m, foreign, false
	case n == nil:
		m.Ns = []dns.RR{v.Zone.soa(zone)}
		return m, missing, false
	case n.outside && !ourType(q.Qtype):
		return m, foreign, false
	}
	cut = n.fill(&m, q, limit)
	if name == v.Zone.domain && q.Qtype == dns.TypeSOA {
		m.Answer = append(m.Answer, v.Zone.soa(q.Name))
	}
	if len(m.Answer) == 0 {
		if !ours {
			zone = name // an alias or a reverse name: no name above it is ours
		}
		m.Ns = []dns.RR{v.Zone.soa(zone)}
	}
	return m, answered, cut
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

// fill writes the node's records of the type.
func (n *node) fill(m *dns.Msg, q dns.Question, limit int) (cut bool) {
	switch q.Qtype {
	case dns.TypeA, dns.TypeAAAA:
		m.Answer, cut = n.addresses(q, limit)
	case dns.TypeSRV:
		cut = n.services(m, q.Name, limit)
	case dns.TypePTR:
		if n.text != "" {
			m.Answer = []dns.RR{&dns.PTR{Hdr: header(q.Name, dns.TypePTR), Ptr: n.text}}
		}
	case dns.TypeNS:
		for _, s := range n.servers {
			m.Answer = append(m.Answer, &dns.NS{Hdr: header(q.Name, dns.TypeNS), Ns: s})
		}
	case dns.TypeANY: // RFC 8482: one small record instead of all there is
		m.Answer = []dns.RR{&dns.HINFO{Hdr: header(q.Name, dns.TypeHINFO), Cpu: "RFC8482"}}
	}
	return cut
}

// addresses gives A or AAAA records, starting anywhere: clients mostly take the first.
func (n *node) addresses(q dns.Question, limit int) (out []dns.RR, cut bool) {
	for i, from := 0, start(len(n.addrs)); i < len(n.addrs); i++ {
		a := n.addrs[(from+i)%len(n.addrs)]
		if a.Is4() != (q.Qtype == dns.TypeA) {
			continue
		}
		if len(out) == limit {
			return out, true
		}
		out = append(out, address(q.Name, a))
	}
	return out, false
}

// services gives SRV records, and the addresses of their targets beside them. Priority and
// weight are the same for all: every ready endpoint is as good.
func (n *node) services(m *dns.Msg, name string, limit int) (cut bool) {
	told := map[target]bool{}
	for i, from := 0, start(len(n.targets)); i < len(n.targets); i++ {
		if i == limit {
			return true
		}
		t := n.targets[(from+i)%len(n.targets)]
		m.Answer = append(m.Answer, &dns.SRV{Hdr: header(name, dns.TypeSRV), Priority: 10, Weight: 10, Port: t.port, Target: t.name})
		if at := (target{name: t.name, addr: t.addr}); !told[at] {
			told[at] = true
			m.Extra = append(m.Extra, address(t.name, t.addr))
		}
	}
	return false
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
		server = s[0]
	}
	return &dns.SOA{Hdr: header(owner, dns.TypeSOA), Ns: server, Mbox: "hostmaster" + z.suffix, Serial: z.serial,
		Refresh: 60, Retry: 10, Expire: 3600, Minttl: ttl}
}

// lower gives the name in lower case. Unpacked names are ASCII: other bytes are escaped.
func lower(name string) string { return strings.ToLower(name) }

package dnsd

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// answer is a reply but for its header, its question and its EDNS, packed once and then given to
// whoever asks. It is never changed.
type answer struct {
	rcode  int
	bits   [2]byte // of the header: AA, TC, RA, AD
	counts [3]int  // records of the answer, authority and additional sections
	body   []byte  // the records; names in them may point back to the question, which is always in one place
	ends   []int   // where each record in body ends
	turn   int     // when not 0: body is records of this length, which may come in any order

	ttls  []int     // where in body the TTLs are that run down; none for our own records
	since time.Time // when they began to
	stale bool      // they have run down: RFC 8767
}

// failure is an answer without records.
func failure(rcode int) *answer { return &answer{rcode: rcode} }

// pack writes the sections of m as the answer to a question.
func pack(name string, qtype uint16, m *dns.Msg) (*answer, error) {
	m.Question, m.Compress = []dns.Question{{Name: name, Qtype: qtype, Qclass: dns.ClassINET}}, true
	return packed(m)
}

// packAlone writes the sections of m so that they are right after any question.
func packAlone(m *dns.Msg) (*answer, error) {
	m.Question, m.Compress = []dns.Question{{Name: ".", Qclass: dns.ClassINET}}, false
	return packed(m)
}

func packed(m *dns.Msg) (*answer, error) {
	raw, err := m.Pack()
	if err != nil {
		return nil, err
	}
	start := skipName(raw, headerLen) + 4
	a := &answer{rcode: m.Rcode, bits: [2]byte{raw[2] & (bitAA | bitTC), raw[3] & (bitRA | bitAD)},
		counts: [3]int{len(m.Answer), len(m.Ns), len(m.Extra)}, body: slices.Clone(raw[start:])}
	for at := 0; at < len(a.body); {
		at = skipName(a.body, at)
		if at+10 > len(a.body) {
			return nil, errors.New("a record is cut")
		}
		a.ttls = append(a.ttls, at+4)
		at += 10 + int(binary.BigEndian.Uint16(a.body[at+8:]))
		a.ends = append(a.ends, at)
	}
	if len(a.ends) != a.counts[0]+a.counts[1]+a.counts[2] {
		return nil, errors.New("a record is missing")
	}
	return a, nil
}

// fixed makes an answer one of our own: its TTLs do not run down, and addresses may be turned around.
func (a *answer) fixed(qtype uint16) *answer {
	a.ttls = nil
	address := qtype == dns.TypeA || qtype == dns.TypeAAAA
	if address && a.counts[0] > 1 && a.counts[1]+a.counts[2] == 0 && len(a.body) == a.ends[0]*len(a.ends) {
		a.turn, a.ends = a.ends[0], nil
	}
	return a
}

// fit gives how many of the records fit, and the bytes of them.
func (a *answer) fit(room int) (records, size int) {
	all := a.counts[0] + a.counts[1] + a.counts[2]
	if len(a.body) <= room {
		return all, len(a.body)
	}
	if a.turn > 0 {
		records = max(0, room/a.turn)
		return records, records * a.turn
	}
	n, exact := slices.BinarySearch(a.ends, room)
	if exact {
		n++
	}
	if n == 0 {
		return 0, 0
	}
	return n, a.ends[n-1]
}

// write appends the answer to q to an empty buffer, in at most room bytes: the question in the
// asker's own case (which some use as a secret), the records that fit, and EDNS when the asker speaks
// it, with a cookie when there is one. Only what is missing of the answer itself makes it cut.
func (q *question) write(to []byte, a *answer, room int, recurse bool, cookie []byte, now time.Time) []byte {
	opt := 0
	if q.edns {
		if opt = optLen; len(cookie) > 0 {
			opt += 4 + len(cookie)
		}
	}
	to = append(to, q.raw[:q.end]...)
	records, size := a.fit(room - q.end - opt)
	q.header(to, a, records, recurse)
	if a.turn > 0 && records > 0 {
		to = a.turned(to, size)
	} else {
		to = append(to, a.body[:size]...)
	}
	if a.ttls != nil {
		a.runDown(to[q.end:], records, now)
	}
	if q.edns {
		to = q.appendOPT(to, a.rcode, cookie)
	}
	return to
}

// header writes the first 12 bytes.
func (q *question) header(to []byte, a *answer, records int, recurse bool) {
	to[2] = bitQR | q.raw[2]&bitRD | a.bits[0]
	to[3] = q.raw[3]&bitCD | a.bits[1] | byte(a.rcode&15)
	if recurse {
		to[3] |= bitRA
	}
	if records < a.counts[0]+a.counts[1] {
		to[2] |= bitTC
	}
	for i, n := range a.counts {
		n = min(n, records)
		records -= n
		binary.BigEndian.PutUint16(to[6+2*i:], uint16(n))
	}
	if q.edns {
		binary.BigEndian.PutUint16(to[10:], binary.BigEndian.Uint16(to[10:])+1)
	}
}

// turned appends size bytes of the records, from any one on: clients mostly take the first.
func (a *answer) turned(to []byte, size int) []byte {
	from := a.turn * int(rand.Uint32N(uint32(len(a.body)/a.turn)))
	first := min(size, len(a.body)-from)
	to = append(to, a.body[from:from+first]...)
	return append(to, a.body[:size-first]...)
}

// staleTTL is what records get that are older than they should be (RFC 8767, section 4), in seconds.
const staleTTL = 30

// runDown takes off the TTLs what has passed, and bounds them.
func (a *answer) runDown(body []byte, records int, now time.Time) {
	spent := uint32(max(0, now.Sub(a.since)/time.Second))
	for _, at := range a.ttls[:records] {
		ttl := min(binary.BigEndian.Uint32(body[at:]), uint32(maxKeep/time.Second))
		if ttl -= min(ttl, spent); a.stale {
			ttl = staleTTL
		}
		binary.BigEndian.PutUint32(body[at:], ttl)
	}
}

// appendOPT appends the EDNS record (RFC 6891, section 6.1.2).
func (q *question) appendOPT(to []byte, rcode int, cookie []byte) []byte {
	to = append(to, 0, 0, byte(dns.TypeOPT), maxUDP>>8, maxUDP&255, byte(rcode>>4), 0, 0, 0, 0, 0)
	if q.dnssec {
		to[len(to)-4] = 0x80
	}
	if len(cookie) > 0 {
		to[len(to)-1] = byte(4 + len(cookie))
		to = append(to, 0, byte(dns.EDNS0COOKIE), 0, byte(len(cookie)))
		to = append(to, cookie...)
	}
	return to
}

// short gives a reply of a header alone, to a message that may be nothing but a header.
func short(to, raw []byte, rcode int) []byte {
	to = append(to, raw[:2]...)
	return append(to, bitQR|raw[2]&(0x78|bitRD), byte(rcode), 0, 0, 0, 0, 0, 0, 0, 0)
}

package dnsd

import (
	"context"
	"encoding/binary"
	"net/netip"

	"github.com/miekg/dns"
)

// Sizes of messages, in bytes.
const (
	headerLen  = 12
	plainUDP   = 512  // without EDNS (RFC 1035, section 2.3.4)
	maxUDP     = 1232 // fits a packet everywhere, so that no answer is fragmented
	maxMessage = 65535
)

// query is a question that other servers are asked.
type query struct {
	req   *dns.Msg
	asker netip.Addr
	size  int
}

// respond decides what becomes of a message: a reply, a question for other servers, or neither.
// It is given the raw bytes of anyone.
func (s *Server) respond(raw []byte, asker netip.Addr, tcp bool) (reply []byte, ask *query) {
	if len(raw) < headerLen || raw[2]&0x80 != 0 {
		return nil, nil // no header, or itself an answer: replying could go on for ever
	}
	view := s.config.Source.View(asker)
	if !view.Recurse && !tcp {
		switch s.rate.pass(asker) {
		case drop:
			return nil, nil
		case slip:
			return short(raw, dns.RcodeSuccess, true), nil
		}
	}
	if opcode := int(raw[2]>>3) & 15; opcode != dns.OpcodeQuery {
		return short(raw, dns.RcodeNotImplemented, false), nil
	}
	req := new(dns.Msg)
	if req.Unpack(raw) != nil || len(req.Question) != 1 {
		return short(raw, dns.RcodeFormatError, false), nil
	}
	q := &query{req: req, asker: asker, size: replySize(req, tcp)}
	m, recurse := q.local(view)
	if recurse {
		if m := s.forward.cached(q); m != nil {
			return q.pack(m), nil
		}
		return nil, q
	}
	return q.pack(m), nil
}

// recurse asks other servers.
func (s *Server) recurse(ctx context.Context, q *query) []byte {
	m, err := s.forward.ask(ctx, q)
	if err != nil {
		s.config.Logger.Debug("a name is not resolved", "name", q.req.Question[0].Name, "asker", q.asker, "error", err)
		m = q.reply(dns.RcodeServerFailure)
		m.RecursionAvailable = true
	}
	return q.pack(m)
}

// local answers what can be answered here, or tells that other servers must be asked.
func (q *query) local(v View) (m *dns.Msg, recurse bool) {
	question := q.req.Question[0]
	if o := q.req.IsEdns0(); o != nil && o.Version() != 0 {
		return q.reply(dns.RcodeBadVers), false
	}
	if question.Qclass != dns.ClassINET || question.Qtype == dns.TypeAXFR || question.Qtype == dns.TypeIXFR {
		return q.reply(dns.RcodeRefused), false
	}
	found, is, cut := v.lookup(question, q.limit(question.Qtype))
	switch {
	case is == unready:
		m = q.reply(dns.RcodeServerFailure)
	case is == foreign && !v.Recurse:
		return q.reply(dns.RcodeRefused), false
	case is == foreign && question.Qtype == dns.TypeANY:
		m = q.reply(dns.RcodeNotImplemented) // nobody needs it, and it makes big answers
	case is == foreign:
		return nil, true
	default:
		m = q.reply(dns.RcodeSuccess)
		m.Answer, m.Ns, m.Extra = found.Answer, found.Ns, append(found.Extra, m.Extra...)
		m.Authoritative, m.Truncated = true, cut
	}
	if is == missing {
		m.Rcode = dns.RcodeNameError
	}
	m.RecursionAvailable = v.Recurse
	return m, false
}

// limit bounds the records that are made for a reply by what can fit at all: 16 bytes are the
// least for an address, and about 48 for a service record with its address.
func (q *query) limit(t uint16) int {
	if t == dns.TypeSRV {
		return max(1, q.size/48)
	}
	return max(1, q.size/16)
}

// reply starts an answer: the question as it was asked, in its own case, and EDNS when the asker
// speaks it.
func (q *query) reply(rcode int) *dns.Msg {
	m := &dns.Msg{Compress: true, Question: q.req.Question}
	m.Id, m.Response, m.Rcode = q.req.Id, true, rcode
	m.RecursionDesired, m.CheckingDisabled = q.req.RecursionDesired, q.req.CheckingDisabled
	if o := q.req.IsEdns0(); o != nil {
		m.SetEdns0(maxUDP, o.Do())
	}
	return m
}

// pack makes the bytes of a reply that fits.
func (q *query) pack(m *dns.Msg) []byte {
	cut := m.Truncated
	m.Truncate(q.size)
	m.Truncated = m.Truncated || cut
	out, err := m.Pack()
	if err != nil { // an answer of another server that cannot be written again
		fail := q.reply(dns.RcodeServerFailure)
		if out, err = fail.Pack(); err != nil {
			return nil
		}
	}
	return out
}

// replySize gives how big the reply may be.
func replySize(req *dns.Msg, tcp bool) int {
	if tcp {
		return maxMessage
	}
	if o := req.IsEdns0(); o != nil {
		return min(max(int(o.UDPSize()), plainUDP), maxUDP)
	}
	return plainUDP
}

// short gives a reply of a header alone, to a message that may be nothing but a header.
func short(raw []byte, rcode int, truncated bool) []byte {
	out := make([]byte, headerLen)
	copy(out, raw[:2])
	out[2] = 0x80 | raw[2]&0x79 // opcode and RD as they came
	if truncated {
		out[2] |= 0x02
		if end := questionEnd(raw); end > 0 { // clients want to see their question
			out = append(out, raw[headerLen:end]...)
			binary.BigEndian.PutUint16(out[4:], 1)
		}
	}
	out[3] = byte(rcode)
	return out
}

// questionEnd gives where the only question of a message ends, or 0.
func questionEnd(raw []byte) int {
	if binary.BigEndian.Uint16(raw[4:]) != 1 {
		return 0
	}
	for at := headerLen; at < len(raw) && raw[at] < 64; at += 1 + int(raw[at]) {
		if raw[at] == 0 && at+5 <= len(raw) && at < headerLen+255 {
			return at + 5
		}
	}
	return 0
}

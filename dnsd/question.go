package dnsd

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

// Sizes of messages, in bytes.
const (
	headerLen  = 12
	plainUDP   = 512  // without EDNS (RFC 1035, section 2.3.4)
	maxUDP     = 1232 // fits a packet everywhere, so that no answer is fragmented
	maxMessage = 65535
	maxQuery   = 4096 // of a query; real ones have some dozens
	maxName    = 255  // of a name on the wire, with its lengths (RFC 1035, section 2.3.4)
	optLen     = 11   // of an OPT record without options
)

// Bits of the third and fourth byte of a header (RFC 1035, section 4.1.1; RFC 4035, section 3.2).
const (
	bitQR = 0x80
	bitAA = 0x04
	bitTC = 0x02
	bitRD = 0x01

	bitRA = 0x80
	bitAD = 0x20
	bitCD = 0x10
)

// question is what a query asks, read from the bytes of anyone. It is read into again and again, so that
// a query costs no memory.
type question struct {
	raw   []byte // the query
	end   int    // raw[headerLen:end] is the question itself
	name  []byte // lower case, as miekg/dns writes it: with a final dot, and what is odd escaped
	qtype uint16
	class uint16

	edns    bool
	version uint8
	dnssec  bool   // DO: signatures are wanted
	udpSize int    // what the asker takes, without EDNS plainUDP
	cookie  []byte // RFC 7873: the client's 8 bytes, and the server's after them when it has some

	buf [4*maxName + 1]byte // name is in here
}

// Rcodes of messages that are no queries of ours; ignored gets no reply at all.
const ignored = -1

// read takes a message apart. Its rcode is NOERROR when q holds a question.
func (q *question) read(raw []byte) (rcode int) {
	q.raw, q.edns, q.version, q.dnssec, q.udpSize, q.cookie = raw, false, 0, false, plainUDP, nil
	if len(raw) < headerLen || raw[2]&bitQR != 0 {
		return ignored // no header, or itself an answer: replying could go on for ever
	}
	if raw[2]>>3&15 != dns.OpcodeQuery {
		return dns.RcodeNotImplemented
	}
	if binary.BigEndian.Uint16(raw[4:]) != 1 || !q.readName() || !q.readRecords() {
		return dns.RcodeFormatError
	}
	return dns.RcodeSuccess
}

// readName reads the question. A pointer in its name could lead nowhere but into the header.
func (q *question) readName() bool {
	at := headerLen
	q.name = q.buf[:0]
	for {
		if at >= len(q.raw) || q.raw[at] > 63 {
			return false
		}
		n := int(q.raw[at])
		if at++; n == 0 {
			break
		}
		if at+n >= len(q.raw) || at+n-headerLen > maxName-1 {
			return false
		}
		for _, b := range q.raw[at : at+n] {
			q.name = appendByte(q.name, b)
		}
		q.name = append(q.name, '.')
		at += n
	}
	if len(q.name) == 0 {
		q.name = append(q.name, '.')
	}
	if at+4 > len(q.raw) {
		return false
	}
	q.qtype, q.class = binary.BigEndian.Uint16(q.raw[at:]), binary.BigEndian.Uint16(q.raw[at+2:])
	q.end = at + 4
	return true
}

// appendByte writes a byte of a label. What is no letter, digit, hyphen or underscore can be in no
// name of ours; it is escaped as in zone files, so that two names never look the same.
func appendByte(to []byte, b byte) []byte {
	switch {
	case 'A' <= b && b <= 'Z':
		return append(to, b+'a'-'A')
	case b < ' ' || b > '~':
		return append(to, '\\', '0'+b/100, '0'+b/10%10, '0'+b%10)
	case b == '.' || b == '(' || b == ')' || b == ';' || b == '"' || b == '\\' || b == ' ' || b == '\'' || b == '@':
		return append(to, '\\', b)
	}
	return append(to, b)
}

// readRecords goes through what follows the question: an OPT record counts, others do not.
func (q *question) readRecords() bool {
	before := int(binary.BigEndian.Uint16(q.raw[6:])) + int(binary.BigEndian.Uint16(q.raw[8:]))
	all := before + int(binary.BigEndian.Uint16(q.raw[10:]))
	at := q.end
	for i := range all {
		owner := at
		at = skipName(q.raw, at)
		if at+10 > len(q.raw) {
			return false
		}
		end := at + 10 + int(binary.BigEndian.Uint16(q.raw[at+8:]))
		if end > len(q.raw) {
			return false
		}
		if i >= before && binary.BigEndian.Uint16(q.raw[at:]) == dns.TypeOPT {
			if q.edns || q.raw[owner] != 0 || !q.readOPT(q.raw[at:end]) {
				return false
			}
		}
		at = end
	}
	return at == len(q.raw)
}

// skipName gives where a name ends, or a place beyond the message.
func skipName(raw []byte, at int) int {
	for at < len(raw) {
		switch n := int(raw[at]); {
		case n == 0:
			return at + 1
		case n >= 0xC0:
			return at + 2
		case n > 63:
			return len(raw) + 1
		default:
			at += 1 + n
		}
	}
	return len(raw) + 1
}

// readOPT reads an OPT record from its type on (RFC 6891, section 6.1.2).
func (q *question) readOPT(rr []byte) bool {
	q.edns, q.udpSize = true, max(int(binary.BigEndian.Uint16(rr[2:])), plainUDP)
	q.version, q.dnssec = rr[5], rr[6]&0x80 != 0
	for options := rr[10:]; len(options) > 0; {
		if len(options) < 4 {
			return false
		}
		n := 4 + int(binary.BigEndian.Uint16(options[2:]))
		if n > len(options) {
			return false
		}
		if binary.BigEndian.Uint16(options) == dns.EDNS0COOKIE {
			if q.cookie != nil || n != 4+8 && (n < 4+16 || n > 4+40) {
				return false // RFC 7873, section 5.2.2
			}
			q.cookie = options[4:n]
		}
		options = options[n:]
	}
	return true
}

func (q *question) unchecked() bool { return q.raw[3]&bitCD != 0 }

// room gives how big a reply may be.
func (q *question) room(tcp bool) int {
	if tcp {
		return maxMessage
	}
	return min(q.udpSize, maxUDP)
}

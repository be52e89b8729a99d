package dnsd

import (
	"fmt"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// The bounds of how long another server's answer is kept.
const (
	maxKeep   = 5 * time.Minute  // longer would hide changes, and saves little
	maxNoKeep = 30 * time.Second // of "no such name"
)

// key is a question as other servers are asked it.
type key struct {
	name      string // lower case
	qtype     uint16
	dnssec    bool // signatures are wanted
	unchecked bool // and are not to be checked
}

func (k key) String() string {
	return fmt.Sprintf("%s %d %t %t", k.name, k.qtype, k.dnssec, k.unchecked)
}

func (q *query) key() key {
	o := q.req.IsEdns0()
	return key{name: lower(q.req.Question[0].Name), qtype: q.req.Question[0].Qtype, dnssec: o != nil && o.Do(), unchecked: q.req.CheckingDisabled}
}

// cache keeps answers of other servers, at most size of them.
type cache struct {
	size int

	mu   sync.Mutex
	kept map[key]kept
}

type kept struct {
	msg   *dns.Msg // never changed
	from  time.Time
	until time.Time
}

// get gives a copy of an answer with what is left of its TTLs.
func (c *cache) get(k key, now time.Time) *dns.Msg {
	c.mu.Lock()
	e, ok := c.kept[k]
	c.mu.Unlock()
	if !ok || !now.Before(e.until) {
		return nil
	}
	m := e.msg.Copy()
	spent, most := uint32(now.Sub(e.from)/time.Second), uint32(maxKeep/time.Second)
	for _, rr := range records(m) {
		h := rr.Header()
		h.Ttl = min(h.Ttl, most)
		h.Ttl -= min(spent, h.Ttl)
	}
	return m
}

// put keeps an answer for as long as it says, within bounds.
func (c *cache) put(k key, m *dns.Msg, now time.Time) {
	d := keep(m)
	if d <= 0 || c.size <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept == nil {
		c.kept = map[key]kept{}
	}
	if len(c.kept) >= c.size {
		c.makeRoomLocked(now)
	}
	c.kept[k] = kept{msg: m, from: now, until: now.Add(d)}
}

// makeRoomLocked drops what is over, of some entries at random, and one in any case.
func (c *cache) makeRoomLocked(now time.Time) {
	looked := 0
	for k, e := range c.kept {
		if looked == 0 || now.After(e.until) {
			delete(c.kept, k)
		}
		if looked++; looked == 32 {
			return
		}
	}
}

// records gives those whose TTL counts: an OPT record has flags in its place.
func records(m *dns.Msg) (out []dns.RR) {
	for _, part := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range part {
			if rr.Header().Rrtype != dns.TypeOPT {
				out = append(out, rr)
			}
		}
	}
	return out
}

// keep gives how long an answer may be kept: its least TTL, and for a "no" that of the SOA
// (RFC 2308, section 5). Errors, cut answers and those without a TTL are not.
func keep(m *dns.Msg) time.Duration {
	if m.Truncated || m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return 0
	}
	most, rrs := maxKeep, records(m)
	if len(m.Answer) == 0 || m.Rcode == dns.RcodeNameError {
		most = maxNoKeep
		soa := false
		for _, rr := range m.Ns {
			if s, ok := rr.(*dns.SOA); ok {
				soa, most = true, min(most, time.Duration(s.Minttl)*time.Second)
			}
		}
		if !soa {
			return 0
		}
	}
	for _, rr := range rrs {
		most = min(most, time.Duration(rr.Header().Ttl)*time.Second)
	}
	return most
}

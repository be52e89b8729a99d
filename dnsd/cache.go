package dnsd

import (
	"fmt"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// The bounds of how long another server's answer is kept.
const (
	maxKeep    = 5 * time.Minute  // longer would hide changes, and saves little
	maxNoKeep  = 30 * time.Second // of "no such name"
	failedKeep = time.Second      // of no answer at all (RFC 9520, section 3.2)
	maxStale   = 24 * time.Hour   // an answer that has run down is given, when there is no better one, as long as this
	staleAgain = 30 * time.Second // and then is asked for again only after this (RFC 8767, section 5)
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

// cache keeps answers of other servers, at most size of them.
type cache struct {
	size int

	mu   sync.RWMutex
	kept map[key]kept
}

type kept struct {
	answer *answer
	until  time.Time
	again  time.Time // not before this is it asked for again, though it is stale
}

// get gives what is kept for a question, also when its time is over.
func (c *cache) get(name []byte, qtype uint16, dnssec, unchecked bool) (kept, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	k, ok := c.kept[key{string(name), qtype, dnssec, unchecked}] // makes no string
	return k, ok
}

// put keeps an answer for as long as it says, within bounds.
func (c *cache) put(k key, a *answer, d time.Duration, now time.Time) {
	if d <= 0 || c.size <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept == nil {
		c.kept = map[key]kept{}
	}
	if _, there := c.kept[k]; !there && len(c.kept) >= c.size {
		c.makeRoomLocked(now)
	}
	c.kept[k] = kept{answer: a, until: now.Add(d)}
}

// stale takes note that there is no better answer for now, and gives the old one.
func (c *cache) stale(k key, now time.Time) *answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.kept[k]
	if !ok || now.Sub(e.until) >= maxStale || e.answer.rcode == dns.RcodeServerFailure {
		return nil
	}
	if !e.answer.stale {
		old := *e.answer
		old.stale = true
		e.answer = &old
	}
	e.again = now.Add(staleAgain)
	c.kept[k] = e
	return e.answer
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

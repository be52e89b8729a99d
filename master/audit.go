package master

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Strangers can be refused as often as they like, so only so many of their refusals are recorded. What is left out is counted, and
// the next record of a refusal tells how many there were. What people and hosts do is always recorded.
const (
	recordsPerAddr = 30 // in failureWindow
	recordsPerSec  = 10 // of all addresses, for ever
	recordsBurst   = 300
)

// audits writes the audit records: lines of the log with log=audit.
type audits struct {
	log *slog.Logger

	mu     sync.Mutex
	counts map[netip.Addr]failureCount // refusals of strangers
	all    *rate.Limiter
	left   int // refusals without a record since the last one with
}

func newAudits(log *slog.Logger) *audits {
	return &audits{log: log.With("log", "audit"), counts: map[netip.Addr]failureCount{}, all: rate.NewLimiter(recordsPerSec, recordsBurst)}
}

// call records what became of a request. A secret is in none of it.
func (a *audits) call(rt route, c *call, err error) {
	from := remoteAddr(c.Request)
	attrs := []any{"identity", c.who.String(), "from", from.String(), "route", rt.method + " " + rt.path, "object", c.objectName(), "result", c.result}
	if c.why != "" {
		attrs = append(attrs, "why", c.why)
	}
	if err != nil && c.who.kind == nobody {
		left, ok := a.stranger(from, time.Now())
		if !ok {
			return
		}
		if left > 0 {
			attrs = append(attrs, "unrecorded", left)
		}
	}
	a.log.Info("call", attrs...)
}

// stranger tells whether a refusal of somebody unknown is recorded, and how many before it were not.
func (a *audits) stranger(from netip.Addr, now time.Time) (left int, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.counts) >= failureAddrs {
		clear(a.counts)
	}
	n := a.counts[from]
	if now.Sub(n.since) > failureWindow {
		n = failureCount{since: now}
	}
	n.n++
	a.counts[from] = n
	if n.n > recordsPerAddr || !a.all.AllowN(now, 1) {
		a.left++
		return 0, false
	}
	left, a.left = a.left, 0
	return left, true
}

package dnsd

import (
	"net/netip"
	"sync"
	"time"
)

// streamCount counts open TCP connections. Strangers have a part of them, and each asker a part, so that
// nobody keeps the others out.
type streamCount struct {
	limits Limits

	mu        sync.Mutex
	all       int
	strangers int
	askers    map[netip.Addr]int
}

func newStreamCount(l Limits) *streamCount {
	return &streamCount{limits: l, askers: map[netip.Addr]int{}}
}

// enter takes a place for a connection; leave gives it back.
func (c *streamCount) enter(asker netip.Addr, stranger bool) (leave func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= c.limits.Streams || c.askers[asker] >= c.limits.AskerTCP || stranger && c.strangers >= c.limits.StrangerTCP {
		return nil, false
	}
	c.addLocked(asker, stranger, 1)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.addLocked(asker, stranger, -1)
	}, true
}

func (c *streamCount) addLocked(asker netip.Addr, stranger bool, n int) {
	c.all += n
	if stranger {
		c.strangers += n
	}
	if c.askers[asker] += n; c.askers[asker] == 0 {
		delete(c.askers, asker)
	}
}

// idle gives how long a connection may be silent: less when places run short (RFC 7766, section 6.2.3).
func (c *streamCount) idle() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if 2*c.all >= c.limits.Streams || 2*c.strangers >= c.limits.StrangerTCP {
		return c.limits.StreamIdle / 8
	}
	return c.limits.StreamIdle
}

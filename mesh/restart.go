package mesh

import (
	"context"
	"sync"
	"time"

	"gearmesh.dev/api"
)

// graces are the hosts that said they restart, and until when they are spared.
type graces struct {
	mu    sync.Mutex
	until map[api.Name]time.Time
}

func (g *graces) put(host api.Name, until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.until == nil {
		g.until = map[api.Name]time.Time{}
	}
	g.until[host] = until
}

// has tells whether a host is spared now, and forgets a grace that is over.
func (g *graces) has(host api.Name, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	until, ok := g.until[host]
	if ok && !now.Before(until) {
		delete(g.until, host)
	}
	return ok && now.Before(until)
}

// expired fires when the next grace is over; it never does when there is none.
func (g *graces) expired() <-chan time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	var next time.Time
	for _, t := range g.until {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	if next.IsZero() {
		return nil
	}
	return time.After(max(time.Until(next), time.Millisecond))
}

// sayRestart tells the others, and gives gossip three rounds to carry it.
func (n *Node) sayRestart(ctx context.Context) {
	if len(n.alive()) < 2 {
		return
	}
	n.cast(event{eventRestart, n.config.Name, 0})
	pause(ctx, 3*n.config.Tuning.GossipInterval)
}

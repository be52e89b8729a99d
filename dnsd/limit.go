package dnsd

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// pass is what becomes of a query of a stranger.
type pass int

const (
	allow pass = iota
	slip       // answer "use TCP": a forged asker gets nothing bigger than it sent
	drop
)

// rateLimit bounds the answers to each network. Of strangers, so that a flood with a forged sender
// is not passed on; of pods, each by itself, so that one does not take the server from the others.
// Its memory is fixed: networks that fall on one slot share it.
type rateLimit struct {
	rate   float64 // a second, and the burst
	v4, v6 int     // bits of a network
	seed   maphash.Seed
	slots  [1024]slot
}

type slot struct {
	mu     sync.Mutex
	net    netip.Prefix
	tokens float64
	at     time.Time
	over   int
}

func newRateLimit(rate, v4, v6 int) *rateLimit {
	return &rateLimit{rate: float64(rate), v4: v4, v6: v6, seed: maphash.MakeSeed()}
}

func (r *rateLimit) pass(asker netip.Addr, now time.Time) pass {
	bits := r.v4
	if asker.Is6() {
		bits = r.v6
	}
	network, err := asker.Prefix(bits)
	if err != nil {
		return drop
	}
	s := &r.slots[maphash.Comparable(r.seed, network)%uint64(len(r.slots))]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at.IsZero() || (s.net != network && now.Sub(s.at) > time.Second) {
		s.net, s.tokens, s.over = network, r.rate, 0
	} else {
		s.tokens = min(r.rate, s.tokens+max(0, now.Sub(s.at).Seconds())*r.rate)
	}
	s.at = now
	if s.tokens >= 1 {
		s.tokens--
		return allow
	}
	if s.over++; s.over%2 == 0 {
		return slip
	}
	return drop
}

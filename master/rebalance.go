package master

import (
	"context"
	"net/http"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/loop"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/master/control"
	"gearmesh.dev/master/store"
)

// nextMoves answers GET /v1/rebalance.
func (m *Master) nextMoves(c *call) error {
	term := m.term()
	if term == 0 {
		return notLeading()
	}
	var out api.RebalancePlan
	out.Pods, out.Held = m.views.current(term).NextMoves(pki.NewUID)
	return c.answer(http.StatusOK, out)
}

// movePeriod is how often the leader looks whether pods would be better off elsewhere.
const movePeriod = 5 * time.Second

// balancer is what the leader keeps of that from one look to the next.
type balancer struct {
	rests  *control.Rests
	looked time.Time
}

// rebalance begins moves of pods. It is called when the controllers have nothing else to do.
func (m *Master) rebalance(ctx context.Context, lead store.Lead, v *view, b *balancer) {
	start := time.Now()
	if start.Sub(b.looked) < movePeriod {
		return
	}
	b.looked = start
	moves := v.Rebalance(b.rests, pki.NewUID)
	spent := time.Since(start)
	b.rests.Note(v.Now, moves)
	m.control(ctx, lead, moves)
	loop.Sleep(ctx, controlRest*spent)
}

// Package loop runs one pass of work at a time: when kicked, and at the latest each period.
// Kicks that arrive during a pass merge into one following pass.
package loop

import (
	"context"
	"time"
)

// Kick wakes a loop. The zero Kick is of no use; make one with NewKick.
type Kick chan struct{}

// NewKick makes a kick with room for one wake-up.
func NewKick() Kick { return make(Kick, 1) }

// Wake asks for a pass and never blocks.
func (k Kick) Wake() {
	select {
	case k <- struct{}{}:
	default:
	}
}

// Run calls pass at once, after each kick and at least each period, until ctx ends. A burst of
// kicks within settle becomes one pass.
func Run(ctx context.Context, k Kick, settle, period time.Duration, pass func(context.Context)) {
	timer := time.NewTimer(period)
	defer timer.Stop()
	for ctx.Err() == nil {
		pass(ctx)
		timer.Reset(period)
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-k:
			Sleep(ctx, settle)
		}
	}
}

// Sleep waits for d or until ctx ends, and tells whether the time passed in full.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

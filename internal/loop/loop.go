// Package loop runs one pass of work at a time: when kicked, and at the latest each period.
// Kicks that arrive during a pass merge into one following pass. The first kick after a rest is acted on at once;
// only passes that follow each other closely are kept apart.
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

// Run calls pass at once, after each kick and at least each period, until ctx ends. Passes begin at least gap apart,
// so that a burst of kicks becomes one pass for its first and one for the rest.
func Run(ctx context.Context, k Kick, gap, period time.Duration, pass func(context.Context)) {
	RunPaced(ctx, k, gap, func(ctx context.Context) time.Duration { pass(ctx); return period })
}

// RunPaced is Run with a period that each pass gives for the time until the next one.
func RunPaced(ctx context.Context, k Kick, gap time.Duration, pass func(context.Context) time.Duration) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		began := time.Now()
		timer.Reset(pass(ctx))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-k:
			Sleep(ctx, gap-time.Since(began))
			select {
			case <-k: // the pass to come sees what this one is about
			default:
			}
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

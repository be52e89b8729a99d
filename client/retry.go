package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"gearmesh.dev/api"
)

// The back-off between attempts doubles from the first to the last of these.
const (
	firstWait = 100 * time.Millisecond
	lastWait  = 5 * time.Second
)

// backoff gives growing waits. Each is drawn between half of its value and all of it, so that the
// hosts that lost one master do not all come back at once.
type backoff struct{ tries int }

func (b *backoff) next() time.Duration {
	wait := min(lastWait, firstWait<<min(b.tries, 10))
	b.tries++
	return wait/2 + rand.N(wait/2)
}

// reset starts over after a success.
func (b *backoff) reset() { b.tries = 0 }

// pause waits and tells whether the context still runs.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// again tells whether a call that ended with err should be tried again, and how long the master
// wants it to wait at least.
func again(err error, idempotent bool) (wait time.Duration, yes bool) {
	var connect *ConnectError
	if errors.As(err, &connect) {
		return 0, !connect.permanent() && (idempotent || connect.unsent())
	}
	var a *answered
	if !errors.As(err, &a) || a.after > lastWait {
		return 0, false
	}
	return a.after, idempotent && (a.problem.Code == api.CodeUnavailable || a.problem.Code == api.CodeRateLimited)
}

package runner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/engine"
)

// How many failures in a row count, of each check, unless the check says.
const (
	readyFailures   = 2 // one late answer must not take a container out of all links
	liveFailures    = 3
	startupFailures = 30
)

// vitals is what the checks have found out of a running container, for those that must act on it.
type vitals struct {
	sick atomic.Pointer[illness]
	oom  atomic.Int64 // when the kernel last killed a process of it, in nanoseconds of Unix; 0 when it has not
	turn atomic.Int64 // when liveness was last asked, in nanoseconds of Unix; 0 while it is not
}

// illness is why a container is stopped and started anew.
type illness struct {
	why   string
	since time.Time
}

// ask asks the container how it is until inner ends: whether it has started, then side by side
// whether it can serve and whether it still works. ctx ends when the container is to be stopped.
func (r *run) ask(ctx, inner context.Context, id string, started time.Time) {
	ready := r.ready(ctx)
	if r.spec.Startup != nil && !r.keep.get().Ready {
		if err := r.starting(inner, r.checker(id, *r.spec.Startup), started, ready); err != nil {
			r.unhealthy(ctx, inner, id, fmt.Errorf("it has not started: %w", err))
			return
		}
	}
	if inner.Err() != nil {
		return
	}
	var both sync.WaitGroup
	if r.spec.Ready != nil {
		c := r.checker(id, *r.spec.Ready)
		both.Go(func() {
			sleep(inner, time.Until(started.Add(c.check.Delay.Std())))
			c.watch(inner, r.keep.get().Ready, ready)
		})
	} else if r.spec.Startup != nil {
		ready(true, nil)
	}
	if r.spec.Live != nil {
		both.Go(func() { r.living(ctx, inner, id, started) })
	}
	both.Wait()
}

// starting asks until the check passes, or has failed for as long as its failures take at its interval.
// At first it asks more often, so that a quick start is seen at once.
func (r *run) starting(ctx context.Context, c checker, started time.Time, report func(bool, error)) error {
	sleep(ctx, time.Until(started.Add(c.check.Delay.Std())))
	interval := orDefault(c.check.Interval, defaultInterval).Std()
	end := time.Now().Add(interval * time.Duration(orCount(c.check.Failures, startupFailures)))
	pause := min(firstProbe, interval)
	for ctx.Err() == nil {
		err := c.once(ctx)
		switch {
		case err == nil || ctx.Err() != nil:
			return nil //nolint:nilerr // the last failure does not count once the run ends
		case errors.Is(err, engine.ErrDown): // says nothing of the container
			end = end.Add(pause)
		case !time.Now().Add(pause).Before(end):
			return err
		default:
			report(false, err)
		}
		sleep(ctx, pause)
		pause = min(2*pause, interval)
	}
	return nil
}

// living asks whether the container still works, and has it started anew when it does not.
func (r *run) living(ctx, inner context.Context, id string, started time.Time) {
	c := r.checker(id, *r.spec.Live)
	interval := orDefault(c.check.Interval, defaultInterval).Std()
	sleep(inner, time.Until(started.Add(c.check.Delay.Std())))
	defer r.vitals.turn.Store(0)
	for failed := 0; inner.Err() == nil; sleep(inner, interval) {
		r.vitals.turn.Store(time.Now().UnixNano())
		err := c.once(inner)
		switch {
		case errors.Is(err, engine.ErrDown):
		case err == nil:
			failed = 0
		default:
			failed++
		}
		if inner.Err() == nil && failed >= orCount(c.check.Failures, liveFailures) {
			r.unhealthy(ctx, inner, id, fmt.Errorf("it does not work any more, asked %d times: %w", failed, err))
			return
		}
	}
}

// unhealthy stops the container. Its end is then that of one that was unhealthy, and a new one is started.
func (r *run) unhealthy(ctx, inner context.Context, id string, cause error) {
	if ctx.Err() != nil || inner.Err() != nil {
		return
	}
	why := oneLine(cause.Error(), 300)
	r.Log.Warn("the container is stopped, to be started anew", "reason", api.ReasonUnhealthy, "error", why)
	r.vitals.sick.Store(&illness{why: why, since: time.Now()})
	r.keep.set(func(s *api.ContainerStatus) { s.Ready, s.Reason, s.Message = false, api.ReasonUnhealthy, why })
	for inner.Err() == nil {
		if err := r.Engine.Stop(inner, id); !errors.Is(err, engine.ErrDown) {
			return
		}
		r.awaitEngine(inner)
	}
}

// stuck is how long something of ours may take longer than it should before it counts as hung.
const stuck = 30 * time.Second

// works tells whether this process does what it is for, so that systemd need not start another one: a container
// that was found dead is being stopped, and liveness is asked in time. An engine that hangs is no
// reason: whoever comes next meets the same one.
func (r *run) works(now time.Time) bool {
	grace := orDefault(r.spec.StopGrace, api.DefaultStopGrace).Std()
	if s := r.vitals.sick.Load(); s != nil && now.Sub(s.since) > grace+stuck {
		return r.keep.get().Reason == api.ReasonEngineDown
	}
	turn := r.vitals.turn.Load()
	if turn == 0 || r.spec.Live == nil {
		return true
	}
	pause := orDefault(r.spec.Live.Interval, defaultInterval) + orDefault(r.spec.Live.Timeout, defaultInterval)
	return now.Sub(time.Unix(0, turn)) <= pause.Std()+stuck
}

// feed tells systemd's watchdog that all is well, twice in each of its periods, until ctx ends.
// A process that is frozen does not, nor one that cannot do what it is for; systemd then starts another one, which
// adopts the container.
func (r *run) feed(ctx context.Context) {
	for ctx.Err() == nil {
		sleep(ctx, r.Watchdog/2)
		if r.works(time.Now()) {
			r.Notify("WATCHDOG=1")
		}
	}
}

func orCount(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

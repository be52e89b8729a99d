package geard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"gearmesh.dev/api"
)

const (
	// freshAnswer is how old a report may be whose answer a timer is set by. The other half of api.SingletonAnswer is for
	// systemd to set it.
	freshAnswer = api.SingletonAnswer / 2
	// renewPause spares timers that were set a moment ago: reports come at each change too.
	renewPause = time.Second
	// heldAfter is how long after the last answer that named it a singleton is no longer started.
	heldAfter = 2*api.ReportEvery + time.Second
	// leasePatience is how long a start waits for an answer.
	leasePatience = 2 * api.ReportEvery
)

// leased takes in which singletons may run on, from the answer to a report that was sent then, and sets their timers anew.
// An answer that comes late says nothing: the master may have stopped counting on it.
func (a *Agent) leased(ctx context.Context, sent time.Time, leases []api.UID) {
	if len(leases) == 0 {
		return
	}
	if late := time.Since(sent); late > freshAnswer {
		a.log.Warn("the answer to a report came too late for the leases of singletons", "after", late)
		return
	}
	renew, again := a.noteLeases(sent, leases)
	a.leaseNews.wake()
	if again {
		a.reconcileKick.Wake()
	}
	var g errgroup.Group
	for _, pod := range renew {
		g.Go(func() error { return a.arm(ctx, pod, sent) })
	}
	if err := g.Wait(); err != nil {
		a.log.Warn("renewing the lease of a singleton", "err", err)
	}
}

// noteLeases notes when the named singletons were named, and gives those whose timers are due, and whether one may run again.
func (a *Agent) noteLeases(sent time.Time, leases []api.UID) (renew []api.Pod, again bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, uid := range leases {
		w := a.workLocked(uid)
		again = again || time.Since(w.lease) > heldAfter
		w.lease = sent
		if sent.Sub(w.renewed) < renewPause {
			continue
		}
		if pod, err := a.disk.LoadPod(uid); err == nil && pod.Singleton() && !a.ending(uid) {
			w.renewed = sent
			renew = append(renew, *pod)
		}
	}
	return renew, again
}

func (a *Agent) ending(uid api.UID) bool {
	p, ok := a.mem.pod(uid)
	return ok && p.Metadata.Deleting
}

// arm sets a singleton's timer by the answer to a report that was sent then. A timer that was set too late, because this
// process or systemd stood still meanwhile, would elapse too late: then the pod is ended at once.
func (a *Agent) arm(ctx context.Context, pod api.Pod, sent time.Time) error {
	err := a.cfg.Machine.Lease(ctx, pod)
	if time.Since(sent) <= api.SingletonAnswer {
		return err
	}
	err = fmt.Errorf("the timer of pod %q was set %s after its report: %w", pod.Metadata.Name, time.Since(sent), errors.Join(errLate, err))
	return errors.Join(err, a.cfg.Machine.Lapse(context.WithoutCancel(ctx), pod))
}

var errLate = errors.New("too late, so the pod is ended")

// awaitLease gets a singleton its lease before it is started: it waits for an answer that names it and sets its timer.
func (a *Agent) awaitLease(ctx context.Context, pod api.Pod) (sent time.Time, err error) {
	timeout := time.NewTimer(leasePatience)
	defer timeout.Stop()
	a.reportKick.Wake()
	for {
		news := a.leaseNews.next()
		a.mu.Lock()
		sent = a.workLocked(pod.Metadata.UID).lease
		a.mu.Unlock()
		if time.Since(sent) < freshAnswer {
			return sent, a.arm(ctx, pod, sent)
		}
		select {
		case <-news:
		case <-timeout.C:
			return sent, errors.New(noLease)
		case <-ctx.Done():
			return sent, ctx.Err()
		}
	}
}

const noLease = "there is never a second one, so it runs only while the master answers this host's reports; it starts when it does"

// startHeld starts a singleton: with its timer set, and not when that may have elapsed meanwhile.
func (a *Agent) startHeld(ctx context.Context, pod api.Pod) error {
	sent, err := a.awaitLease(ctx, pod)
	if err != nil {
		return Because(api.ReasonLeaseLapsed, err)
	}
	if err := a.cfg.Machine.Start(ctx, pod); err != nil {
		return err
	}
	if took := time.Since(sent); took >= api.SingletonLease {
		a.mu.Lock()
		newer := a.workLocked(pod.Metadata.UID).lease.After(sent)
		a.mu.Unlock()
		if !newer {
			err := fmt.Errorf("its start took %s, longer than its lease", took)
			return Because(api.ReasonLeaseLapsed, errors.Join(err, a.cfg.Machine.Lapse(context.WithoutCancel(ctx), pod)))
		}
	}
	return nil
}

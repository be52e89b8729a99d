package geard_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gearmesh.dev/api"
)

// uid gives a UID of its own for each i up to 675.
func uid(i int) api.UID {
	return api.UID(string(rune('a'+i/26)) + string(rune('a'+i%26)) + strings.Repeat("x", 14))
}

// slowLog takes its time for each line, and so makes a pass take some between any two steps that say something.
type slowLog struct{ slog.Handler }

func (slowLog) Enabled(context.Context, slog.Level) bool { return true }

func (slowLog) Handle(context.Context, slog.Record) error {
	time.Sleep(rand.N(10 * time.Millisecond))
	return nil
}

// Pods that come and go at once leave nothing, also when the agent's looks and steps are slow: one that is reported as gone too early
// is forgotten by the master, and runs for ever.
func TestChurnLeavesNothing(t *testing.T) {
	r := newRig(t)
	r.stop()
	r.log = slowLog{slog.DiscardHandler}
	r.host.Looked = func() { time.Sleep(rand.N(3 * time.Millisecond)) }
	r.start()
	const pods = 60
	r.master.patches <- api.Patch{Full: true, Term: 1}
	for i := range pods {
		r.master.patches <- api.Patch{Term: 1, Pods: []api.Pod{pod(uid(i))}}
		time.Sleep(rand.N(12 * time.Millisecond))
		r.master.patches <- api.Patch{Term: 1, Pods: []api.Pod{deleting(pod(uid(i)))}}
	}
	forgotten := map[api.UID]bool{}
	r.until("all pods to be gone", func() bool {
		for _, p := range r.agent.Report().Pods {
			if p.Status.Phase == api.PhaseGone && !forgotten[p.UID] {
				forgotten[p.UID] = true
				r.master.patches <- api.Patch{Term: 1, Removed: []string{"pod/" + string(p.UID)}}
			}
		}
		return len(forgotten) == pods
	})
	r.untilHost("")
	if left, err := r.dirs.Pods(); err != nil || len(left) > 0 {
		t.Errorf("left on disk: %q, %v", left, err)
	}
}

// Starts that are under way are bounded, and a pod that is deleted before its turn is never started.
func TestStartsTakeTurns(t *testing.T) {
	r := newRig(t)
	var under, most atomic.Int64
	release := make(chan struct{})
	r.host.Pulling = func() {
		n := under.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		under.Add(-1)
	}
	const pods = 100
	patch := api.Patch{Full: true, Term: 1}
	for i := range pods {
		patch.Pods = append(patch.Pods, pod(uid(i)))
	}
	r.master.patches <- patch
	r.until("pods that wait to say so", func() bool {
		return r.status(uid(99)).Reason == api.ReasonQueued
	})
	for i := range patch.Pods[pods/2:] {
		patch.Pods[pods/2+i] = deleting(patch.Pods[pods/2+i])
	}
	patch.Full = false
	r.master.patches <- patch
	r.until("a deleted pod that waited to be gone", func() bool { return r.status(uid(99)).Phase == api.PhaseGone })
	close(release)
	r.until("the others to run", func() bool { return strings.Count(r.host.String(), " up ") == pods/2 })
	if m := most.Load(); m >= pods/2 {
		t.Errorf("%d starts were under way at once", m)
	}
	for _, c := range r.host.Calls() {
		if c == "start web-"+string(uid(99)[:5]) {
			t.Errorf("it was deleted before its turn: %q", c)
		}
	}
}

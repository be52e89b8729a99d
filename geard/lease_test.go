package geard_test

import (
	"slices"
	"testing"
	"time"

	"gearmesh.dev/api"
)

func singleton(uid api.UID) api.Pod {
	p := pod(uid)
	p.Spec.Fence = 7
	return p
}

func (m *master) lease(uids ...api.UID) { m.mu.Lock(); m.leases, m.cut = uids, false; m.mu.Unlock() }
func (m *master) cutOff()               { m.mu.Lock(); m.cut = true; m.mu.Unlock() }
func (m *master) asked() int            { m.mu.Lock(); defer m.mu.Unlock(); return m.reports }

// count counts what was asked of the host for pod A.
func (r *rig) count(what string) int {
	n := 0
	for _, c := range r.host.Calls() {
		if c == what+" web-aaaaa" {
			n++
		}
	}
	return n
}

// leased starts a singleton that has its lease.
func (r *rig) leased() {
	r.t.Helper()
	r.master.lease(uidA)
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{singleton(uidA)}}
	r.until("the pod to be ready", func() bool { return r.status(uidA).Ready })
}

func TestASingletonIsStartedByItsLease(t *testing.T) {
	r := newRig(t)
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{singleton(uidA)}}
	r.until("the master to have been asked for a lease", func() bool { n := r.master.asked(); return r.count("pull") > 0 && n > 2 })
	if n := r.count("start") + r.count("lease"); n > 0 {
		t.Fatalf("it was started without a lease: %q", r.host.Calls())
	}
	r.master.lease(uidB, uidA)
	r.until("the pod to be ready", func() bool { return r.status(uidA).Ready })
	calls := r.host.Calls()
	if i, j := slices.Index(calls, "lease web-aaaaa"), slices.Index(calls, "start web-aaaaa"); i < 0 || i > j {
		t.Errorf("its timer was not set before its start: %q", calls)
	}
	n := r.count("lease")
	r.until("its timer to be set again", func() bool { return r.count("lease") > n+1 })
}

// Without answers the timer is left alone, and comes to its end; the pod is started again by the next answer that names it.
func TestALapsedSingletonComesBack(t *testing.T) {
	r := newRig(t)
	r.leased()
	r.master.cutOff()
	asked := r.master.asked() // whatever was answered, was answered by now
	r.until("a report without an answer", func() bool { return r.master.asked() > asked })
	time.Sleep(api.SingletonAnswer) // a timer that was just set does not elapse, and the agent would rightly start the pod again
	renewed := r.count("lease")
	r.host.Elapse(uidA)
	r.until("the status to say so", func() bool { return r.status(uidA).Reason == api.ReasonLeaseLapsed })
	if got := r.count("lease"); got > renewed {
		t.Errorf("its timer was set %d times without an answer", got-renewed)
	}
	r.untilHost("web-aaaaa down started=1\n")
	r.master.lease(uidB) // the master answers, but the pod is not this host's any more
	asked = r.master.asked()
	r.until("two answers without it", func() bool { return r.master.asked() > asked+2 })
	r.untilHost("web-aaaaa down started=1\n")
	r.master.lease(uidA)
	r.untilHost("web-aaaaa up started=2\n")
}

func TestASingletonIsNotStartedAtBoot(t *testing.T) {
	r := newRig(t)
	r.leased()
	r.stop()
	r.host.Reboot()
	r.master.cutOff()
	asked := r.master.asked()
	r.start()
	r.until("a few reports", func() bool { return r.master.asked() > asked+2 })
	r.until("the status to say so", func() bool { return r.status(uidA).Reason == api.ReasonLeaseLapsed })
	r.untilHost("web-aaaaa down started=1\n")
	r.master.lease(uidA)
	r.untilHost("web-aaaaa up started=2\n")
}

// A restart of the agent does not touch it; one that runs without its timer is ended, then started with it.
func TestASingletonNeverRunsWithoutItsTimer(t *testing.T) {
	r := newRig(t)
	r.leased()
	r.stop()
	r.start()
	r.until("its timer to be set by the new agent", func() bool { return r.count("lease") > 2 && r.status(uidA).Ready })
	r.untilHost("web-aaaaa up started=1\n")
	r.stop()
	r.host.Unset(uidA)
	r.master.cutOff()
	r.start()
	r.untilHost("web-aaaaa down started=1\n")
	r.master.lease(uidA)
	r.untilHost("web-aaaaa up started=2\n")
}

func TestALateAnswerIsNoLease(t *testing.T) {
	r := newRig(t)
	r.master.lease(uidA)
	r.master.mu.Lock()
	r.master.slow = api.SingletonAnswer/2 + 100*time.Millisecond
	r.master.mu.Unlock()
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{singleton(uidA)}}
	r.until("a pull", func() bool { return r.count("pull") > 0 })
	asked := r.master.asked()
	r.until("late answers", func() bool { return r.master.asked() > asked+2 })
	if n := r.count("lease") + r.count("start"); n > 0 {
		t.Errorf("late answers set the timer: %q", r.host.Calls())
	}
}

package geard_test

import (
	"testing"

	"gearmesh.dev/api"
)

// rarely lets the host wait as long as a host may be told.
func (m *master) rarely() { m.mu.Lock(); m.every = api.ReportEveryMost; m.mu.Unlock() }

// TestARareReportIsSentAtOnce: when the master asks, and when something changes. One that waited as it may would come too late for this.
func TestARareReportIsSentAtOnce(t *testing.T) {
	r := newRig(t)
	r.master.rarely()
	reports, asks := 0, 0
	r.until("five reports that were asked for", func() bool {
		if n := r.master.asked(); n > reports {
			reports = n
			asks++
			r.master.patches <- api.Patch{Full: asks == 1, Term: 1, Report: asks > 1}
		}
		return asks > 5
	})
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA)}}
	r.until("the pod to be ready for the master", func() bool { p := r.master.report().Pods; return len(p) == 1 && p[0].Status.Ready })
	ends := pod(uidA)
	ends.Metadata.Deleting = true
	r.master.patches <- api.Patch{Term: 1, Pods: []api.Pod{ends}}
	r.until("the pod to be gone for the master", func() bool { p := r.master.report().Pods; return len(p) == 1 && p[0].Status.Phase == api.PhaseGone })
}

// TestAHostWithSingletonsReportsOften: whatever it is told, since its reports renew their leases.
func TestAHostWithSingletonsReportsOften(t *testing.T) {
	r := newRig(t)
	r.master.rarely()
	r.leased()
	n := r.count("lease")
	r.until("its timer to be set again and again", func() bool { return r.count("lease") > n+3 })
}

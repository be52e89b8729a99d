package geard_test

import (
	"testing"

	"gearmesh.dev/api"
)

// TestAPodWhoseNameIsTakenIsRemoved: the master calls it otherwise when another pod has taken its name; its units are called as
// they were, and the report says of it what the master asked about.
func TestAPodWhoseNameIsTakenIsRemoved(t *testing.T) {
	r := newRig(t)
	r.leased()
	renamed := deleting(singleton(uidA))
	renamed.Metadata.Name = "web-aaaaa-aaaaaaaa"
	r.master.patches <- api.Patch{Term: 1, Revision: 2, Pods: []api.Pod{renamed}}
	r.until("the pod to be gone", func() bool { return r.status(uidA).Phase == api.PhaseGone })
	if r.count("remove") != 1 {
		t.Errorf("calls: %q", r.host.Calls())
	}
	for _, p := range r.agent.Report().Pods {
		if p.Name != renamed.Metadata.Name {
			t.Errorf("it reports of %q", p.Name)
		}
	}
}

package unitgen

import (
	"fmt"
	"slices"

	"gearmesh.dev/api"
)

// What the end of a lease runs, beside systemd itself: nothing of ours has to work then, and no container engine.
const (
	sleepCommand     = "/bin/sleep"
	systemctlCommand = "/bin/systemctl"
)

// lease writes the dead-man timer of a singleton. The agent starts it anew with each report that the master has
// answered; when nobody does, it starts what ends the pod.
func (r *renderer) lease() {
	m := r.pod.Metadata
	p := r.podUnit(fmt.Sprintf("Lease of Gearmesh pod %s/%s", m.Project, m.Name))
	p.number("StartLimitIntervalSec", 0) // it is started anew every other second
	p.section("Timer")
	p.span("OnActiveSec", api.SingletonLease)
	p.word("AccuracySec", "100ms")
	p.word("RemainAfterElapse", "no") // one that has elapsed can be started again by whoever wants it
	p.units("Unit", LapsedUnit(m.Project, m.Name))
	r.add(LeaseTimer(m.Project, m.Name), p)
}

// lapsed writes what ends a singleton. Conflicts= makes systemd stop the containers' units as it starts this one, and start
// none of them after a failure; their network goes with them, so that a container which an engine starts too late finds none.
// The kill after the grace takes what is left in the pod's slice, whether engine and gear-run answer or not. It is not
// ordered after the units, whose stop may hang. A start of the pod ends this one in turn, before it kills.
func (r *renderer) lapsed() {
	m := r.pod.Metadata
	p := r.podUnit(fmt.Sprintf("End of the lease of Gearmesh pod %s/%s", m.Project, m.Name))
	p.units("Conflicts", slices.Concat(ContainerUnits(r.pod), []string{NetUnit(m.Project, m.Name)})...)
	p.number("StartLimitIntervalSec", 0)
	p.section("Service")
	p.word("Type", "oneshot")
	p.command("ExecStart", sleepCommand, fmt.Sprint(int(api.SingletonGrace.Seconds())))
	p.kill("ExecStart", systemctlCommand, PodSlice(m.Project, m.Name))
	p.word("Slice", RunSlice)
	p.number("OOMScoreAdjust", -900)
	r.journal(p, "")
	p.word("CapabilityBoundingSet", "CAP_KILL CAP_SYS_ADMIN")
	harden(p)
	r.add(LapsedUnit(m.Project, m.Name), p)
}

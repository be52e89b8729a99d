package control

import (
	"fmt"

	"gearmesh.dev/api"
)

// retire marks the pods of a service that should end.
func (p *planner) retire(f *fleet) {
	switch {
	case f.Spec.Global:
		p.retireGlobal(f)
		return
	case f.identity():
		p.retireIdentity(f)
		return
	case f.stateful():
		p.retireStateful(f)
		return
	case f.Spec.Singleton:
		p.retireSingleton(f)
		return
	}
	p.dropWaiting(f)
	p.scaleDown(f, f.limit())
	p.rollOne(f)
}

// limit gives the number of pods a service without volumes may have: one more while it rolls.
func (f *fleet) limit() int {
	if f.want > 0 && len(f.stale()) > 0 {
		return f.want + 1
	}
	return f.want
}

// dropWaiting removes outdated pods that have no host: nothing runs of them.
func (p *planner) dropWaiting(f *fleet) {
	for _, r := range f.stale() {
		if r.Spec.Host == "" {
			p.retireOne(f, r, r.outdated, "it was still waiting for a host when its service changed")
		}
	}
}

func (p *planner) scaleDown(f *fleet, limit int) {
	for len(f.live) > limit {
		why := fmt.Sprintf("it wants %d pods and has %d", f.want, len(f.live))
		p.retireOne(f, victim(f.live), api.ReasonScaleDown, why)
	}
}

// rollOne ends one outdated pod when the new ones are ready and there is one more than wanted.
// A new pod that finds no host may take the place of an old one that does not work, or that stands in its way.
func (p *planner) rollOne(f *fleet) {
	stale := f.stale()
	if len(stale) == 0 || len(f.live) <= f.want {
		return
	}
	old, current := victim(stale), f.current()
	broken := !old.ready && !old.silent
	if allReady(current) || broken && anyUnschedulable(current) || heldUp(current) {
		p.retireOne(f, old, old.outdated, "a newer pod takes its place")
	}
}

func anyUnschedulable(list []replica) bool {
	for _, r := range list {
		if r.Spec.Host == "" && r.Spec.Placement != nil {
			return true
		}
	}
	return false
}

// heldUp tells whether the only pods that are not ready wait for a host, and other pods of the service may be why: a bound
// of its placement, such as one pod a host, would let it never roll.
func heldUp(list []replica) bool {
	waits := false
	for _, r := range list {
		d := r.Spec.Placement
		switch {
		case r.ready:
		case r.Spec.Host != "" || d == nil || d.Rejected[api.ReasonNotApart]+d.Rejected[api.ReasonSpread]+d.Rejected[api.ReasonHostMaximum] == 0:
			return false
		default:
			waits = true
		}
	}
	return waits
}

// retireStateful ends pods one at a time, and each only while all others that are new are ready.
// A pod whose host is silent is left: marking it would only hold up the rest.
func (p *planner) retireStateful(f *fleet) {
	p.scaleDown(f, f.want)
	stale := f.pick(func(r replica) bool { return r.outdated != "" && (r.Spec.Host == "" || !r.silent) })
	if len(stale) == 0 || len(f.leaving) > 0 || len(f.live) < f.want || !allReady(f.current()) {
		return
	}
	old := victim(stale)
	p.retireOne(f, old, old.outdated, "it ends before a newer pod takes its place, so that its volumes are not used twice")
}

// retireOne ends a pod of a service. One with volumes is marked even when it waits for a host: its
// pin must outlive it until a new pod carries it on.
func (p *planner) retireOne(f *fleet, r replica, reason api.Reason, why string) {
	if f.stateful() && f.pin(r.Pod) != "" {
		p.mark(r.Pod, reason, why)
	} else {
		p.end(r.Pod, reason, why)
	}
	f.drop(r)
	if r.Spec.Host != "" || f.stateful() || f.identity() {
		f.leaving = append(f.leaving, r)
	}
}

// changeLive gives running pods what has changed of their service's template and needs no new containers. Those without a host get it later,
// since a plan writes a pod once.
func (p *planner) changeLive(f *fleet) {
	for _, r := range f.current() {
		if r.Spec.Host == "" || f.runs(r.Pod) {
			continue
		}
		changed := *r.Pod
		changed.Spec.Template, changed.Spec.Live = f.Spec.PodTemplate, f.hash
		p.act(Put, &changed, api.ReasonLiveChange, "where its service's links lead, its weight or its egress has changed; its containers run on")
	}
}

// create makes the pods that a service lacks.
func (p *planner) create(f *fleet) {
	switch {
	case f.Spec.Global:
		p.createGlobal(f)
		return
	case f.identity():
		p.createIdentity(f)
		return
	case f.stateful():
		p.createStateful(f)
		return
	case f.Spec.Singleton:
		p.createSingleton(f)
		return
	}
	missing := f.want - len(f.live)
	for range missing {
		p.make(f, api.ReasonScaleUp, f.lacks(), "")
	}
	stale := f.stale()
	if missing <= 0 && len(stale) > 0 && len(f.live) == f.want && allReady(f.current()) {
		why := fmt.Sprintf("%d of %d pods are out of date", len(stale), len(f.live))
		p.make(f, stale[0].outdated, why, "")
	}
}

func (f *fleet) lacks() string {
	return fmt.Sprintf("it wants %d pods and has %d", f.want, len(f.live))
}

// createStateful makes pods only for those of which nothing is left. A new pod is pinned to the
// host of the one it takes the place of; that one is kept as the record of it for one plan more.
func (p *planner) createStateful(f *fleet) {
	for len(f.live)+len(f.leaving) < f.want {
		pin, cause, why := api.Name(""), api.ReasonScaleUp, f.lacks()
		if len(f.gone) > 0 {
			old := f.gone[0]
			f.gone = f.gone[1:]
			pin, why = f.pin(old.Pod), fmt.Sprintf("pod %s has ended", old.Metadata.Name)
			if old.outdated != "" {
				cause = old.outdated
			}
			if pin == "" { // it is the record of nothing
				p.deleteGone(old.Pod)
			}
		}
		p.make(f, cause, why, pin)
	}
}

// removeGone deletes the pods of which nothing is left, but for the records of volumes.
func (p *planner) removeGone(f *fleet) {
	for _, r := range f.gone {
		if !p.record(f, r.Pod) {
			p.deleteGone(r.Pod)
		}
	}
}

func (p *planner) deleteGone(pod *api.Pod) {
	reason, why := api.ReasonReplaced, "nothing of it is left on its host"
	switch {
	case pod.Spec.Host == "":
		why = "it never had a host"
	case p.hosts[pod.Spec.Host] != nil && expelled(p.hosts[pod.Spec.Host]):
		reason, why = api.ReasonHostLost, fmt.Sprintf("host %s was removed at once", pod.Spec.Host)
	case pod.Status.Phase != api.PhaseGone:
		reason, why = api.ReasonHostLost, fmt.Sprintf("host %s was deleted", pod.Spec.Host)
	}
	p.act(Delete, pod, reason, why)
}

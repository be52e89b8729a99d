package control

import (
	"fmt"
	"slices"

	"gearmesh.dev/api"
)

// runs tells whether a pod of a singleton may still run somewhere: until its host has reported it gone, or so much time has
// passed since the host was last heard of that the pod's dead-man timer has ended it. A pod without a fencing token, of a time
// when its service was no singleton, has no such timer.
func (v *View) runs(pod *api.Pod) bool {
	lapsed := pod.Singleton() && v.Health[pod.Spec.Host].Lapsed
	return pod.Spec.Host != "" && !v.gone(pod) && !lapsed
}

// lapsing says what becomes of a singleton on a host that is silent.
func (v *View) lapsing(pod *api.Pod) string {
	switch {
	case v.runs(pod):
		return fmt.Sprintf("; its timer ends it there, and it is started elsewhere %s after the host was last heard of", api.SingletonSilence)
	case pod.Metadata.Deleting:
		return "; its timer has ended it there; what is left of it goes when the host returns"
	}
	return "; its timer has ended it there, and it is started elsewhere as soon as another host has room"
}

// nextFence gives the fencing token of the next pod of a singleton.
func (v *View) nextFence(f *fleet) int64 {
	out := max(v.Fence, 1)
	for _, pod := range v.pods[keyOf(f.Service)] {
		out = max(out, pod.Spec.Fence+1)
	}
	return out
}

// retireSingleton ends the pod of a singleton when it must go, one more than there should be, and the pod of a host that
// has been silent for long enough, when another host has room now. The next pod is made by a later plan: only a mark that is
// in the store keeps the master from renewing the lease of a host that answers again just then.
func (p *planner) retireSingleton(f *fleet) {
	p.dropWaiting(f)
	p.scaleDown(f, f.want)
	for _, r := range slices.Clone(f.live) {
		if r.outdated != "" && !r.silent {
			p.retireOne(f, r, r.outdated, "it ends before a newer pod takes its place, since there is never a second one")
		}
	}
}

// failOver marks the pod of a singleton whose host has been silent for so long that it no longer runs.
func (p *planner) failOver(f *fleet) {
	if p.brake.on {
		return
	}
	for _, r := range slices.Clone(f.live) {
		if r.Spec.Host == "" || p.runs(r.Pod) {
			continue
		}
		trial := p.newPod(f, api.ReasonHostLost, "")
		if p.place(f, trial); trial.Spec.Host == "" && trial.Spec.Placement.Waits == "" {
			return
		}
		p.mark(r.Pod, api.ReasonHostLost, fmt.Sprintf("host %s has been silent for longer than %s, and the pod's timer has ended it", r.Spec.Host, api.SingletonSilence))
		f.drop(r)
		f.leaving = append(f.leaving, r)
		f.marked = true
	}
}

// createSingleton makes the pod of a singleton when none of those before it can run any more.
func (p *planner) createSingleton(f *fleet) {
	p.failOver(f)
	if f.marked || len(f.live) >= f.want || slices.ContainsFunc(f.leaving, func(r replica) bool { return p.runs(r.Pod) }) {
		return
	}
	cause, why := api.ReasonScaleUp, f.lacks()
	for _, r := range slices.Concat(f.gone, f.leaving) {
		if r.Spec.Ending != "" && r.Spec.Ending != api.ReasonScaleDown {
			cause, why = r.Spec.Ending, fmt.Sprintf("pod %s has ended", r.Metadata.Name)
		}
	}
	p.make(f, cause, why, "")
}

package control

import (
	"cmp"
	"fmt"
	"slices"

	"gearmesh.dev/api"
	"gearmesh.dev/master/schedule"
)

// onlyHost names the host that a pod of a global service is for.
func onlyHost(pod *api.Pod) api.Name {
	return cmp.Or(pod.Spec.Host, api.Name(pod.Metadata.Labels[OnlyLabel]))
}

// wants tells whether a host should have a pod of a global service. Room is not asked for: a pod that lacks it waits, and says so.
func (v *View) wants(f *fleet, h *api.Host) bool {
	return h != nil && v.states[h.Metadata.Name] == api.HostReady && !h.Spec.Cordoned && !h.Metadata.Deleting &&
		schedule.Meets(h, f.Spec.Placement.Require) && h.Status.Lacks(f.Spec.NeededPolicy(), f.Spec.VolumeClasses()) == ""
}

// wantedGlobal counts the hosts that have a pod of a global service, or should.
func (v *View) wantedGlobal(f *fleet) int {
	on := map[api.Name]bool{}
	for _, r := range f.live {
		on[onlyHost(r.Pod)] = true
	}
	for i := range v.Hosts {
		if v.wants(f, &v.Hosts[i]) {
			on[v.Hosts[i].Metadata.Name] = true
		}
	}
	delete(on, "")
	return len(on)
}

// retireGlobal ends pods that are where none should be, then one that is out of date: each ends before the next one takes its
// place, since a host should have but one.
func (p *planner) retireGlobal(f *fleet) {
	have := map[api.Name]bool{}
	for _, r := range slices.Clone(f.live) {
		on := onlyHost(r.Pod)
		switch {
		case on == "" || have[on]:
			p.retireOne(f, r, api.ReasonScaleDown, "each host has one pod of the service, and this is one more")
		case r.outdated == api.ReasonPlacement:
			p.retireOne(f, r, r.outdated, fmt.Sprintf("host %s is not to have one any more", on))
		case r.Spec.Host == "" && (r.outdated != "" || !p.wants(f, p.hosts[on])):
			p.retireOne(f, r, cmp.Or(r.outdated, api.ReasonPlacement), fmt.Sprintf("it was still waiting for host %s", on))
		default:
			have[on] = true
		}
	}
	p.rollGlobal(f)
}

// rollGlobal ends one pod that is out of date while all others that have a host work. Hosts that are silent hold nobody up.
func (p *planner) rollGlobal(f *fleet) {
	stale := f.pick(func(r replica) bool { return r.outdated != "" && !r.silent })
	busy := f.pick(func(r replica) bool { return r.outdated == "" && !r.silent && !r.ready && r.Spec.Host != "" })
	leaving := slices.ContainsFunc(f.leaving, func(r replica) bool { return !r.silent })
	if len(stale) == 0 || len(busy) > 0 || leaving || p.missingGlobal(f) != nil {
		return
	}
	old := victim(stale)
	p.retireOne(f, old, old.outdated, "it ends before a newer pod takes its place on its host")
}

// createGlobal makes a pod for each host that should have one and has nothing left of one.
func (p *planner) createGlobal(f *fleet) {
	for _, h := range p.missingGlobal(f) {
		pod := p.newPod(f, api.ReasonScaleUp, "")
		if pod.Metadata.Labels == nil {
			pod.Metadata.Labels = map[string]string{}
		}
		pod.Metadata.Labels[OnlyLabel] = string(h)
		p.place(f, pod)
		p.add(f, pod, fmt.Sprintf("host %s should have one and has none", h))
	}
}

// missingGlobal names the hosts that should have a pod and have nothing of one, sorted.
func (p *planner) missingGlobal(f *fleet) []api.Name {
	have := map[api.Name]bool{}
	for _, r := range slices.Concat(f.live, f.leaving) {
		have[onlyHost(r.Pod)] = true
	}
	var out []api.Name
	for i := range p.Hosts {
		if name := p.Hosts[i].Metadata.Name; !have[name] && p.wants(f, &p.Hosts[i]) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

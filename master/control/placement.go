package control

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/master/schedule"
)

// assign gives hosts to the pods that wait for one, those of the highest priority first, of these the oldest.
func (p *planner) assign(fleets []*fleet) {
	type waiting struct {
		f *fleet
		i int
	}
	var list []waiting
	for _, f := range fleets {
		for i := range f.live {
			if f.live[i].Spec.Host == "" {
				list = append(list, waiting{f, i})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b waiting) int {
		return cmp.Or(
			cmp.Compare(b.f.Spec.Placement.Priority, a.f.Spec.Placement.Priority),
			a.f.live[a.i].Metadata.Created.Compare(b.f.live[b.i].Metadata.Created))
	})
	for _, w := range list {
		placed := p.assignOne(w.f, w.f.live[w.i].Pod)
		w.f.live[w.i].Pod = placed
	}
}

// assignOne gives the pod as it is after its placement was tried. Nothing is written when the
// outcome is the one on record.
func (p *planner) assignOne(f *fleet, pod *api.Pod) *api.Pod {
	placed := *pod
	p.place(f, &placed)
	if placed.Spec.Host == "" && reflect.DeepEqual(placed.Spec.Placement, pod.Spec.Placement) {
		return pod
	}
	reason, why := placementOf(&placed)
	p.act(Put, &placed, cmp.Or(reason, pod.Spec.Cause), why)
	return &placed
}

// place fills in the pod's host, term and decision.
func (p *planner) place(f *fleet, pod *api.Pod) {
	if p.cluster == nil {
		p.cluster = p.newCluster()
	}
	q, was := p.request(f, pod), pod.Spec.Placement
	d := p.cluster.Place(q)
	if d.Host == "" {
		p.preempt(f, pod, q, &d)
	} else if was != nil && was.Waits == d.Host {
		d.Reasons = append(d.Reasons, was.Reasons...)
	}
	if was := f.pin(pod); was != "" && d.Waits == "" {
		d.Reasons = append(d.Reasons, p.pinReason(f, was, &d))
	}
	pod.Spec.Placement = &d
	if pod.Spec.Host = d.Host; d.Host != "" {
		pod.Spec.Term = p.Term
	}
}

func (p *planner) request(f *fleet, pod *api.Pod) schedule.Request {
	r := schedule.Request{Project: f.Metadata.Project, Service: f.Metadata.Name,
		Need: schedule.NeedOf(&pod.Spec.Template), Ports: len(pod.Spec.Template.Ports), Placement: f.Spec.Placement, Priority: f.Spec.Placement.Priority,
		Policy: pod.Spec.Template.NeededPolicy(), Classes: pod.Spec.Template.VolumeClasses()}
	if on := p.pinned(f, f.pin(pod)); on != "" {
		r.Placement.Require = slices.Concat(r.Placement.Require, onlyOn(on))
	}
	if left := f.leftOn(pod); len(left) > 0 {
		r.Placement.Require = append(slices.Clone(r.Placement.Require), api.Requirement{Label: api.HostLabel, NotIn: left})
	}
	if f.Spec.Global {
		r.On = onlyHost(pod)
	}
	return r
}

func onlyOn(host api.Name) []api.Requirement {
	return []api.Requirement{{Label: api.HostLabel, In: []string{string(host)}}}
}

// newCluster gives the scheduler the hosts as they are now; those being deleted get no new pods.
func (p *planner) newCluster() *schedule.Cluster {
	c := schedule.NewCluster(p.hostsNow(), p.Pods, p.Services)
	for _, pod := range p.retired {
		c.Retire(pod)
	}
	return c
}

func (p *planner) hostsNow() []api.Host {
	hosts := slices.Clone(p.Hosts)
	for i := range hosts {
		hosts[i].Status.State = p.states[hosts[i].Metadata.Name]
		hosts[i].Spec.Cordoned = closed(&hosts[i])
	}
	return hosts
}

// closed tells whether a host gets no new pods, though it is ready.
func closed(h *api.Host) bool { return h.Spec.Cordoned || h.Spec.Drain || h.Metadata.Deleting }

// pin names the host that has the volumes of a pod, "" when there are none yet.
func (f *fleet) pin(pod *api.Pod) api.Name {
	if !f.stateful() {
		return ""
	}
	return cmp.Or(pod.Spec.Host, api.Name(pod.Metadata.Labels[PinLabel]))
}

// pinned gives the host when its volumes still bind the service's pod to it.
func (v *View) pinned(f *fleet, host api.Name) api.Name {
	h := v.hosts[host]
	if h == nil || h.Metadata.Deleting || !schedule.Meets(h, f.Spec.Placement.Require) {
		return ""
	}
	return host
}

// pinReason says what the volumes of a pod meant for its placement.
func (p *planner) pinReason(f *fleet, was api.Name, d *api.Decision) string {
	on := p.pinned(f, was)
	switch {
	case on == "":
		return fmt.Sprintf("its volumes were on host %s, where it may not run any more: they start empty", was)
	case d.Host != "":
		return fmt.Sprintf("its volumes are on host %s", on)
	case p.states[on] != api.HostReady:
		return fmt.Sprintf("its volumes are on host %s, which is %s: bring it back, or delete it to give the volumes up", on, p.states[on])
	case closed(p.hosts[on]):
		return fmt.Sprintf("its volumes are on host %s, which is cordoned or drained: gear host uncordon %[1]s, or delete it to give the volumes up", on)
	}
	if d.Rejected[api.ReasonPolicyCeiling]+d.Rejected[api.ReasonVolumeClass] > 0 {
		return fmt.Sprintf("its volumes are on host %s, which does not offer what it needs any more: see gear describe host %s", on, on)
	}
	return fmt.Sprintf("its volumes are on host %s, which has no room left: make room there", on)
}

// make makes a pod, placed when there is room, and counts it as live.
func (p *planner) make(f *fleet, cause api.Reason, why string, pin api.Name) {
	pod := p.newPod(f, cause, pin)
	p.place(f, pod)
	p.add(f, pod, why)
}

func (p *planner) add(f *fleet, pod *api.Pod, why string) {
	_, placement := placementOf(pod)
	p.act(Put, pod, pod.Spec.Cause, why+"; "+placement)
	f.live = append(f.live, replica{Pod: pod})
}

func (p *planner) newPod(f *fleet, cause api.Reason, pin api.Name) *api.Pod {
	if p.names == nil {
		p.names = namesOf(p.Pods)
	}
	pod := p.blankPod(f, cause, pin)
	pod.Metadata.Name, pod.Metadata.UID = p.names.next(f.Service, p.newUID)
	return pod
}

// blankPod gives a pod that has no name yet.
func (p *planner) blankPod(f *fleet, cause api.Reason, pin api.Name) *api.Pod {
	pod := &api.Pod{Header: api.Header{Kind: api.KindPod, Version: api.Version}}
	pod.Metadata = api.Metadata{Project: f.Metadata.Project, Created: p.Now, Labels: podLabels(f.Metadata.Labels, pin)}
	pod.Spec = api.PodSpec{Service: f.Metadata.Name, Hash: f.hash, Template: f.Spec.PodTemplate, Cause: cause}
	if f.Spec.Leased() {
		pod.Spec.Fence = p.nextFence(f)
	}
	if project := p.projects[f.Metadata.Project]; project != nil {
		pod.Spec.Policy, pod.Spec.Registries = project.Spec.Policy, project.Spec.Registries
	}
	return pod
}

// podLabels gives the service's labels, and the pin.
func podLabels(service map[string]string, pin api.Name) map[string]string {
	out := maps.Clone(service)
	maps.DeleteFunc(out, func(k, _ string) bool { return strings.HasPrefix(k, LabelPrefix) })
	if pin != "" {
		if out == nil {
			out = map[string]string{}
		}
		out[PinLabel] = string(pin)
	}
	return out
}

// placementOf says how a placement ended.
func placementOf(pod *api.Pod) (api.Reason, string) {
	if pod.Spec.Host == "" {
		return api.ReasonUnschedulable, unschedulable(pod)
	}
	return "", fmt.Sprintf("assigned to host %s", pod.Spec.Host)
}

// replaceLost replaces the pods of lost hosts for which another host has room now.
func (p *planner) replaceLost(f *fleet) {
	if p.brake.on || f.stateful() || f.Spec.Global || f.Spec.Leased() {
		return
	}
	for _, r := range f.pick(func(r replica) bool { return r.lost }) {
		pod := p.newPod(f, api.ReasonHostLost, "")
		if p.place(f, pod); pod.Spec.Host == "" && pod.Spec.Placement.Waits == "" {
			return
		}
		p.mark(r.Pod, api.ReasonHostLost, fmt.Sprintf("host %s is lost; it is to end when the host returns", r.Spec.Host))
		f.drop(r)
		p.add(f, pod, fmt.Sprintf("host %s of pod %s is lost", r.Spec.Host, r.Metadata.Name))
	}
}

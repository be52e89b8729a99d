package control

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"gearmesh.dev/api"
)

// PodStatus gives the status of a pod: what its host last said, unless the pod has no host, the
// host has not seen it, or what it said is too old to be believed.
func (v *View) PodStatus(p *api.Pod) api.PodStatus {
	out := p.Status
	host := p.Spec.Host
	switch {
	case v.keptRecord(p):
		return api.PodStatus{Phase: api.PhaseGone, Seen: out.Seen, Message: fmt.Sprintf("nothing runs of it; its volumes are kept on host %s, for when its service wants %s again", v.pinOf(p), p.Metadata.Name)}
	case host == "":
		return waiting(p)
	case v.hosts[host] == nil:
		return api.PodStatus{Phase: api.PhaseUnknown, Reason: api.ReasonHostLost, Seen: out.Seen,
			Message: fmt.Sprintf("host %s was deleted", host)}
	case !v.Health[host].LeaseGood:
		return v.silent(p)
	case out.Phase == "":
		out.Phase, out.Reason = api.PhasePending, api.ReasonWaitingForHost
		out.Message = fmt.Sprintf("host %s has not taken it up yet", host)
	case p.Metadata.Deleting && out.Phase != api.PhaseGone:
		out.Phase, out.Ready = api.PhaseStopping, false
	}
	return out
}

// waiting gives the status of a pod without a host.
func waiting(p *api.Pod) api.PodStatus {
	out := api.PodStatus{Phase: api.PhasePending, Reason: api.ReasonProgressing, Message: "it waits for its placement"}
	if d := p.Spec.Placement; d != nil {
		out.Reason, out.Message = api.ReasonUnschedulable, unschedulable(p)
	}
	return out
}

// silent gives the status of a pod whose host has not reported for longer than its lease. It may
// well run on: only the readiness is taken back.
func (v *View) silent(p *api.Pod) api.PodStatus {
	out := p.Status
	out.Phase, out.Ready = api.PhaseUnknown, false
	out.Reason = api.ReasonHostSilent
	out.Message = fmt.Sprintf("its host %s has not reported for %s", p.Spec.Host, v.since(v.hosts[p.Spec.Host].Status.Seen))
	if p.Singleton() && !v.brake.on {
		out.Message += v.lapsing(p)
		return out
	}
	if v.states[p.Spec.Host] != api.HostLost {
		return out
	}
	out.Reason = api.ReasonHostLost
	switch {
	case v.brake.on:
		out.Reason, out.Message = api.ReasonBrake, v.brake.String()
	case v.global(p):
		out.Message += "; it has a pod of its service of its own, and comes back with it"
	case p.Spec.Template.Stateful():
		out.Message += "; it has volumes there, so it is not started elsewhere: bring the host back, or delete the host to give it up"
	case p.Metadata.Deleting:
		out.Message += "; it was replaced, and ends when the host returns"
	default:
		out.Message += "; it is replaced as soon as another host has room: add a host, or bring this one back"
	}
	return out
}

// global tells whether a pod is one of those of which each host has one.
func (v *View) global(p *api.Pod) bool {
	s := v.services[serviceKey{p.Metadata.Project, p.Spec.Service}]
	return s != nil && s.Spec.Global
}

// unschedulable says why no host fits and what would help.
func unschedulable(p *api.Pod) string {
	d, total := p.Spec.Placement, 0
	for _, n := range d.Rejected {
		total += n
	}
	if total == 0 {
		return "there are no hosts; add one with gear join"
	}
	var parts []string
	for _, r := range rejections {
		if n := d.Rejected[r.reason]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, r.text)+missing(r.reason, &p.Spec.Template))
		}
	}
	out := fmt.Sprintf("none of %d hosts fits: %s", total, strings.Join(parts, ", "))
	if len(d.Reasons) > 0 {
		return out + "; " + strings.Join(d.Reasons, "; ")
	}
	return out + "; " + help(d)
}

// missing names what of a template the hosts do not offer.
func missing(r api.Reason, t *api.PodTemplate) string {
	switch r {
	case api.ReasonPolicyCeiling:
		return " " + string(t.NeededPolicy())
	case api.ReasonVolumeClass:
		var names []string
		for _, c := range t.VolumeClasses() {
			names = append(names, string(c))
		}
		return " " + strings.Join(names, " or ")
	}
	return ""
}

// rejections is the order in which the scheduler checks, with the words for people.
var rejections = [...]struct {
	reason     api.Reason
	text, help string
}{
	{api.ReasonHostNotReady, "not ready", "bring hosts back"},
	{api.ReasonCordoned, "cordoned", "uncordon a host"},
	{api.ReasonRequirement, "not allowed by placement", "relax placement.require or label a host"},
	{api.ReasonPolicyCeiling, "that do not allow policy", "raise --max-policy on a host, or ask for less"},
	{api.ReasonVolumeClass, "without volume class", "give a host the class with --volume-class"},
	{api.ReasonNotNear, "not near what it must be near", "start the services of placement.near, or relax it"},
	{api.ReasonNotApart, "too near what it must be apart from", "relax placement.apart or add a host"},
	{api.ReasonSpread, "over the bound of the spread", "make room where it has fewest pods, or raise placement.maxSkew"},
	{api.ReasonHostMaximum, "with as many pods of it as a host may have", "raise placement.maxPerHost or add a host"},
	{api.ReasonCPU, "without enough processor time", "ask for less cpu or add a host"},
	{api.ReasonMemory, "without enough memory", "ask for less memory or add a host"},
	{api.ReasonHostPorts, "without enough ports", "add a host"},
}

// help names the next step for the hosts that came nearest.
func help(d *api.Decision) string {
	for _, r := range slices.Backward(rejections[:]) {
		if d.Rejected[r.reason] > 0 {
			return r.help
		}
	}
	return "add a host"
}

// ServiceStatus gives the status of a service. The worst reason of its pods becomes its own.
func (v *View) ServiceStatus(s *api.Service) api.ServiceStatus {
	f := v.fleet(s)
	out := api.ServiceStatus{Pods: len(f.live)}
	if s.Spec.Global {
		out.Wanted = f.want
	}
	var worst *api.Pod
	var worstStatus api.PodStatus
	for _, r := range f.live {
		st := v.PodStatus(r.Pod)
		if st.Ready {
			out.Ready++
		} else if worst == nil || severity(st.Reason) > severity(worstStatus.Reason) {
			worst, worstStatus = r.Pod, st
		}
	}
	switch {
	case s.Metadata.Deleting:
		out.Reason, out.Message = api.ReasonProgressing, fmt.Sprintf("it is being deleted; %d pods are left", len(f.live)+len(f.leaving))
	case worst != nil:
		out.Reason = cmp.Or(worstStatus.Reason, api.ReasonProgressing)
		out.Message = fmt.Sprintf("pod %s: %s", worst.Metadata.Name, cmp.Or(worstStatus.Message, "it is "+string(worstStatus.Phase)))
	}
	if out.Reason == "" || out.Reason == api.ReasonProgressing && !s.Metadata.Deleting {
		v.progress(f, &out)
	}
	return out
}

// progress says what a service still waits for, when nothing is wrong.
func (v *View) progress(f *fleet, out *api.ServiceStatus) {
	stale := len(f.stale())
	if f.identity() && stale == 0 && out.Pods != f.want {
		out.Reason, out.Message = api.ReasonProgressing, v.awaits(f)
		return
	}
	switch {
	case stale > 0:
		out.Reason, out.Message = api.ReasonProgressing, fmt.Sprintf("%d of %d pods are still to be replaced", stale, len(f.live))
	case f.stateful() && out.Pods < f.want && len(f.leaving) > 0:
		old := f.leaving[0]
		out.Reason = api.ReasonProgressing
		out.Message = fmt.Sprintf("pod %s must end on host %s first, so that its volumes are not used twice; bring the host back, or delete it when it will not return", old.Metadata.Name, old.Spec.Host)
	case f.Spec.Singleton && out.Pods < f.want && len(f.leaving) > 0:
		old := f.leaving[0]
		out.Reason = api.ReasonProgressing
		out.Message = fmt.Sprintf("pod %s must end on host %s first, since there is never a second one", old.Metadata.Name, old.Spec.Host)
	case out.Pods != f.want:
		out.Reason, out.Message = api.ReasonProgressing, fmt.Sprintf("it wants %d pods and has %d", f.want, out.Pods)
	}
}

// severity orders reasons: the higher one is what to look at first.
func severity(r api.Reason) int { return slices.Index(severities, r) }

var severities = []api.Reason{
	api.ReasonProgressing, api.ReasonWaitingForHost, api.ReasonQueued, api.ReasonNotReady, api.ReasonLinkDown, api.ReasonHostSilent, api.ReasonStopped,
	api.ReasonLeaseLapsed, api.ReasonNoPorts, api.ReasonEngineDown, api.ReasonHostError, api.ReasonUnschedulable, api.ReasonExited,
	api.ReasonOOMKilled, api.ReasonCreateFailed, api.ReasonImagePull, api.ReasonHostLost, api.ReasonBrake,
}

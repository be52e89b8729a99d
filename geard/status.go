package geard

import (
	"cmp"
	"slices"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

// Progress is what the agent itself is doing about a pod.
type Progress struct {
	Phase   api.Phase // pulling or stopping; empty when nothing is under way
	Reason  api.Reason
	Message string // of the last task that did not succeed
}

// podStatus gives a pod's status from what there is of it. runs are its containers' own words,
// in the order of the template. It carries no time: the master knows when it heard it, and a
// heartbeat without news is the same to the byte.
func podStatus(want api.Pod, a Actual, exists bool, net podstate.Net, runs []api.ContainerStatus, g Progress) api.PodStatus {
	s := api.PodStatus{Address: net.Address, Ports: net.Ports, Containers: runs}
	if want.Metadata.Deleting {
		s.Phase, s.Reason, s.Message = api.PhaseStopping, g.Reason, g.Message
		if !exists && !a.Busy {
			return api.PodStatus{Phase: api.PhaseGone}
		}
		return s
	}
	if !exists && !a.Busy && g.Message == "" {
		s.Phase, s.Reason, s.Message = api.PhasePending, api.ReasonQueued, "its host starts other pods first"
		return s
	}
	s.Phase, s.Reason, s.Message = phaseOf(a, runs, g)
	s.Ready = s.Phase == api.PhaseRunning && s.Reason == ""
	return s
}

// onLinks gives the status of a pod with these links: one that starts says which link it waits for, and one that runs is
// ready only while it has all that it always needs.
func onLinks(s api.PodStatus, links []api.LinkTarget) api.PodStatus {
	for _, l := range links {
		if l.WaitFor == "" || len(l.Backends) > 0 {
			continue
		}
		if s.Phase == api.PhaseStarting || l.WaitFor == api.WaitAlways && s.Ready {
			s.Ready, s.Reason, s.Message = false, api.ReasonLinkDown, l.Lacks()
			return s
		}
	}
	return s
}

// phaseOf tells the phase of a pod that should run: its worst container's.
func phaseOf(a Actual, runs []api.ContainerStatus, g Progress) (api.Phase, api.Reason, string) {
	switch {
	case g.Message != "":
		return api.PhaseBackOff, g.Reason, g.Message
	case g.Phase != "":
		return g.Phase, "", ""
	case a.Held && !a.Units.Up:
		return api.PhaseStopped, api.ReasonLeaseLapsed, noLease
	case a.Units.Stopped:
		return api.PhaseStopped, api.ReasonStopped, "a unit was stopped or masked on the host; try: systemctl start it there"
	}
	phase, reason, message := api.PhaseRunning, api.Reason(""), ""
	for _, c := range runs {
		p, r := containerPhase(c)
		if r != "" && (reason == "" || p == api.PhaseBackOff) {
			phase, reason, message = p, r, "container "+string(c.Name)+": "+cmp.Or(c.Message, "it is being started")
		}
	}
	return phase, reason, message
}

func containerPhase(c api.ContainerStatus) (api.Phase, api.Reason) {
	switch {
	case c.State == api.RunDone:
		return api.PhaseRunning, ""
	case c.State == api.RunBackOff:
		return api.PhaseBackOff, c.Reason
	case c.Init:
		return api.PhaseStarting, api.ReasonWaiting
	case c.State != api.RunRunning:
		return api.PhaseStarting, api.ReasonNotReady
	case !c.Ready:
		return api.PhaseRunning, api.ReasonNotReady
	}
	return api.PhaseRunning, ""
}

// endpointsOf gives the endpoints of a pod: one for each port, ready when the pod is, and of those named in six over IPv6 too.
func endpointsOf(p api.Pod, n podstate.Net, ready bool, six []api.Name) []api.Endpoint {
	var out []api.Endpoint
	for _, hp := range n.Ports {
		out = append(out, api.Endpoint{Project: p.Metadata.Project, Service: p.Spec.Service, Pod: p.Metadata.Name, Port: hp.Name,
			Protocol: hp.Protocol, Address: addrPort(n.HostAddress, hp.HostPort), Ready: ready,
			Public: hp.Public, IPv6: slices.Contains(six, hp.Name), Weight: p.Spec.Template.Weight})
	}
	return out
}

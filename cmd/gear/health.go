package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"gearmesh.dev/api"
)

// podHealth tells how a pod is, and in which word.
func podHealth(p *api.Pod) (health, string) {
	s := p.Status
	switch {
	case p.Metadata.Deleting && s.Phase == api.PhaseGone && p.Spec.Ordinal != nil:
		return idle, "gone" // it is kept for its volumes
	case p.Metadata.Deleting:
		return coming, "stopping"
	case s.Phase == api.PhaseRunning && s.Ready:
		return well, "running"
	case s.Phase == api.PhaseRunning:
		return coming, "not ready"
	case s.Phase == api.PhaseBackOff, s.Phase == api.PhaseUnknown, s.Reason == api.ReasonUnschedulable, s.Phase == api.PhaseStopped:
		return ill, string(s.Phase)
	case s.Phase == "":
		return coming, string(api.PhasePending)
	}
	return coming, string(s.Phase)
}

// serviceHealth tells how a service is.
func serviceHealth(s *api.Service) health {
	want := replicas(s)
	switch {
	case s.Metadata.Deleting:
		return coming
	case want == 0 && s.Status.Pods == 0:
		return idle
	case s.Status.Ready >= want && s.Status.Pods == want:
		return well
	case s.Status.Reason == api.ReasonProgressing, s.Status.Reason == "", s.Status.Reason == api.ReasonNotReady, s.Status.Reason == api.ReasonWaitingForHost, s.Status.Reason == api.ReasonQueued:
		return coming
	}
	return ill
}

func replicas(s *api.Service) int {
	if s.Spec.Global {
		return s.Status.Wanted
	}
	if s.Spec.Replicas == nil {
		return 1
	}
	return *s.Spec.Replicas
}

// hostHealth tells how a host is.
func hostHealth(h *api.Host) health {
	switch h.Status.State {
	case api.HostReady:
		return well
	case api.HostJoining:
		return coming
	}
	return ill
}

// hostState gives a host's state with what operators did to it.
func hostState(h *api.Host) string {
	s := orDash(string(h.Status.State))
	if h.Spec.Drain {
		s += ", drained"
	} else if h.Spec.Cordoned {
		s += ", cordoned"
	}
	if h.Metadata.Deleting {
		s += ", deleting"
	}
	return s
}

// next gives the command that helps with a pod that is not well.
func next(p *api.Pod) string {
	flag := projectFlag(p.Metadata.Project)
	switch p.Status.Reason {
	case api.ReasonUnschedulable:
		return "gear why" + flag + " " + string(p.Metadata.Name)
	case api.ReasonHostSilent, api.ReasonHostLost, api.ReasonHostError, api.ReasonEngineDown, api.ReasonNoPorts:
		return "gear describe host " + string(p.Spec.Host)
	case api.ReasonStopped:
		return fmt.Sprintf("systemctl start gear-%s-%s on host %s", p.Metadata.Project, p.Metadata.Name, p.Spec.Host)
	case api.ReasonExited, api.ReasonOOMKilled, api.ReasonNotReady:
		return "gear logs" + flag + " " + string(p.Metadata.Name)
	}
	return "gear why" + flag + " " + string(p.Metadata.Name)
}

// nextOnHost gives the command that helps with a host that has a problem.
func nextOnHost(h *api.Host) string {
	name := string(h.Metadata.Name)
	if h.Status.State == api.HostReady && h.Status.Reason == api.ReasonUnknownPod {
		if m := uidInBrackets.FindStringSubmatch(h.Status.Message); m != nil {
			return "gear host forget-pod " + name + " " + m[1] + " --confirm     (removes it; its volumes stay)"
		}
	}
	return "gear describe host " + name
}

// uidInBrackets finds the uid in the master's words about pods that it does not know: "shop/web-7f3k2 (k3v7qxw2m5n4a6bz)".
var uidInBrackets = regexp.MustCompile(`\(([a-z2-7]{16})\)`)

// cause gives a reason and its message. Hosts write messages, so they are not let at the terminal.
func cause(reason api.Reason, message string) string {
	lines := strings.Split(strings.TrimSpace(message), "\n")
	for i, l := range lines {
		lines[i] = printable(l)
	}
	message = strings.Join(lines, "\n")
	switch {
	case message == "":
		return string(reason)
	case reason == "":
		return message
	}
	return fmt.Sprintf("%s: %s", reason, message)
}

// addresses gives where a pod's ports are reached, such as "http 10.0.0.1:20003".
func addresses(p *api.Pod, hosts map[api.Name]string) string {
	var out []string
	for _, port := range p.Status.Ports {
		out = append(out, fmt.Sprintf("%s %s:%d", port.Name, orDash(hosts[p.Spec.Host]), port.HostPort))
	}
	return strings.Join(out, ", ")
}

// restarts adds up the restarts of a pod's containers.
func restarts(p *api.Pod) int {
	n := 0
	for _, c := range p.Status.Containers {
		n += c.Restarts
	}
	return n
}

// images gives the images of a template, each once.
func images(t *api.PodTemplate) string {
	var out []string
	for _, c := range t.Containers {
		if !slices.Contains(out, c.Image) {
			out = append(out, c.Image)
		}
	}
	return strings.Join(out, ", ")
}

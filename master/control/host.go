package control

import (
	"fmt"
	"time"

	"gearmesh.dev/api"
)

// stateOf gives the state of a host from its health.
func stateOf(h *api.Host, is Health) api.HostState {
	switch {
	case expelled(h):
		return api.HostLost
	case is.LeaseGood && !is.MeshDown:
		return api.HostReady
	case h.Status.Seen.IsZero() && !is.LeaseGood:
		return api.HostJoining
	case !is.LeaseGood && is.MeshDown:
		return api.HostLost
	}
	return api.HostSuspect
}

// expelled tells whether an operator has taken a host out at once, whatever it does.
func expelled(h *api.Host) bool { return h.Metadata.Deleting && h.Spec.Expelled }

// brake tells whether so many hosts vanished together that nothing is moved.
type brake struct {
	on         bool
	bad, hosts int // lost or suspect, of those that have ever reported
}

// brakeMin is the number of hosts below which there is no brake: of two, one is half.
const brakeMin = 3

// brakeOf leaves out hosts that were expelled: they have not vanished by themselves.
func brakeOf(states map[api.Name]api.HostState, hosts map[api.Name]*api.Host) brake {
	var b brake
	for name, s := range states {
		if expelled(hosts[name]) {
			continue
		}
		switch s {
		case api.HostLost, api.HostSuspect:
			b.bad++
			b.hosts++
		case api.HostReady:
			b.hosts++
		}
	}
	b.on = b.hosts >= brakeMin && 2*b.bad > b.hosts
	return b
}

func (b brake) String() string {
	return fmt.Sprintf("%d of %d hosts vanished together, so no pod is moved; see whether the master is cut off, or delete hosts that will not return", b.bad, b.hosts)
}

// HostStatus gives the status of a host.
func (v *View) HostStatus(h *api.Host) api.HostStatus {
	name := h.Metadata.Name
	out := h.Status
	out.State, out.Pods = stateOf(h, v.Health[name]), v.onHost[name]
	switch out.State {
	case api.HostJoining:
		out.Reason, out.Message = api.ReasonHostSilent, "it has an identity, but its agent has never reported; on the host: systemctl status gear-agent"
	case api.HostSuspect:
		out.Reason, out.Message = api.ReasonHostSilent, v.suspect(h)
	case api.HostLost:
		if expelled(h) {
			out.Reason, out.Message = api.ReasonHostLost, fmt.Sprintf("it was removed at once; %d pods that ran there by leases are started elsewhere when those have run out", out.Pods)
			return out
		}
		out.Reason, out.Message = api.ReasonHostLost, fmt.Sprintf("it has not reported for %s and other hosts cannot reach it; bring it back, or delete the host when it will not return", v.since(h.Status.Seen))
	}
	if v.brake.on && (out.State == api.HostLost || out.State == api.HostSuspect) {
		out.Reason, out.Message = api.ReasonBrake, v.brake.String()
	}
	switch {
	case h.Spec.Drain && !h.Metadata.Deleting && out.State == api.HostReady:
		out.Reason, out.Message = v.draining(name)
	case !h.Metadata.Deleting || out.Pods == 0:
	case out.State == api.HostReady:
		out.Reason, out.Message = api.ReasonProgressing, fmt.Sprintf("it is being deleted; %d pods move away first", out.Pods)
	case !v.givenUp(h):
		out.Message += fmt.Sprintf("; it is being deleted, but its %d pods may still run: it goes when it returns, or when other hosts cannot reach it either", out.Pods)
	}
	return out
}

// draining tells how far the draining of a host that answers is.
func (v *View) draining(host api.Name) (api.Reason, string) {
	moving, stay := 0, 0
	for i := range v.Pods {
		switch pod := &v.Pods[i]; {
		case pod.Spec.Host != host || v.gone(pod):
		case pod.Spec.Template.Stateful() && !pod.Metadata.Deleting:
			stay++
		default:
			moving++
		}
	}
	switch {
	case moving > 0:
		return api.ReasonProgressing, fmt.Sprintf("it is drained; %d pods are still to move", moving)
	case stay > 0:
		return api.ReasonDrained, fmt.Sprintf("it is drained but for %d pods whose volumes are here; they stay", stay)
	}
	return api.ReasonDrained, "it is drained: no pod is on it"
}

func (v *View) suspect(h *api.Host) string {
	if v.Health[h.Metadata.Name].LeaseGood {
		return "it reports to the master, but other hosts cannot reach it; see that port 7946 (TCP and UDP) is open between hosts"
	}
	return fmt.Sprintf("it has not reported for %s, though other hosts reach it; on the host: systemctl status gear-agent", v.since(h.Status.Seen))
}

// since gives the time that has passed, in whole seconds.
func (v *View) since(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return v.Now.Sub(t).Round(time.Second)
}

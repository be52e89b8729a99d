package linker

import (
	"net/netip"
	"reflect"
	"slices"

	"gearmesh.dev/api"
)

// Reason says why an open flow is ended.
type Reason string

// The reasons for ending a flow.
const (
	ReasonHostDown    Reason = "host-down"    // the backend's host is down: nobody will ever answer
	ReasonRetargeted  Reason = "retargeted"   // the backend is gone, and the link's policy is cut
	ReasonDatagram    Reason = "datagram"     // the backend is gone, and UDP has no end of its own
	ReasonUnlinked    Reason = "unlinked"     // the link is gone
	ReasonPodGone     Reason = "pod-gone"     // the pod's address is free for another pod
	ReasonEgress      Reason = "egress"       // the pod may not connect to there any more
	ReasonPortChanged Reason = "port-changed" // the host port is no longer, or only now, the pod's
)

// flow is an entry of the kernel's connection tracking.
type flow struct {
	protocol api.Protocol
	source   netip.Addr     // who started it
	dialled  netip.AddrPort // what it was started to
	answers  netip.AddrPort // who answers: the backend, or dialled itself without a translation
}

// linkVerdict decides whether a flow in a pod's namespace ends, now that links are new and were
// old. The kernel keeps a flow's backend for its life; only the end of its entry changes that:
//
//   - a backend on a host that is down ends its flows, whatever the policy;
//   - a backend that is gone ends its TCP flows if the policy is cut; with drain they live on
//     until one side closes them, also when no backend is left;
//   - a backend that is gone always ends its UDP flows, which otherwise would last as long as
//     the program sends;
//   - a link that is gone ends its flows.
//
// After the end of its entry, a flow's next packet is a new flow to the kernel: it reaches another backend,
// which knows nothing of it and resets it, or is refused when there is none.
func linkVerdict(f flow, old, new []api.LinkTarget, down func(netip.Addr) bool) (Reason, bool) {
	l, ok := linkOf(f, new)
	if !ok {
		_, was := linkOf(f, old)
		return ReasonUnlinked, was && f.answers != f.dialled
	}
	switch {
	case down != nil && f.answers != f.dialled && down(f.answers.Addr()):
		return ReasonHostDown, true
	case slices.Contains(leadsTo(l), f.answers):
		return "", false
	case f.protocol == api.UDP:
		return ReasonDatagram, true
	case l.Retarget == api.Cut:
		return ReasonRetargeted, true
	}
	return "", false
}

// mayEnd tells whether there can be a flow that linkVerdict ends, down being somebody or not.
func mayEnd(old, new []api.LinkTarget, down bool) bool {
	if down {
		return true
	}
	for _, l := range new {
		if l.Protocol == api.UDP || l.Retarget == api.Cut {
			return true
		}
	}
	return slices.ContainsFunc(old, func(o api.LinkTarget) bool {
		return slices.ContainsFunc(dialled(o), func(a netip.Addr) bool {
			_, still := linkOf(flow{protocol: o.Protocol, dialled: netip.AddrPortFrom(a, o.Port)}, new)
			return !still
		})
	})
}

// linkOf finds the link that a flow was started to.
func linkOf(f flow, links []api.LinkTarget) (api.LinkTarget, bool) {
	i := slices.IndexFunc(links, func(l api.LinkTarget) bool {
		return l.Protocol == f.protocol && l.Port == f.dialled.Port() && slices.Contains(dialled(l), f.dialled.Addr())
	})
	if i < 0 {
		return api.LinkTarget{}, false
	}
	return links[i], true
}

// hostVerdict decides whether a flow in the host's namespace ends, now that its pods and host
// ports are new and were old: those of a pod that is gone, before another pod gets its address;
// and those that started to a host port which is, or was, another pod's or nobody's.
func hostVerdict(f flow, old, new lookups) (Reason, bool) {
	if old.pods[f.source] && !new.pods[f.source] || old.pods[f.answers.Addr()] && !new.pods[f.answers.Addr()] {
		return ReasonPodGone, true
	}
	if reason, ok := egressVerdict(f, old, new); ok {
		return reason, true
	}
	if !new.own[f.dialled.Addr()] {
		return "", false
	}
	key := portKey{f.protocol, f.dialled.Port(), f.dialled.Addr().Is4()}
	was, is := old.ports[key], new.ports[key]
	return ReasonPortChanged, was != is && f.answers != is
}

// mayFlush tells whether flows may have to end. When pods and TCP ports have only been added none has to: what was started to a port
// that was nobody's has been refused, and no new connection is that one. So a start does not read all flows of the machine.
func mayFlush(old, new lookups) bool {
	for addr := range old.pods {
		if !new.pods[addr] {
			return true
		}
	}
	for key, was := range old.ports {
		if new.ports[key] != was {
			return true
		}
	}
	for key := range new.ports {
		if _, had := old.ports[key]; !had && key.protocol != api.TCP {
			return true
		}
	}
	for addr, is := range new.held {
		if old.pods[addr] && !reflect.DeepEqual(old.held[addr], is) {
			return true
		}
	}
	return false
}

// lookups is a HostConfig made for looking up flows, of both versions of IP.
type lookups struct {
	own   map[netip.Addr]bool        // addresses of the host
	pods  map[netip.Addr]bool        // addresses of pods
	ports map[portKey]netip.AddrPort // where host ports lead

	gateway netip.Addr
	held    map[netip.Addr]*Egress // of pods, by address
}

type portKey struct {
	protocol api.Protocol
	port     uint16
	v4       bool
}

// lookup gives c's tables.
func (c HostConfig) lookup() lookups {
	l := lookups{own: map[netip.Addr]bool{}, pods: map[netip.Addr]bool{}, ports: map[portKey]netip.AddrPort{}, gateway: c.Gateway(), held: map[netip.Addr]*Egress{}}
	for _, s := range []side{c.side4("", nil), c.side6("", nil)} {
		l.add(s)
	}
	return l
}

func (l lookups) add(s side) {
	l.own[s.Address], l.own[s.Gateway()] = true, true
	for _, pod := range s.Pods {
		l.pods[pod.Address], l.pods[LinkSource(pod.Address)] = true, true
		if pod.Egress != nil {
			l.held[pod.Address] = pod.Egress
		}
		for _, hp := range pod.Ports {
			l.ports[portKey{hp.Protocol, hp.HostPort, s.v4}] = netip.AddrPortFrom(pod.Address, hp.Port)
		}
	}
}

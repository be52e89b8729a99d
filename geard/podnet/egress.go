package podnet

import (
	"net/netip"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/linker"
)

// Egress gives what the rules of a host hold a pod to: the networks that it may connect to, and of the addresses that
// it was told those whose names it may. It is nil for a pod that may connect to everything.
func Egress(uid api.UID, e *api.Egress, told []podstate.Told) *linker.Egress {
	if e == nil {
		return nil
	}
	out := &linker.Egress{Interface: VethName(uid)}
	for _, r := range e.Allow {
		if n, ok := r.Network(); ok {
			out.Allow = append(out.Allow, linker.Allowed{Net: n, Protocol: r.Protocol, Ports: r.Ports})
			continue
		}
		for _, t := range told {
			if r.Matches(t.Name) {
				out.Allow = append(out.Allow, linker.Allowed{Net: netip.PrefixFrom(t.Address, t.Address.BitLen()), Protocol: r.Protocol, Ports: r.Ports})
			}
		}
	}
	return out
}

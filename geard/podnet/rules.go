package podnet

import (
	"net/netip"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/linker"
)

// routerPort is where routers listen; pods may be clients of them.
const routerPort = 80

// HostConfig gives what the rules of a host are made of: c, which has its addresses, those of all hosts of the cluster and the public ports of the
// others; the places of its pods; and by their addresses the ports of the host's balancer that their links lead to and what
// they are held to.
func HostConfig(c linker.HostConfig, pods []podstate.Net, balanced map[netip.Addr][]uint16, held map[netip.Addr]*linker.Egress) linker.HostConfig {
	c.Bridge, c.PodNet, c.Open = VethPattern, podstate.Prefix(), []linker.OpenPort{{Protocol: api.TCP, Port: routerPort}}
	for _, p := range pods {
		c.Pods = append(c.Pods, linker.HostPod{Address: p.Address, Ports: p.Ports, Balanced: balanced[p.Address], Egress: held[p.Address]})
	}
	return c
}

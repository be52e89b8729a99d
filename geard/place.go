package geard

import (
	"fmt"
	"net/netip"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

// The addresses of pods and the ports of the host that are given to them.
const (
	PortFirst = 20000
	PortLast  = 29999
)

// places hands out addresses and host ports. Both go round in a circle, so that what was freed is
// used again as late as can be: at least 60 s later unless the whole range is used up by then.
type places struct {
	addr netip.Addr // last one given
	port uint16     // last one given
}

// newPlaces starts the circles at a point that differs from one start of the agent to the next,
// since what was freed just before a restart is not on record.
func newPlaces(seed uint32) places {
	network := podstate.Prefix().Addr().As4()
	network[2], network[3] = byte(seed>>8)&0x7f, byte(seed)
	return places{addr: netip.AddrFrom4(network), port: PortFirst + uint16(seed%(PortLast-PortFirst))}
}

// take chooses an address and host ports for a pod, beside those of the pods on disk. free asks
// the kernel whether nobody listens on a port.
func (p *places) take(pod api.Pod, used []podstate.Net, free func(api.Protocol, uint16) bool) (podstate.Net, error) {
	addrs, ports := map[netip.Addr]bool{podstate.Gateway(): true}, map[uint16]bool{}
	for _, n := range used {
		addrs[n.Address] = true
		for _, hp := range n.Ports {
			ports[hp.HostPort] = true
		}
	}
	n := podstate.Net{}
	var err error
	if n.Address, err = p.address(addrs); err != nil {
		return n, err
	}
	for _, port := range pod.Spec.Template.Ports {
		host, err := p.hostPort(port.Protocol, ports, free)
		if err != nil {
			return n, err
		}
		ports[host] = true
		n.Ports = append(n.Ports, api.HostPort{Name: port.Name, Protocol: port.Protocol, Port: port.Port, HostPort: host, Public: port.Public})
	}
	return n, nil
}

func (p *places) address(used map[netip.Addr]bool) (netip.Addr, error) {
	for range 1 << 16 {
		p.addr = p.addr.Next()
		if !podstate.Prefix().Contains(p.addr) {
			p.addr = podstate.Gateway()
		}
		if last := p.addr.As4()[3]; last != 0 && last != 255 && !used[p.addr] {
			return p.addr, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("no address of %s is free for the pod", podstate.Prefix())
}

func (p *places) hostPort(proto api.Protocol, used map[uint16]bool, free func(api.Protocol, uint16) bool) (uint16, error) {
	for range PortLast - PortFirst + 1 {
		if p.port++; p.port > PortLast {
			p.port = PortFirst
		}
		if !used[p.port] && free(proto, p.port) {
			return p.port, nil
		}
	}
	return 0, fmt.Errorf("no port from %d to %d of the host is free; delete pods or end what listens there (ss -ltnu)", PortFirst, PortLast)
}

package api

import "net/netip"

// LinkTarget is one link of a pod as the kernel shall carry it: connections to a loopback
// address and port go to one of the backends. Without backends they are refused at once.
type LinkTarget struct {
	Service   Name             `json:"service" doc:"Also the name that resolves to Local in the pod"`
	Local     netip.Addr       `json:"local" doc:"Loopback address of this link alone, such as 127.1.0.1"`
	Port      uint16           `json:"port" doc:"On Local, and on 127.0.0.1 when Localhost"`
	Protocol  Protocol         `json:"protocol"`
	Localhost bool             `json:"localhost" doc:"127.0.0.1:Port is this link's too; the first link with a port has it"`
	Retarget  Retarget         `json:"retarget"`
	Backends  []netip.AddrPort `json:"backends,omitempty" doc:"Sorted; host addresses and host ports"`
}

// LinkTargets resolves a pod's links in the directory, in the order they stand in the template.
// Links to one service share a loopback address.
func (d Directory) LinkTargets(project Name, links []Link) []LinkTarget {
	type local struct {
		port     uint16
		protocol Protocol
	}
	owned, addrs := map[local]bool{}, map[Name]netip.Addr{}
	var out []LinkTarget
	for _, l := range links {
		if _, ok := addrs[l.Service]; !ok {
			addrs[l.Service] = linkAddr(len(addrs) + 1)
		}
		at := local{l.LocalPort, l.Protocol}
		t := LinkTarget{Service: l.Service, Local: addrs[l.Service], Port: l.LocalPort, Protocol: l.Protocol,
			Localhost: !owned[at], Retarget: l.Retarget}
		for _, e := range d.Backends(project, l.Service, l.Port) {
			t.Backends = append(t.Backends, e.Address)
		}
		owned[at] = true
		out = append(out, t)
	}
	return out
}

// linkAddr gives the loopback address of a pod's nth linked service, n from 1: 127.1.n>>8.n&255.
func linkAddr(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, 1, byte(n >> 8), byte(n)}) }

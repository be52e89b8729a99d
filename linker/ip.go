package linker

import (
	"net/netip"
	"slices"

	"gearmesh.dev/api"
)

// ip is what rules say differently in the two versions of IP.
type ip struct {
	v4                                      bool
	toLoop, fromLoop, overICMP, unreachable word
}

var (
	ipv4 = ip{true, "-d 127.0.0.0/8", "-s 127.0.0.0/8", "-p icmp", "-j REJECT --reject-with icmp-port-unreachable"}
	ipv6 = ip{false, "-d ::1/128", "-s ::1/128", "-p ipv6-icmp", "-j REJECT --reject-with icmp6-port-unreachable"}
)

// has tells whether an address is of the version.
func (v ip) has(a netip.Addr) bool { return a.Is4() == v.v4 }

// IPv6 gives the IPv6 address that goes with an IPv4 address of the pods' network, or of LinkSource: 10.127.3.4 is in the last 32 bits of
// fd67:6561:7200::a7f:304. The network is a private one (RFC 4193) and, as the IPv4 one, the same on every host and seen on none but it.
func IPv6(pod netip.Addr) netip.Addr {
	a := api.PodsIPv6().Addr().As16()
	copy(a[12:], pod.AsSlice())
	return netip.AddrFrom16(a)
}

// side is a host in one version of IP: all addresses are of that version.
type side struct {
	HostConfig
	ip
	bridge iface
	maps   []mapping
}

// side4 gives the IPv4 side of a checked host.
func (c HostConfig) side4(bridge iface, maps []mapping) side {
	s := side{c, ipv4, bridge, maps}
	s.onlyOwn()
	return s
}

// side6 gives the IPv6 side. Pods have there the addresses that go with their others.
func (c HostConfig) side6(bridge iface, maps []mapping) side {
	c.Address, c.PodNet = c.Address6, netip.PrefixFrom(IPv6(c.PodNet.Addr()), 96+c.PodNet.Bits())
	c.Pods, maps = slices.Clone(c.Pods), slices.Clone(maps)
	for i, p := range c.Pods {
		c.Pods[i].Address = IPv6(p.Address)
	}
	for i, m := range maps {
		maps[i].pod = netip.AddrPortFrom(IPv6(m.pod.Addr()), m.pod.Port())
	}
	s := side{c, ipv6, bridge, maps}
	s.onlyOwn()
	return s
}

// onlyOwn leaves out what is of the other version.
func (s *side) onlyOwn() {
	s.Members = slices.DeleteFunc(slices.Clone(s.Members), func(a netip.Addr) bool { return !s.has(a) })
	s.Public = slices.DeleteFunc(slices.Clone(s.Public), func(p PublicPort) bool { return !s.has(p.At.Addr()) })
	s.Pods = slices.Clone(s.Pods)
	for i, p := range s.Pods {
		if p.Egress != nil {
			e := *p.Egress
			e.Allow = slices.DeleteFunc(slices.Clone(e.Allow), func(a Allowed) bool { return !s.has(a.Net.Addr()) })
			s.Pods[i].Egress = &e
		}
	}
}

// checkHost accepts an address of either version that a host can have.
func checkHost(a netip.Addr) error {
	if a.Is6() {
		return api.CheckHostIPv6(a)
	}
	return checkAddr(a)
}

package linker

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"gearmesh.dev/api"
)

// The ports of a host that pods are mapped to (docs/architecture.md).
const (
	firstHostPort = 20000
	lastHostPort  = 29999
)

// The ports of the gateway's address where a host's balancer takes connections of balanced links (docs/architecture.md).
const (
	FirstLinkPort = 30000
	LastLinkPort  = 30999
)

// HostConfig is what a host's own rules are made of.
type HostConfig struct {
	Bridge    string       // where pods' packets come from and go to: the bridge ("gear0"), or with routed veths all of them ("gv+")
	PodNet    netip.Prefix // the pods' network, such as 10.127.0.0/16; its first address is the bridge's. The one beside it (LinkSource) is for links
	Address   netip.Addr   // of the host, as other hosts reach it
	Address6  netip.Addr   `json:",omitzero"`  // its IPv6 address; without it pods have no IPv6
	Routes6   bool         `json:",omitempty"` // it forwards IPv6 of others than pods too
	Members   []netip.Addr // of the mesh, all that each host has, this host among them or not; only they reach host ports that are not public
	LinksOver string       `json:",omitempty"` // interface that links to other hosts travel over, and no other; any when empty
	Open      []OpenPort   // ports of members' hosts that pods may reach without a link, such as a router's 80
	Public    []PublicPort // host ports of the cluster that everybody may reach, pods without a link too
	Pods      []HostPod    // the pods on this host
}

// OpenPort is a port of hosts that pods may connect to.
type OpenPort struct {
	Protocol api.Protocol
	Port     uint16
}

// PublicPort is a host port that is public.
type PublicPort struct {
	Protocol api.Protocol
	At       netip.AddrPort
}

// PublicPorts gives the public host ports of the cluster, but for those at the host's own address, which its pods' own ports stand for. A
// port that no pod can have is left out: what a host says of its endpoints opens nobody's agent or ssh.
func PublicPorts(d api.Directory, own netip.Addr) []PublicPort {
	var out []PublicPort
	six := d.IPv6()
	for _, h := range d.Endpoints {
		for _, e := range h.Endpoints {
			port := e.Address.Port()
			if !e.Public || e.Address.Addr() == own || port < firstHostPort || port > lastHostPort {
				continue
			}
			out = append(out, PublicPort{e.Protocol, e.Address})
			if a, ok := six[h.Host]; ok {
				out = append(out, PublicPort{e.Protocol, netip.AddrPortFrom(a, port)})
			}
		}
	}
	return sortedPublic(out)
}

// HostPod is a pod as its host's rules see it.
type HostPod struct {
	Address  netip.Addr
	Ports    []api.HostPort
	Balanced []uint16 // ports of the host's balancer that its links lead to
	Egress   *Egress  `json:",omitempty"` // nil when it may connect to everything
}

// mapping is one host port.
type mapping struct {
	protocol api.Protocol
	port     uint16
	pod      netip.AddrPort
	name     api.Name
	public   bool
}

// Gateway gives the bridge's own address, the first of PodNet: pods' way out, and their DNS server.
func (c HostConfig) Gateway() netip.Addr { return c.PodNet.Masked().Addr().Next() }

// LinkSource gives the address that a pod's links come from, as its host sees them: the pod's own with the last bit of the second
// octet turned (10.127.3.4: 10.126.3.4). No pod has it, so a program in a pod cannot send from it; rules of the pod's namespace put it
// in, for what came by a link and nothing else. It is thus what tells the host that a packet for a host port has the right to be there.
// That of an IPv6 address goes with that of the IPv4 one.
func LinkSource(pod netip.Addr) netip.Addr {
	a := pod.AsSlice()
	a[len(a)-3] ^= 1
	source, _ := netip.AddrFromSlice(a)
	return source
}

// linkNet gives the network of all LinkSource.
func (c HostConfig) linkNet() netip.Prefix {
	return netip.PrefixFrom(LinkSource(c.PodNet.Addr()), c.PodNet.Bits()).Masked()
}

// HostPlan gives the rules of the host's own namespace. It fails when c lacks something, and
// when two pods want one host port.
func HostPlan(c HostConfig) (Rules, error) {
	bridge, maps, err := c.check()
	if err != nil {
		return Rules{}, fmt.Errorf("planning the rules of the host: %w", err)
	}
	c.PodNet = c.PodNet.Masked()
	c.Members = sortedAddrs(c.Members)
	open := slices.Clone(c.Open)
	slices.SortFunc(open, func(a, b OpenPort) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	c.Open = slices.Compact(open)
	c.Public = sortedPublic(c.Public)
	r := Rules{v4: c.side4(bridge, maps).tables(), v6: []table{filter(no6("GEAR-FORWARD", "FORWARD", bridge), no6("GEAR-INPUT", "INPUT", bridge))}}
	if c.Address6.IsValid() {
		r.v6 = c.side6(bridge, maps).tables()
	}
	return r, nil
}

// tables gives the rules of one version of IP.
func (s side) tables() []table {
	chains := append(s.egress(), s.input(), s.forward(), s.toMembers())
	if s.v4 {
		chains = append(chains, s.balanced())
	}
	return []table{
		filter(chains...),
		nat(s.arriving(), s.own(), s.ports("GEAR-PORTS", false), s.ports("GEAR-PUBLIC", true), s.leaving()),
		raw(s.guard()),
	}
}

// guard drops packets whose addresses lie. It stands before connection tracking, so that replies
// are seen with the addresses they have on the wire: those to 127.0.0.0/8 come from lo alone
// (CVE-2020-8558), those to the balancer from pods alone, those of pods from the bridge alone, and nothing else from there. That a pod sends
// from its own address alone is, for IPv4, a setting of its veth (rp_filter); IPv6 has none, and there a program
// without any privilege may send from any address (IPV6_FREEBIND in ipv6(7)).
func (s side) guard() chain {
	g := chain{name: "GEAR-RAW", hook: "PREROUTING"}
	g.add(in(loIface), back)
	g.add(s.toLoop, drop)
	g.add(s.fromLoop, drop)
	if s.v4 {
		g.add(to(host(s.Gateway())), notIn(s.bridge), dports(api.TCP, FirstLinkPort, LastLinkPort), drop)
	} else {
		g.add(in(s.bridge), astray, drop)
	}
	for _, pods := range []netip.Prefix{s.PodNet, s.linkNet()} {
		g.add(from(pods), in(s.bridge), back)
		g.add(from(pods), drop)
	}
	g.add(in(s.bridge), drop)
	return g
}

// arriving sends new flows for an address of this host to the host ports they may use: to public ones all; to the others
// links of its own pods, and members to the one address that they know of. Others
// go on to the host itself, where nobody listens on a host port, and are refused by the kernel.
func (s side) arriving() chain {
	a := chain{name: "GEAR-PREROUTING", hook: "PREROUTING"}
	a.add(toOthers, back)
	a.add(s.toLoop, back)
	a.add(call("GEAR-PUBLIC"))
	a.add(from(s.linkNet()), in(s.bridge), call("GEAR-PORTS"))
	for _, m := range s.Members {
		a.add(from(host(m)), to(host(s.Address)), call("GEAR-PORTS"))
	}
	return a
}

// own sends new flows that the host itself starts to host ports. Those to 127.0.0.0/8 are left
// alone: they could only leave lo with route_localnet.
func (s side) own() chain {
	o := chain{name: "GEAR-OUTPUT", hook: "OUTPUT"}
	o.add(toOthers, back)
	o.add(s.toLoop, back)
	o.add(call("GEAR-PORTS"))
	return o
}

// ports translates host ports, all or the public ones, to pods.
func (s side) ports(name string, publicOnly bool) chain {
	p := chain{name: name}
	for _, m := range s.maps {
		if m.public || !publicOnly {
			p.add(dport(m.protocol, m.port), because("port", m.name), dnat(m.pod))
		}
	}
	return p
}

// leaving gives pods' flows the host's address on their way out. The bridge's address is in
// the same network, and what the host says to itself from there stays as it is. Those that come back to a pod of
// this host get the bridge's address: a pod that reached itself would otherwise see a packet from its
// own address, which the kernel drops as a martian. A host has several IPv6 addresses, and other hosts let links from the one that they know of.
func (s side) leaving() chain {
	l := chain{name: "GEAR-POSTROUTING", hook: "POSTROUTING"}
	l.add(out(loIface), back)
	l.add(from(s.PodNet), out(s.bridge), snat(s.Gateway()))
	l.add(from(s.PodNet), masquerade)
	l.add(from(s.linkNet()), out(s.bridge), snat(s.Gateway()))
	if s.v4 {
		l.add(from(s.linkNet()), masquerade)
	} else {
		l.add(from(s.linkNet()), snat(s.Address))
	}
	return l
}

// forward lets pods out, and in only what came to a host port. It decides nothing about packets
// that no pod is part of, but for IPv6 on a host that forwards for its pods' sake alone.
func (s side) forward() chain {
	f := chain{name: "GEAR-FORWARD", hook: "FORWARD"}
	f.add(in(s.bridge), known, accept)
	f.add(out(s.bridge), known, accept)
	if s.holds() {
		f.add(in(s.bridge), call(egressChain))
	}
	f.add(out(s.bridge), wasDNAT, accept)
	f.add(in(s.bridge), out(s.bridge), overTCP, reset)
	f.add(in(s.bridge), out(s.bridge), s.unreachable)
	f.add(out(s.bridge), drop)
	for _, m := range s.Members {
		f.add(to(host(m)), in(s.bridge), call("GEAR-MEMBERS"))
	}
	f.add(from(s.linkNet()), in(s.bridge), s.unreachable) // links lead to members alone; else it is forged
	f.add(in(s.bridge), accept)
	if !s.v4 && !s.Routes6 {
		f.add(drop)
	}
	return f
}

// toMembers is what pods may reach on hosts of the mesh: host ports by a link, public ports, open ports, and ping; not
// ssh, the agents, gossip or the master.
func (s side) toMembers() chain {
	m := chain{name: "GEAR-MEMBERS"}
	for _, p := range []api.Protocol{api.TCP, api.UDP} {
		link := []word{from(s.linkNet())}
		if s.LinksOver != "" { // over any other they are refused below
			link = append(link, out(iface(s.LinksOver)))
		}
		m.add(append(link, dports(p, firstHostPort, lastHostPort), accept)...)
	}
	for _, p := range s.Public {
		m.add(to(host(p.At.Addr())), dport(p.Protocol, p.At.Port()), accept)
	}
	for _, o := range s.Open {
		m.add(dport(o.Protocol, o.Port), accept)
	}
	m.add(s.overICMP, accept)
	m.add(overTCP, reset)
	m.add(s.unreachable)
	return m
}

// input is what pods may reach on this host: DNS and the balancer's ports of their own links and by them alone, both over IPv4 only; open ports, and
// ping. Host ports never come here, since they are translated before.
func (s side) input() chain {
	i := chain{name: "GEAR-INPUT", hook: "INPUT"}
	i.add(notIn(s.bridge), back)
	i.add(known, accept)
	if s.v4 {
		i.add(to(host(s.Gateway())), dport(api.TCP, 53), accept)
		i.add(to(host(s.Gateway())), dport(api.UDP, 53), accept)
		i.add(from(s.linkNet()), to(host(s.Gateway())), dports(api.TCP, FirstLinkPort, LastLinkPort), call("GEAR-BALANCED"))
	}
	if s.holds() {
		i.add(call(egressChain))
	}
	for _, o := range s.Open {
		i.add(dport(o.Protocol, o.Port), accept)
	}
	i.add(s.overICMP, accept)
	i.add(overTCP, reset)
	i.add(s.unreachable)
	return i
}

// balanced lets each pod's links, and what came by them alone, to the balancer's ports that they lead to.
func (s side) balanced() chain {
	b := chain{name: "GEAR-BALANCED"}
	for _, p := range slices.SortedFunc(slices.Values(s.Pods), func(x, y HostPod) int { return x.Address.Compare(y.Address) }) {
		for _, port := range slices.Compact(slices.Sorted(slices.Values(p.Balanced))) {
			b.add(from(host(LinkSource(p.Address))), dport(api.TCP, port), accept)
		}
	}
	return b
}

// no6 keeps IPv6 off the bridge of a host that has none: a link-local address must not be a way
// around the rules for IPv4.
func no6(name, hook string, bridge iface) chain {
	c := chain{name: name, hook: hook}
	c.add(in(bridge), drop)
	if hook == "FORWARD" {
		c.add(out(bridge), drop)
	}
	return c
}

// check gives the checked name of the bridge and the host ports, sorted.
func (c HostConfig) check() (iface, []mapping, error) {
	bridge, err := checkIface(c.Bridge)
	if err != nil {
		return "", nil, fmt.Errorf("bridge: %w", err)
	}
	if c.LinksOver != "" {
		if _, err := checkIface(c.LinksOver); err != nil || strings.HasSuffix(c.LinksOver, "+") {
			return "", nil, fmt.Errorf("interface of links %q: one name is needed, such as %q", c.LinksOver, "wg0")
		}
	}
	if !c.PodNet.IsValid() || !c.PodNet.Addr().Is4() || c.PodNet.Bits() < 16 || c.PodNet.Bits() > 30 {
		return "", nil, fmt.Errorf("pod network %s: an IPv4 network of 4 to 65536 addresses is needed, such as 10.127.0.0/16", c.PodNet)
	}
	if err := checkAddr(c.Address); err != nil {
		return "", nil, fmt.Errorf("host: %w", err)
	}
	if c.Address6.IsValid() {
		if err := api.CheckHostIPv6(c.Address6); err != nil {
			return "", nil, fmt.Errorf("host: %w", err)
		}
	}
	for _, m := range c.Members {
		if err := checkHost(m); err != nil {
			return "", nil, fmt.Errorf("member: %w", err)
		}
	}
	for _, o := range c.Open {
		if err := checkPort(o.Protocol, o.Port); err != nil {
			return "", nil, fmt.Errorf("open port: %w", err)
		}
	}
	for _, p := range c.Public {
		if err := errors.Join(checkHost(p.At.Addr()), checkPort(p.Protocol, p.At.Port())); err != nil {
			return "", nil, fmt.Errorf("public port: %w", err)
		}
	}
	if err := c.checkEgress(); err != nil {
		return "", nil, err
	}
	maps, err := c.mappings()
	return bridge, maps, err
}

// mappings gives the host ports, sorted by port and protocol.
func (c HostConfig) mappings() ([]mapping, error) {
	var maps []mapping
	for _, p := range c.Pods {
		if err := checkAddr(p.Address); err != nil {
			return nil, fmt.Errorf("pod: %w", err)
		}
		if !c.PodNet.Contains(p.Address) {
			return nil, fmt.Errorf("pod %s is not in the pod network %s", p.Address, c.PodNet)
		}
		for _, port := range p.Balanced {
			if port < FirstLinkPort || port > LastLinkPort {
				return nil, fmt.Errorf("pod %s: port %d of a balanced link: %d to %d is needed", p.Address, port, FirstLinkPort, LastLinkPort)
			}
		}
		for _, hp := range p.Ports {
			if err := checkHostPort(hp); err != nil {
				return nil, fmt.Errorf("pod %s: port %q: %w", p.Address, hp.Name, err)
			}
			maps = append(maps, mapping{hp.Protocol, hp.HostPort, netip.AddrPortFrom(p.Address, hp.Port), hp.Name, hp.Public})
		}
	}
	slices.SortFunc(maps, func(a, b mapping) int {
		return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.protocol, b.protocol))
	})
	for i := 1; i < len(maps); i++ {
		if a, b := maps[i-1], maps[i]; a.port == b.port && a.protocol == b.protocol {
			return nil, fmt.Errorf("host port %d/%s is wanted by pod %s and by pod %s", a.port, a.protocol, a.pod.Addr(), b.pod.Addr())
		}
	}
	return maps, nil
}

func checkHostPort(hp api.HostPort) error {
	if err := hp.Name.Validate(); err != nil {
		return err
	}
	if err := checkPort(hp.Protocol, hp.Port); err != nil {
		return err
	}
	return checkPort(hp.Protocol, hp.HostPort)
}

func sortedPublic(ports []PublicPort) []PublicPort {
	out := slices.SortedFunc(slices.Values(ports), func(a, b PublicPort) int {
		return cmp.Or(a.At.Addr().Compare(b.At.Addr()), cmp.Compare(a.At.Port(), b.At.Port()), cmp.Compare(a.Protocol, b.Protocol))
	})
	return slices.Compact(out)
}

func sortedAddrs(addrs []netip.Addr) []netip.Addr {
	return slices.Compact(slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare))
}

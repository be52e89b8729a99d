package linker

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"gearmesh.dev/api"
)

// Egress holds a pod to what it may connect to. Links, the host's DNS server, replies and the errors of ICMP need no
// leave; everything else is refused at once, counted, and logged a few times a minute. What is allowed is not more than what pods without
// Egress may do: ssh of a host, its agent and the like stay closed.
type Egress struct {
	Interface string // the host's end of the pod's veth: what comes from there is the pod's, whatever address it has
	Allow     []Allowed
}

// Allowed is one thing that a pod may connect to.
type Allowed struct {
	Net      netip.Prefix
	Protocol api.Protocol
	Ports    []uint16 // all when empty; at most 15 (xt_multiport.h, XT_MULTI_PORTS)
}

// Admits tells whether a connection is allowed.
func (a Allowed) Admits(p api.Protocol, to netip.AddrPort) bool {
	return a.Protocol == p && a.Net.Contains(to.Addr()) && (len(a.Ports) == 0 || slices.Contains(a.Ports, to.Port()))
}

// The most that is allowed to one pod, and the chains of Egress. Chains have at most 28 characters (XT_EXTENSION_MAXNAMELEN).
const (
	maxAllowed   = 4096
	maxPorts     = 15
	egressChain  = prefix + "EGRESS"
	allowPrefix  = prefix + "TO-"
	refusePrefix = prefix + "NO-"
)

// RefusedGroup is the netlink group to which the kernel gives, some times a minute, a packet that an Egress refuses. Its log
// is no way: the kernel does not write that of another network namespace than its first (net.netfilter.nf_log_all_netns).
const RefusedGroup = 7446

// egress gives the chains of the pods that are held to something, and whether there are any. Each pod has two: what it may, and what becomes
// of the rest. The second one never changes, so its counters grow while the first is rewritten.
func (s side) egress() []chain {
	var out []chain
	enter := chain{name: egressChain}
	for _, p := range s.held() {
		i := iface(p.Egress.Interface)
		enter.add(in(i), call(allowPrefix+string(i)))
		out = append(out, p.allowing(i), s.refusing(i))
	}
	if len(out) == 0 {
		return nil
	}
	return append(out, enter)
}

// allowing returns for what the pod may connect to. What has the address of its links was translated by its links, or is told from
// that by GEAR-FORWARD and GEAR-INPUT.
func (p HostPod) allowing(i iface) chain {
	a := chain{name: allowPrefix + string(i)}
	a.add(from(host(LinkSource(p.Address))), back)
	for _, w := range sortedAllowed(p.Egress.Allow) {
		a.add(w.word(), back)
	}
	a.add(call(refusePrefix + string(i)))
	return a
}

// refusing tells the agent of some packets, and refuses all.
func (v ip) refusing(i iface) chain {
	r := chain{name: refusePrefix + string(i)}
	r.add(seldom, tell(i))
	r.add(overTCP, reset)
	r.add(v.unreachable)
	return r
}

// word is the match of what is allowed, as iptables-save writes it: a network of all is left out.
func (a Allowed) word() word {
	var parts []string
	if a.Net.Bits() > 0 {
		parts = append(parts, string(to(a.Net)))
	}
	parts = append(parts, "-p "+string(a.Protocol))
	switch ports := sortedPorts(a.Ports); len(ports) {
	case 0:
	case 1:
		parts = append(parts, fmt.Sprintf("-m %s --dport %d", a.Protocol, ports[0]))
	default:
		list := make([]string, len(ports))
		for i, p := range ports {
			list[i] = strconv.Itoa(int(p))
		}
		parts = append(parts, "-m multiport --dports "+strings.Join(list, ","))
	}
	return word(strings.Join(parts, " "))
}

// held gives the pods with Egress, in the order of their interfaces.
func (c HostConfig) held() []HostPod {
	pods := slices.DeleteFunc(slices.Clone(c.Pods), func(p HostPod) bool { return p.Egress == nil })
	slices.SortFunc(pods, func(a, b HostPod) int { return cmp.Compare(a.Egress.Interface, b.Egress.Interface) })
	return pods
}

// holds tells whether any pod has Egress.
func (c HostConfig) holds() bool {
	return slices.ContainsFunc(c.Pods, func(p HostPod) bool { return p.Egress != nil })
}

// sortedAllowed gives each thing once, in the order of the rules' texts.
func sortedAllowed(list []Allowed) []Allowed {
	out := slices.Clone(list)
	for i := range out {
		out[i].Net = out[i].Net.Masked()
	}
	slices.SortFunc(out, func(a, b Allowed) int { return cmp.Compare(a.word(), b.word()) })
	return slices.CompactFunc(out, func(a, b Allowed) bool { return a.word() == b.word() })
}

func sortedPorts(ports []uint16) []uint16 {
	return slices.Compact(slices.Sorted(slices.Values(ports)))
}

// checkEgress refuses what could not be a rule, and two pods behind one interface.
func (c HostConfig) checkEgress() error {
	taken := map[string]bool{}
	for _, p := range c.held() {
		e := p.Egress
		_, err := checkIface(e.Interface)
		if err == nil && strings.HasSuffix(e.Interface, "+") {
			err = errors.New("one interface is needed, not a pattern")
		}
		if err != nil {
			return fmt.Errorf("egress of pod %s: %w", p.Address, err)
		}
		if taken[e.Interface] {
			return fmt.Errorf("egress of pod %s: interface %q is another pod's", p.Address, e.Interface)
		}
		taken[e.Interface] = true
		if len(e.Allow) > maxAllowed {
			return fmt.Errorf("egress of pod %s: %d networks and addresses are allowed; at most %d can be", p.Address, len(e.Allow), maxAllowed)
		}
		for _, a := range e.Allow {
			if err := a.check(); err != nil {
				return fmt.Errorf("egress of pod %s: %w", p.Address, err)
			}
		}
	}
	return nil
}

func (a Allowed) check() error {
	if !a.Net.IsValid() || a.Net.Addr().Is4In6() {
		return fmt.Errorf("network %s: an IPv4 or IPv6 network is needed, such as 198.51.100.0/24 or 2001:db8::/32", a.Net)
	}
	if len(sortedPorts(a.Ports)) > maxPorts {
		return fmt.Errorf("network %s: %d ports; at most %d fit into a rule", a.Net, len(a.Ports), maxPorts)
	}
	for _, p := range a.Ports {
		if err := checkPort(a.Protocol, p); err != nil {
			return fmt.Errorf("network %s: %w", a.Net, err)
		}
	}
	return checkPort(a.Protocol, 1)
}

// egressVerdict decides whether an open flow of a pod ends because what the pod may connect to has become less. What goes to the host's DNS server
// stays, as does what the pod answers: there the pod is not the source.
func egressVerdict(f flow, old, new lookups) (Reason, bool) {
	is := new.held[f.source]
	if is == nil || f.dialled.Addr() == new.gateway && f.dialled.Port() == 53 || is.admits(f) {
		return "", false
	}
	was := old.held[f.source]
	return ReasonEgress, was == nil || was.admits(f)
}

func (e *Egress) admits(f flow) bool {
	return slices.ContainsFunc(e.Allow, func(a Allowed) bool { return a.Admits(f.protocol, f.dialled) })
}

package linker

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"gearmesh.dev/api"
)

// The interfaces of a pod.
const (
	podIface iface = "eth0"
	loIface  iface = "lo"
)

// localhost and localhost6 are the addresses that links share.
var (
	localhost  = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	localhost6 = netip.IPv6Loopback()
)

// PodPlan gives the rules of a pod's namespace, for a pod with that address and those links.
// It fails when a link has no loopback address, a port 0, a backend that is no host, IPv6 backends or weights that do not go with its backends, or
// the same place as another one. Over IPv6 links are at ::1 alone; the namespace needs "local ::1 dev eth0" in its table local, since the kernel
// otherwise does not take the answers, which come by eth0 (rt6_need_strict in net/ipv6/route.c). What is for ::1 when it comes from
// outside it drops before any rule (ip6_rcv_core in net/ipv6/ip6_input.c).
func PodPlan(pod netip.Addr, links []api.LinkTarget) (Rules, error) {
	if err := checkAddr(pod); err != nil {
		return Rules{}, fmt.Errorf("planning the rules of a pod: %w", err)
	}
	links, err := sortedLinks(links)
	if err != nil {
		return Rules{}, fmt.Errorf("planning the rules of pod %s: %w", pod, err)
	}
	guard := chain{name: "GEAR-RAW", hook: "PREROUTING"}
	guard.add(ipv4.toLoop, notIn(loIface), drop)
	four, six := pairs(ipv4), pairs(ipv6)
	for _, l := range links {
		for _, a := range locals(l) {
			four.add(l, a)
		}
		if l.Localhost {
			six.add(over6(l), localhost6)
		}
	}
	// Over IPv6 a program may send from any address (IPV6_FREEBIND); that of the pod's links is put in after OUTPUT, so here it is forged.
	forged := chain{name: "GEAR-SOURCE", hook: "OUTPUT"}
	forged.add(from(host(LinkSource(IPv6(pod)))), drop)
	r := Rules{v4: []table{filter(four.refused), nat(four.translating(pod)...), raw(guard)}, v6: []table{filter(six.refused)}}
	if slices.ContainsFunc(links, func(l api.LinkTarget) bool { return l.IPv6 }) {
		r.v6 = append(r.v6, nat(six.translating(IPv6(pod))...))
	}
	r.v6 = append(r.v6, raw(forged))
	return r, nil
}

// pair is the two chains that carry links in one version of IP: those with backends, and those without.
type pair struct {
	ip
	laid, refused chain
}

func pairs(v ip) *pair {
	// Refused is on the way in from lo, not on the way out: a REJECT in OUTPUT makes sendto(2) on an UDP
	// socket fail with EPERM, which no program takes for "nobody listens".
	return &pair{v, chain{name: "GEAR-LINKS", hook: "OUTPUT"}, chain{name: "GEAR-REJECT", hook: "INPUT"}}
}

// add carries a link at one of its addresses.
func (p *pair) add(l api.LinkTarget, at netip.Addr) {
	p.laid.balance(l, at)
	p.refuse(l, at)
}

// translating gives the chains of the table nat.
func (p *pair) translating(pod netip.Addr) []chain {
	source := chain{name: "GEAR-SNAT", hook: "POSTROUTING"}
	source.add(out(podIface), wasDNAT, snat(LinkSource(pod)))
	// What still comes for a flow whose entry is gone is answered with a reset, so that a backend does not keep a connection that
	// nobody has any more.
	lost := chain{name: "GEAR-LOST", hook: "PREROUTING"}
	lost.add(to(host(LinkSource(pod))), dnatHost(pod))
	return []chain{p.laid, source, lost}
}

// balance sends flows from a link's place to its backends: each takes of the flows that those before it have left as many as its weight is
// of the weights that are left, and the last takes what is left without a condition, so that rounding loses no flow.
func (c *chain) balance(l api.LinkTarget, at netip.Addr) {
	left := 0
	for i := range l.Backends {
		left += weight(l, i)
	}
	for i, b := range l.Backends {
		words := []word{to(host(at)), dport(l.Protocol, l.Port), because("link", l.Service)}
		if i < len(l.Backends)-1 {
			words = append(words, share(weight(l, i), left))
		}
		left -= weight(l, i)
		c.add(append(words, dnat(b))...)
	}
}

// refuse says at once, for a link without a backend, that nobody is there.
func (p *pair) refuse(l api.LinkTarget, at netip.Addr) {
	if len(l.Backends) == 0 {
		p.refused.add(to(host(at)), dport(l.Protocol, l.Port), asked, because("link", l.Service), p.refusal(l.Protocol))
	}
}

// through gives a link as the rules carry it: a balanced one leads to the host's balancer alone while it has backends, and to
// nobody without them or while the balancer's port is not known.
func through(l api.LinkTarget) api.LinkTarget {
	if l.Mode != api.LinkBalanced {
		return l
	}
	has := len(l.Backends) > 0 && l.Via.IsValid()
	l.Backends, l.Backends6, l.Weights = nil, nil, nil
	if has {
		l.Backends = []netip.AddrPort{l.Via}
	}
	return l
}

// over6 gives a link as it is over IPv6: with those backends that have it. A balanced one has none, since its balancer is at an IPv4 address.
func over6(l api.LinkTarget) api.LinkTarget {
	var at []netip.AddrPort
	var weights []int
	for i, b := range l.Backends6 {
		if !b.IsValid() {
			continue
		}
		at = append(at, b)
		if len(l.Weights) > 0 {
			weights = append(weights, l.Weights[i])
		}
	}
	l.Backends, l.Backends6, l.Weights = at, nil, weights
	return l
}

// leadsTo gives all that a link's flows may be translated to, over IPv4 and IPv6.
func leadsTo(l api.LinkTarget) []netip.AddrPort {
	l = through(l)
	return append(slices.Clone(l.Backends), over6(l).Backends...)
}

// weight gives that of a backend.
func weight(l api.LinkTarget, backend int) int {
	if len(l.Weights) == 0 {
		return 1
	}
	return l.Weights[backend]
}

// locals gives the addresses in the pod that are a link's.
func locals(l api.LinkTarget) []netip.Addr {
	if l.Localhost && l.Local != localhost {
		return []netip.Addr{localhost, l.Local}
	}
	return []netip.Addr{l.Local}
}

// dialled gives the addresses in the pod at which flows of a link begin.
func dialled(l api.LinkTarget) []netip.Addr {
	if l.Localhost {
		return append(locals(l), localhost6)
	}
	return locals(l)
}

// refusal is how a protocol says at once that nobody listens.
func (v ip) refusal(p api.Protocol) word {
	if p == api.TCP {
		return reset
	}
	return v.unreachable
}

// sortedLinks checks the links and gives them in the order of their places, backends sorted
// and each but once.
func sortedLinks(links []api.LinkTarget) ([]api.LinkTarget, error) {
	type place struct {
		addr     netip.Addr
		port     uint16
		protocol api.Protocol
	}
	taken := map[place]api.Name{}
	links = slices.Clone(links)
	for i, l := range links {
		if err := checkLink(l); err != nil {
			return nil, fmt.Errorf("link %q: %w", l.Service, err)
		}
		for _, a := range locals(l) {
			p := place{a, l.Port, l.Protocol}
			if other, ok := taken[p]; ok {
				return nil, fmt.Errorf("link %q: %s:%d/%s is already that of link %q", l.Service, a, l.Port, l.Protocol, other)
			}
			taken[p] = l.Service
		}
		links[i] = sorted(through(l))
	}
	slices.SortFunc(links, func(a, b api.LinkTarget) int {
		return cmp.Or(a.Local.Compare(b.Local), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	return links, nil
}

// sorted gives a link with its backends in order and each but once.
func sorted(l api.LinkTarget) api.LinkTarget {
	order := make([]int, len(l.Backends))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(l.Backends[a].Compare(l.Backends[b]), cmp.Compare(weight(l, a), weight(l, b)))
	})
	order = slices.CompactFunc(order, func(a, b int) bool { return l.Backends[a] == l.Backends[b] })
	l.Backends, l.Backends6, l.Weights = picked(l.Backends, order), picked(l.Backends6, order), picked(l.Weights, order)
	return l
}

// picked gives what is at some places of a list that may be empty.
func picked[T any](list []T, at []int) []T {
	if len(list) == 0 {
		return nil
	}
	out := make([]T, len(at))
	for i, place := range at {
		out[i] = list[place]
	}
	return out
}

func checkWeights(l api.LinkTarget) error {
	if len(l.Weights) > 0 && len(l.Weights) != len(l.Backends) {
		return fmt.Errorf("%d weights for %d backends", len(l.Weights), len(l.Backends))
	}
	for _, w := range l.Weights {
		if w < 1 || w > api.MaxWeight {
			return fmt.Errorf("weight %d: 1 to %d is needed", w, api.MaxWeight)
		}
	}
	return nil
}

func checkLink(l api.LinkTarget) error {
	if err := l.Service.Validate(); err != nil {
		return err
	}
	if !l.Local.Is4() || !l.Local.IsLoopback() {
		return fmt.Errorf("local address %s: an IPv4 loopback address is needed, such as 127.1.0.1", l.Local)
	}
	if err := checkPort(l.Protocol, l.Port); err != nil {
		return err
	}
	for _, b := range l.Backends {
		if err := checkAddr(b.Addr()); err != nil {
			return fmt.Errorf("backend %s: %w", b, err)
		}
		if err := checkPort(l.Protocol, b.Port()); err != nil {
			return fmt.Errorf("backend %s: %w", b, err)
		}
	}
	return errors.Join(checkWeights(l), checkBackends6(l))
}

func checkBackends6(l api.LinkTarget) error {
	if len(l.Backends6) > 0 && len(l.Backends6) != len(l.Backends) {
		return fmt.Errorf("%d backends over IPv6 for %d", len(l.Backends6), len(l.Backends))
	}
	for _, b := range l.Backends6 {
		if b == (netip.AddrPort{}) {
			continue
		}
		if err := errors.Join(api.CheckHostIPv6(b.Addr()), checkPort(l.Protocol, b.Port())); err != nil {
			return fmt.Errorf("backend %s: %w", b, err)
		}
	}
	return nil
}

package linker

import (
	"cmp"
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

// localhost is the address that links share.
var localhost = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// PodPlan gives the rules of a pod's namespace, for a pod with that address and those links.
// It fails when a link has no loopback address, a port 0, a backend that is no IPv4 host, weights that do not go with its backends, or
// the same place as another one.
func PodPlan(pod netip.Addr, links []api.LinkTarget) (Rules, error) {
	if err := checkAddr(pod); err != nil {
		return Rules{}, fmt.Errorf("planning the rules of a pod: %w", err)
	}
	links, err := sortedLinks(links)
	if err != nil {
		return Rules{}, fmt.Errorf("planning the rules of pod %s: %w", pod, err)
	}
	guard := chain{name: "GEAR-RAW", hook: "PREROUTING"}
	guard.add(toLoop, notIn(loIface), drop)
	laid := chain{name: "GEAR-LINKS", hook: "OUTPUT"}
	// On the way in from lo, not on the way out: a REJECT in OUTPUT makes sendto(2) on an UDP
	// socket fail with EPERM, which no program takes for "nobody listens".
	refused := chain{name: "GEAR-REJECT", hook: "INPUT"}
	refused6 := chain{name: "GEAR-REJECT", hook: "INPUT"}
	for _, l := range links {
		for _, a := range locals(l) {
			laid.balance(l, a)
			refused.refuse(l, a)
		}
		if l.Localhost {
			refused6.add(toLoop6, dport(l.Protocol, l.Port), asked, because("link", l.Service), refusal(l.Protocol, noPort6))
		}
	}
	source := chain{name: "GEAR-SNAT", hook: "POSTROUTING"}
	source.add(out(podIface), wasDNAT, snat(LinkSource(pod)))
	// What still comes for a flow whose entry is gone is answered with a reset, so that a backend does not keep a connection that
	// nobody has any more.
	lost := chain{name: "GEAR-LOST", hook: "PREROUTING"}
	lost.add(to(host(LinkSource(pod))), dnatHost(pod))
	return Rules{
		v4: []table{filter(refused), nat(laid, source, lost), raw(guard)},
		v6: []table{filter(refused6)},
	}, nil
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
func (c *chain) refuse(l api.LinkTarget, at netip.Addr) {
	if len(l.Backends) == 0 {
		c.add(to(host(at)), dport(l.Protocol, l.Port), asked, because("link", l.Service), refusal(l.Protocol, unreachable))
	}
}

// through gives a link as the rules carry it: a balanced one leads to the host's balancer alone while it has backends, and to
// nobody without them or while the balancer's port is not known.
func through(l api.LinkTarget) api.LinkTarget {
	if l.Mode != api.LinkBalanced {
		return l
	}
	has := len(l.Backends) > 0 && l.Via.IsValid()
	l.Backends, l.Weights = nil, nil
	if has {
		l.Backends = []netip.AddrPort{l.Via}
	}
	return l
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

// refusal is how a protocol says at once that nobody listens.
func refusal(p api.Protocol, other word) word {
	if p == api.TCP {
		return reset
	}
	return other
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
		links[i].Backends, links[i].Weights = sortedBackends(through(l))
	}
	slices.SortFunc(links, func(a, b api.LinkTarget) int {
		return cmp.Or(a.Local.Compare(b.Local), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	return links, nil
}

// sortedBackends gives the backends in order and each but once, with their weights.
func sortedBackends(l api.LinkTarget) (at []netip.AddrPort, weights []int) {
	order := make([]int, len(l.Backends))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(l.Backends[a].Compare(l.Backends[b]), cmp.Compare(weight(l, a), weight(l, b)))
	})
	for _, i := range order {
		if len(at) > 0 && at[len(at)-1] == l.Backends[i] {
			continue
		}
		at = append(at, l.Backends[i])
		if len(l.Weights) > 0 {
			weights = append(weights, l.Weights[i])
		}
	}
	return at, weights
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
	return checkWeights(l)
}

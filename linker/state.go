package linker

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"gearmesh.dev/api"
)

// States tells what of each link stands in a pod's namespace, in the order of links.
func States(ctx context.Context, path string, links []api.LinkTarget, drains []Drain) ([]api.LinkState, error) {
	return HostChoice.States(ctx, path, links, drains)
}

// States is the function States with this kind of iptables.
func (v Variant) States(ctx context.Context, path string, links []api.LinkTarget, drains []Drain) ([]api.LinkState, error) {
	var have []counted
	for _, f := range families(Rules{}) {
		c, err := v.counted(ctx, path, f.tool)
		if err != nil {
			return nil, err
		}
		have = append(have, c)
	}
	flows, err := openFlows(path)
	if err != nil {
		return nil, err
	}
	sockets, err := listening(path, api.TCP, api.UDP)
	if err != nil {
		return nil, err
	}
	out := make([]api.LinkState, len(links))
	for i, l := range links {
		out[i] = stateOf(through(l), have, flows, drains)
		out[i].Listening = slices.ContainsFunc(sockets, func(s socket) bool { return s.takes(l) })
	}
	return out, nil
}

// counted is our rules as a namespace has them in one version of IP, with the packets that each has seen.
type counted struct {
	tables []saved
	seen   map[string]int64 // by the line of iptables-save, without the counters
}

// counted asks iptables-save for our rules.
func (v Variant) counted(ctx context.Context, netns, tool string) (counted, error) {
	text, err := v.save(ctx, netns, tool, "-c")
	if err != nil {
		return counted{}, err
	}
	return parseCounted(text)
}

// parseCounted reads what iptables-save -c prints: before each rule [packets:bytes].
func parseCounted(text string) (counted, error) {
	c := counted{seen: map[string]int64{}}
	var plain strings.Builder
	for line := range strings.Lines(text) {
		if counters, rule, ok := strings.Cut(line, "] "); ok && strings.HasPrefix(line, "[") {
			packets, _, _ := strings.Cut(counters[1:], ":")
			n, err := strconv.ParseInt(packets, 10, 64)
			if err != nil {
				return c, fmt.Errorf("reading iptables-save: the counters of %q: %w", line, err)
			}
			line = rule
			c.seen[strings.TrimSuffix(rule, "\n")] += n
		}
		plain.WriteString(line)
	}
	var err error
	c.tables, err = parseSaved(plain.String())
	return c, err
}

// chain gives a chain of ours; the zero one when there is none.
func (c counted) chain(table, name string) chain {
	for _, t := range c.tables {
		if i := t.index(name); t.name == table && i >= 0 {
			return t.chains[i]
		}
	}
	return chain{}
}

// stateOf compares one link with what is there; have is of IPv4 and, where the kernel has it, of IPv6.
func stateOf(l api.LinkTarget, have []counted, flows []flow, drains []Drain) api.LinkState {
	s := api.LinkState{Applied: true}
	counts := map[netip.AddrPort]*api.LinkBackend{}
	at := func(b netip.AddrPort) *api.LinkBackend {
		if counts[b] == nil {
			counts[b] = &api.LinkBackend{Address: b, Gone: true}
		}
		return counts[b]
	}
	for i, c := range have {
		if want := sorted(l); i == 0 {
			c.compare(pairs(ipv4), want, locals(l), true, &s, at)
		} else if l.Localhost {
			c.compare(pairs(ipv6), over6(want), []netip.Addr{localhost6}, l.IPv6, &s, at)
		}
	}
	for _, f := range flows {
		if m, ok := linkOf(f, []api.LinkTarget{l}); ok && m.Local == l.Local && f.answers != f.dialled {
			at(f.answers).Open++
		}
	}
	s.Backends = listed(l, counts, drains)
	return s
}

// compare adds to s what there is of a link in one version of IP, at some addresses; translated says that it needs the table nat.
func (c counted) compare(want *pair, l api.LinkTarget, places []netip.Addr, translated bool, s *api.LinkState, at func(netip.AddrPort) *api.LinkBackend) {
	laid, refused := c.chain("nat", "GEAR-LINKS"), c.chain("filter", "GEAR-REJECT")
	s.Applied = s.Applied && (laid.hook == "OUTPUT" || !translated) && (len(l.Backends) > 0 || refused.hook == "INPUT")
	for _, a := range places {
		want.laid.rules, want.refused.rules = nil, nil
		want.add(l, a)
		is, no := laid.about(l, a), refused.about(l, a)
		s.Applied = s.Applied && slices.Equal(want.laid.rules, is) && slices.Equal(want.refused.rules, no)
		for _, rule := range is {
			if b, err := netip.ParseAddrPort(rule[strings.LastIndexByte(rule, ' ')+1:]); err == nil {
				at(b).Gone = false
				at(b).Connections += c.seen["-A GEAR-LINKS "+rule]
			}
		}
		for _, rule := range no {
			s.Refused += c.seen["-A GEAR-REJECT "+rule]
		}
	}
}

// listed gives the backends in order, with the times of those that drain.
func listed(l api.LinkTarget, counts map[netip.AddrPort]*api.LinkBackend, drains []Drain) []api.LinkBackend {
	var out []api.LinkBackend
	for _, b := range counts {
		for _, d := range drains {
			if b.Gone && d.of(l) && d.Backend == b.Address {
				b.Until = &d.Until
			}
		}
		out = append(out, *b)
	}
	slices.SortFunc(out, func(a, b api.LinkBackend) int { return a.Address.Compare(b.Address) })
	return out
}

// about gives the rules of c for a link at one of its addresses.
func (c chain) about(l api.LinkTarget, at netip.Addr) []string {
	var start chain
	start.add(to(host(at)), dport(l.Protocol, l.Port), "")
	var out []string
	for _, r := range c.rules {
		if strings.HasPrefix(r, start.rules[0]) {
			out = append(out, r)
		}
	}
	return out
}

// openFlows gives the flows of a namespace that are open.
func openFlows(path string) ([]flow, error) {
	h, err := handle(path)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	list, err := entries(h)
	if err != nil {
		return nil, fmt.Errorf("reading the connections of namespace %q: %w", path, err)
	}
	var out []flow
	for _, e := range list {
		if f, ok := flowOf(e); ok && isOpen(e) {
			out = append(out, f)
		}
	}
	return out, nil
}

// isOpen tells whether some side of a flow may still send. Of UDP, the kernel forgets what is not used.
func isOpen(e *netlink.ConntrackFlow) bool {
	const lastAck = 6 // enum tcp_conntrack in linux/netfilter/nf_conntrack_tcp.h: after it come TIME_WAIT and CLOSE
	info, ok := e.ProtoInfo.(*netlink.ProtoInfoTCP)
	return !ok || info.State < lastAck
}

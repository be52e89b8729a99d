package linker

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"gearmesh.dev/api"
)

// entry gives a flow as the kernel tracks it.
func entry(protocol api.Protocol, dialled, answers string) flow {
	return flow{protocol, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddrPort(dialled), netip.MustParseAddrPort(answers)}
}

func TestLinkVerdict(t *testing.T) {
	target := func(policy api.Retarget, backends ...string) []api.LinkTarget {
		l := api.LinkTarget{Service: "db", Local: netip.MustParseAddr("127.1.0.1"), Port: 5432, Protocol: api.TCP, Localhost: true, Retarget: policy}
		for _, b := range backends {
			l.Backends = append(l.Backends, netip.MustParseAddrPort(b))
		}
		u := l
		u.Protocol = api.UDP
		return []api.LinkTarget{l, u}
	}
	const was, is = "192.0.2.2:20001", "192.0.2.3:20001"
	balanced := func(policy api.Retarget, via string, backends ...string) []api.LinkTarget {
		l := target(policy, backends...)[:1]
		l[0].Mode, l[0].Via = api.LinkBalanced, netip.MustParseAddrPort(via)
		return l
	}
	const via = "10.127.0.1:30000"
	const was6, is6 = "[2001:db8::2]:20001", "[2001:db8::3]:20001"
	six := func(policy api.Retarget, backend, over6 string) []api.LinkTarget {
		l := target(policy, backend)
		for i := range l {
			l[i].IPv6, l[i].Backends6 = true, []netip.AddrPort{netip.MustParseAddrPort(over6)}
		}
		return l
	}
	down := func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.9") }
	tests := map[string]struct {
		flow flow
		new  []api.LinkTarget
		want Reason
	}{
		"drain keeps TCP":             {entry(api.TCP, "127.0.0.1:5432", was), target(api.Drain, is), ""},
		"no policy drains":            {entry(api.TCP, "127.0.0.1:5432", was), target("", is), ""},
		"drain keeps TCP to the last": {entry(api.TCP, "127.0.0.1:5432", was), target(api.Drain), ""},
		"cut ends TCP":                {entry(api.TCP, "127.0.0.1:5432", was), target(api.Cut, is), ReasonRetargeted},
		"cut by the link's address":   {entry(api.TCP, "127.1.0.1:5432", was), target(api.Cut, is), ReasonRetargeted},
		"cut with no backend left":    {entry(api.TCP, "127.0.0.1:5432", was), target(api.Cut), ReasonRetargeted},
		"cut keeps who is still good": {entry(api.TCP, "127.0.0.1:5432", is), target(api.Cut, was, is), ""},
		"drain ends UDP":              {entry(api.UDP, "127.0.0.1:5432", was), target(api.Drain, is), ReasonDatagram},
		"good UDP stays":              {entry(api.UDP, "127.0.0.1:5432", is), target(api.Cut, is), ""},
		"UDP from before the link":    {entry(api.UDP, "127.0.0.1:5432", "127.0.0.1:5432"), target(api.Drain, is), ReasonDatagram},
		"drain, but the host is down": {entry(api.TCP, "127.0.0.1:5432", "192.0.2.9:1"), target(api.Drain, is), ReasonHostDown},
		"down, though still listed":   {entry(api.TCP, "127.0.0.1:5432", "192.0.2.9:1"), target(api.Drain, "192.0.2.9:1"), ReasonHostDown},
		"the link is gone":            {entry(api.TCP, "127.0.0.1:5432", was), nil, ReasonUnlinked},
		"the program's own, unlinked": {entry(api.TCP, "127.0.0.1:5432", "127.0.0.1:5432"), nil, ""},
		"balanced, another backend":   {entry(api.TCP, "127.0.0.1:5432", via), balanced(api.Cut, via, is), ""}, // the balancer ends what it must
		"balanced, no backend":        {entry(api.TCP, "127.0.0.1:5432", via), balanced(api.Cut, via), ReasonRetargeted},
		"balanced, none, but drain":   {entry(api.TCP, "127.0.0.1:5432", via), balanced(api.Drain, via), ""},
		"direct until now":            {entry(api.TCP, "127.0.0.1:5432", was), balanced(api.Cut, via, was), ReasonRetargeted},
		"IPv6, drain keeps TCP":       {entry(api.TCP, "[::1]:5432", was6), six(api.Drain, is, is6), ""},
		"IPv6, cut ends TCP":          {entry(api.TCP, "[::1]:5432", was6), six(api.Cut, is, is6), ReasonRetargeted},
		"IPv6, still good":            {entry(api.TCP, "[::1]:5432", is6), six(api.Cut, is, is6), ""},
		"IPv6, drain ends UDP":        {entry(api.UDP, "[::1]:5432", was6), six(api.Drain, is, is6), ReasonDatagram},
		"IPv6, the link is gone":      {entry(api.TCP, "[::1]:5432", was6), nil, ReasonUnlinked},
		"IPv6, none has it any more":  {entry(api.TCP, "[::1]:5432", was6), target(api.Cut, was), ReasonRetargeted},
		"another port":                {entry(api.TCP, "127.0.0.1:80", "127.0.0.1:80"), target(api.Cut, is), ""},
		"another address":             {entry(api.TCP, "127.0.0.2:5432", "127.0.0.2:5432"), target(api.Cut, is), ""},
		"out to the world":            {entry(api.TCP, "198.51.100.1:5432", "198.51.100.1:5432"), target(api.Cut, is), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			old := target(api.Cut, was)
			got, ends := linkVerdict(tt.flow, old, tt.new, down)
			if ends && !mayEnd(old, tt.new, got == ReasonHostDown) {
				t.Error("mayEnd says that it cannot end")
			}
			if ends != (tt.want != "") || ends && got != tt.want {
				t.Errorf("got %q, %v; want %q", got, ends, tt.want)
			}
		})
	}
}

// The flows are looked at only when one of them may end; TestLinkVerdict is about when they must be.
func TestMayEnd(t *testing.T) {
	link := func(change func(*api.LinkTarget)) []api.LinkTarget {
		l := api.LinkTarget{Service: "db", Local: netip.MustParseAddr("127.1.0.1"), Port: 5432, Protocol: api.TCP, Localhost: true, Retarget: api.Drain}
		change(&l)
		return []api.LinkTarget{l}
	}
	old := link(func(*api.LinkTarget) {})
	for name, tt := range map[string]struct {
		new  []api.LinkTarget
		down bool
		want bool
	}{
		"drained TCP with another backend": {link(func(l *api.LinkTarget) { l.Backends = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.3:20001")} }), false, false},
		"a host is down":                   {old, true, true},
		"cut":                              {link(func(l *api.LinkTarget) { l.Retarget = api.Cut }), false, true},
		"UDP":                              {append(link(func(l *api.LinkTarget) { l.Protocol = api.UDP }), old...), false, true},
		"another port":                     {link(func(l *api.LinkTarget) { l.Port++ }), false, true},
		"localhost is another's":           {link(func(l *api.LinkTarget) { l.Localhost = false }), false, true},
		"gone":                             {nil, false, true},
	} {
		if got := mayEnd(old, tt.new, tt.down); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Where mayFlush says that no flow has to end, none does but what was started to a TCP port that was nobody's.
func TestMayFlush(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	some := func() lookups {
		c := HostConfig{PodNet: netip.MustParsePrefix("10.127.0.0/16"), Address: netip.MustParseAddr("192.0.2.1"), Address6: netip.MustParseAddr("2001:db8::1")}
		for i := range r.IntN(4) {
			p := HostPod{Address: netip.AddrFrom4([4]byte{10, 127, 0, byte(5 + i)})}
			if r.IntN(4) == 0 {
				p.Egress = &Egress{Allow: []Allowed{{Net: netip.MustParsePrefix(one(r, "192.0.2.0/24", "203.0.113.0/24")), Protocol: api.TCP}}}
			}
			for range r.IntN(2) {
				p.Ports = append(p.Ports, api.HostPort{Protocol: one(r, api.TCP, api.TCP, api.UDP), Port: 80, HostPort: uint16(20001 + r.IntN(5))})
			}
			c.Pods = append(c.Pods, p)
		}
		return c.lookup()
	}
	none, all := 0, 0
	for range 20000 {
		old, new := some(), some()
		if mayFlush(old, new) {
			all++
			continue
		}
		none++
		for range 20 {
			f := flow{one(r, api.TCP, api.UDP), netip.MustParseAddr(one(r, "10.127.0.5", "10.127.0.6", "192.0.2.9")),
				netip.AddrPortFrom(netip.MustParseAddr(one(r, "192.0.2.1", "192.0.2.7", "2001:db8::1", "203.0.113.5")), uint16(20001+r.IntN(5))),
				netip.AddrPortFrom(netip.MustParseAddr(one(r, "10.127.0.5", "10.127.0.7", "192.0.2.1")), 80)}
			if new.pods[f.source] && !old.pods[f.source] {
				continue // its address is given anew only when nobody has flows to it
			}
			reason, ends := hostVerdict(f, old, new)
			_, had := old.ports[portKey{f.protocol, f.dialled.Port(), f.dialled.Addr().Is4()}]
			if ends && (reason != ReasonPortChanged || f.protocol != api.TCP || had) {
				t.Fatalf("%+v ends, %s, from %+v to %+v", f, reason, old, new)
			}
		}
	}
	if none < 500 || all < 500 {
		t.Errorf("%d times none, %d times some: both must be tried", none, all)
	}
}

func one[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func TestHostVerdict(t *testing.T) {
	config := func(pods ...HostPod) lookups {
		return HostConfig{PodNet: netip.MustParsePrefix("10.127.0.0/16"), Address: netip.MustParseAddr("192.0.2.1"), Address6: netip.MustParseAddr("2001:db8::1"), Pods: pods}.lookup()
	}
	pod := func(a string, port, hostPort uint16) HostPod {
		return HostPod{Address: netip.MustParseAddr(a), Ports: []api.HostPort{{Protocol: api.TCP, Port: port, HostPort: hostPort}}}
	}
	old := config(pod("10.127.0.5", 80, 20001), pod("10.127.0.6", 80, 20002))
	gone := config(pod("10.127.0.6", 80, 20002))
	moved := config(pod("10.127.0.5", 80, 20009), pod("10.127.0.6", 80, 20001))
	outgoing := flow{api.TCP, netip.MustParseAddr("10.127.0.5"), netip.MustParseAddrPort("192.0.2.2:20001"), netip.MustParseAddrPort("192.0.2.2:20001")}
	tests := map[string]struct {
		flow flow
		new  lookups
		want Reason
	}{
		"nothing changed":                 {entry(api.TCP, "192.0.2.1:20001", "10.127.0.5:80"), old, ""},
		"to a pod that is gone":           {entry(api.TCP, "192.0.2.1:20001", "10.127.0.5:80"), gone, ReasonPodGone},
		"from a pod that is gone":         {outgoing, gone, ReasonPodGone},
		"to the other pod":                {entry(api.TCP, "192.0.2.1:20002", "10.127.0.6:80"), gone, ""},
		"the port is another's":           {entry(api.TCP, "192.0.2.1:20001", "10.127.0.5:80"), moved, ReasonPortChanged},
		"by the gateway's address":        {entry(api.TCP, "10.127.0.1:20001", "10.127.0.5:80"), moved, ReasonPortChanged},
		"from before the mapping":         {entry(api.TCP, "192.0.2.1:20009", "192.0.2.1:20009"), moved, ReasonPortChanged},
		"already right":                   {entry(api.TCP, "192.0.2.1:20001", "10.127.0.6:80"), moved, ""},
		"another protocol":                {entry(api.UDP, "192.0.2.1:20001", "192.0.2.1:20001"), moved, ""},
		"a pod's flow to another host":    {outgoing, moved, ""},
		"IPv6, nothing changed":           {entry(api.TCP, "[2001:db8::1]:20001", "[fd67:6561:7200::a7f:5]:80"), old, ""},
		"IPv6, to a pod that is gone":     {entry(api.TCP, "[2001:db8::1]:20001", "[fd67:6561:7200::a7f:5]:80"), gone, ReasonPodGone},
		"IPv6, the port is another's":     {entry(api.TCP, "[2001:db8::1]:20001", "[fd67:6561:7200::a7f:5]:80"), moved, ReasonPortChanged},
		"IPv6, already right":             {entry(api.TCP, "[fd67:6561:7200::a7f:1]:20001", "[fd67:6561:7200::a7f:6]:80"), moved, ""},
		"the host's own flow, other port": {entry(api.TCP, "192.0.2.1:22", "192.0.2.1:22"), moved, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, ends := hostVerdict(tt.flow, old, tt.new)
			if ends != (tt.want != "") || ends && got != tt.want {
				t.Errorf("got %q, %v; want %q", got, ends, tt.want)
			}
		})
	}
}

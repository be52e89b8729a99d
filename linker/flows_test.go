package linker

import (
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
		"another port":                {entry(api.TCP, "127.0.0.1:80", "127.0.0.1:80"), target(api.Cut, is), ""},
		"another address":             {entry(api.TCP, "127.0.0.2:5432", "127.0.0.2:5432"), target(api.Cut, is), ""},
		"out to the world":            {entry(api.TCP, "198.51.100.1:5432", "198.51.100.1:5432"), target(api.Cut, is), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, ends := linkVerdict(tt.flow, target(api.Cut, was), tt.new, down)
			if ends != (tt.want != "") || ends && got != tt.want {
				t.Errorf("got %q, %v; want %q", got, ends, tt.want)
			}
		})
	}
}

func TestHostVerdict(t *testing.T) {
	config := func(pods ...HostPod) ports4 {
		return HostConfig{PodNet: netip.MustParsePrefix("10.127.0.0/16"), Address: netip.MustParseAddr("192.0.2.1"), Pods: pods}.lookup()
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
		new  ports4
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

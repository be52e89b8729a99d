package linker_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/golden"
	"gearmesh.dev/linker"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func backends(s ...string) []netip.AddrPort {
	var out []netip.AddrPort
	for _, b := range s {
		out = append(out, netip.MustParseAddrPort(b))
	}
	return out
}

// link gives a link as the directory resolves it: nth service, on localhost too.
func link(service string, n byte, port uint16, to ...string) api.LinkTarget {
	return api.LinkTarget{Service: api.Name(service), Local: netip.AddrFrom4([4]byte{127, 1, 0, n}), Port: port,
		Protocol: api.TCP, Localhost: true, Retarget: api.Drain, Backends: backends(to...)}
}

// with gives a changed copy of a link.
func with(l api.LinkTarget, change func(*api.LinkTarget)) api.LinkTarget {
	change(&l)
	return l
}

// six gives a link of a pod with IPv6, "" for a backend without.
func six(l api.LinkTarget, to ...string) api.LinkTarget {
	l.IPv6 = true
	for _, b := range to {
		at, _ := netip.ParseAddrPort(b)
		l.Backends6 = append(l.Backends6, at)
	}
	return l
}

func TestPodPlan(t *testing.T) {
	second := with(link("db2", 2, 5432, "192.0.2.9:20007"), func(l *api.LinkTarget) { l.Localhost = false })
	dns := with(link("stats", 3, 8125), func(l *api.LinkTarget) { l.Protocol = api.UDP })
	tests := map[string][]api.LinkTarget{
		"none":     nil,
		"one":      {link("db", 1, 5432, "192.0.2.2:20001")},
		"three":    {link("db", 1, 5432, "192.0.2.4:20001", "192.0.2.2:20009", "192.0.2.2:20001", "192.0.2.2:20001")},
		"weighted": {with(link("db", 1, 5432, "192.0.2.4:20001", "192.0.2.2:20009", "192.0.2.2:20001", "192.0.2.2:20001"), func(l *api.LinkTarget) { l.Weights = []int{1, 997, 100, 100} })},
		"several":  {dns, second, link("db", 1, 5432, "192.0.2.2:20001")},
		"nowhere":  {link("db", 1, 5432)},
		"balanced": {
			with(link("db", 1, 5432, "192.0.2.2:20001", "192.0.2.3:20001"), func(l *api.LinkTarget) {
				l.Mode, l.Via = api.LinkBalanced, netip.MustParseAddrPort("10.127.0.1:30000")
			}),
			with(link("none", 2, 80), func(l *api.LinkTarget) {
				l.Mode, l.Via = api.LinkBalanced, netip.MustParseAddrPort("10.127.0.1:30001")
			}),
			with(link("unknown", 3, 81, "192.0.2.2:20001"), func(l *api.LinkTarget) { l.Mode = api.LinkBalanced }),
		},
		"dual": {
			six(link("db", 1, 5432, "192.0.2.4:20001", "192.0.2.2:20009", "192.0.2.3:20002"), "[2001:db8::4]:20001", "", "[2001:db8::3]:20002"),
			six(with(link("weighted", 2, 80, "192.0.2.4:20003", "192.0.2.2:20004", "192.0.2.3:20005"), func(l *api.LinkTarget) { l.Weights = []int{1, 50, 200} }), "[2001:db8::4]:20003", "", "[2001:db8::3]:20005"),
			six(link("old", 3, 81, "192.0.2.4:20006"), ""), six(link("none", 4, 82)),
			six(with(link("far", 5, 80, "192.0.2.4:20007"), func(l *api.LinkTarget) { l.Localhost = false }), "[2001:db8::4]:20007"),
			with(six(link("balanced", 6, 83, "192.0.2.4:20008"), "[2001:db8::4]:20008"), func(l *api.LinkTarget) {
				l.Mode, l.Via = api.LinkBalanced, netip.MustParseAddrPort("10.127.0.1:30000")
			}),
		},
		"udp-only": {with(dns, func(l *api.LinkTarget) { l.Localhost = false })},
	}
	for name, links := range tests {
		t.Run(name, func(t *testing.T) {
			r, err := linker.PodPlan(addr("10.127.0.5"), links)
			if err != nil {
				t.Fatal(err)
			}
			golden.Equal(t, "pod-"+name+".rules", []byte(r.String()))
		})
	}
}

func TestPodPlanIgnoresOrder(t *testing.T) {
	links := []api.LinkTarget{link("a", 1, 1, "192.0.2.2:1", "192.0.2.3:1"), link("b", 2, 2), link("c", 3, 3, "192.0.2.1:4")}
	want, err := linker.PodPlan(addr("10.127.0.5"), links)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(links)
	slices.Reverse(links[2].Backends)
	got, err := linker.PodPlan(addr("10.127.0.5"), links)
	if err != nil || !got.Equal(want) {
		t.Fatalf("got %v\n%s, want\n%s", err, got, want)
	}
}

func TestEqualWeightsAreNone(t *testing.T) {
	l := link("db", 1, 5432, "192.0.2.4:20001", "192.0.2.2:20009", "192.0.2.2:20001", "192.0.2.2:20002", "192.0.2.2:20003")
	want, err := linker.PodPlan(addr("10.127.0.5"), []api.LinkTarget{l})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []int{1, 3, 1000} {
		l.Weights = []int{w, w, w, w, w}
		if got, err := linker.PodPlan(addr("10.127.0.5"), []api.LinkTarget{l}); err != nil || !got.Equal(want) {
			t.Errorf("weight %d: %v\n%s", w, err, got)
		}
	}
}

func TestPodPlanRefuses(t *testing.T) {
	good := link("db", 1, 5432, "192.0.2.2:20001")
	tests := map[string]struct {
		link api.LinkTarget
		want string
	}{
		"no service":      {with(good, func(l *api.LinkTarget) { l.Service = "" }), "a name is needed"},
		"hostile service": {with(good, func(l *api.LinkTarget) { l.Service = "a\n-A INPUT" }), "only a-z, 0-9"},
		"zero local":      {with(good, func(l *api.LinkTarget) { l.Local = netip.Addr{} }), "127.1.0.1"},
		"local elsewhere": {with(good, func(l *api.LinkTarget) { l.Local = addr("192.0.2.1") }), "loopback address"},
		"IPv6 local":      {with(good, func(l *api.LinkTarget) { l.Local = addr("::1") }), "IPv4 loopback"},
		"port 0":          {with(good, func(l *api.LinkTarget) { l.Port = 0 }), "1 to 65535"},
		"protocol":        {with(good, func(l *api.LinkTarget) { l.Protocol = "sctp" }), "tcp or udp"},
		"no protocol":     {with(good, func(l *api.LinkTarget) { l.Protocol = "" }), "tcp or udp"},
		"zero backend":    {with(good, func(l *api.LinkTarget) { l.Backends = make([]netip.AddrPort, 1) }), "an address is needed"},
		"IPv6 backend":    {with(good, func(l *api.LinkTarget) { l.Backends = backends("[2001:db8::1]:80") }), "IPv4 is needed"},
		"mapped backend":  {with(good, func(l *api.LinkTarget) { l.Backends = backends("[::ffff:192.0.2.1]:80") }), "IPv4 is needed"},
		"backend port 0":  {with(good, func(l *api.LinkTarget) { l.Backends = backends("192.0.2.1:0") }), "1 to 65535"},
		"loop backend":    {with(good, func(l *api.LinkTarget) { l.Backends = backends("127.0.0.1:80") }), "not that of a host"},
		"few over IPv6":   {six(good, "[2001:db8::1]:80", "[2001:db8::2]:80"), "2 backends over IPv6 for 1"},
		"IPv4 over IPv6":  {six(good, "192.0.2.1:80"), "no IPv6 address"},
		"IPv6 of a link":  {six(good, "[fe80::1]:80"), "no IPv6 address"},
		"IPv6 of a pod":   {six(good, "[fd67:6561:7200::a7f:5]:80"), "no IPv6 address"},
		"IPv6 port 0":     {six(good, "[2001:db8::1]:0"), "1 to 65535"},
		"few weights":     {with(good, func(l *api.LinkTarget) { l.Weights = []int{1, 2} }), "2 weights for 1 backends"},
		"weight 0":        {with(good, func(l *api.LinkTarget) { l.Weights = []int{0} }), "1 to 1000"},
		"weight too big":  {with(good, func(l *api.LinkTarget) { l.Weights = []int{1001} }), "1 to 1000"},
		"place taken":     {link("other", 2, 80), "already that of link"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := linker.PodPlan(addr("10.127.0.5"), []api.LinkTarget{tt.link, link("first", 9, 80)})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := linker.PodPlan(netip.Addr{}, nil); err == nil {
		t.Error("a pod without address was accepted")
	}
}

// hostConfig is a host with two pods and one neighbour.
func hostConfig() linker.HostConfig {
	return linker.HostConfig{
		Bridge: "gear0", PodNet: netip.MustParsePrefix("10.127.0.0/16"), Address: addr("192.0.2.1"),
		Members: []netip.Addr{addr("192.0.2.2"), addr("192.0.2.1")},
		Open:    []linker.OpenPort{{Protocol: api.TCP, Port: 80}},
		Public:  []linker.PublicPort{{Protocol: api.UDP, At: netip.MustParseAddrPort("192.0.2.2:20053")}, {Protocol: api.TCP, At: netip.MustParseAddrPort("192.0.2.2:20007")}},
		Pods: []linker.HostPod{
			{Address: addr("10.127.0.6"), Ports: []api.HostPort{
				{Name: "main", Protocol: api.TCP, Port: 80, HostPort: 20002, Public: true},
				{Name: "dns", Protocol: api.UDP, Port: 53, HostPort: 20001}}},
			{Address: addr("10.127.0.5"), Ports: []api.HostPort{{Name: "main", Protocol: api.TCP, Port: 5432, HostPort: 20001}}, Balanced: []uint16{30001, 30000, 30001}},
		},
	}
}

// dualConfig is heldConfig with IPv6 on both hosts.
func dualConfig() linker.HostConfig {
	c := heldConfig()
	c.Address6, c.Members = addr("2001:db8::1"), append(c.Members, addr("2001:db8::2"), addr("2001:db8::1"))
	c.Members = append(c.Members, addr("2001:db8::2:2"), addr("2001:db8::2"))
	c.Public = append(c.Public, linker.PublicPort{Protocol: api.TCP, At: netip.MustParseAddrPort("[2001:db8::2]:20007")})
	c.Pods[0].Egress.Allow = append(c.Pods[0].Egress.Allow, linker.Allowed{Net: netip.MustParsePrefix("2001:db8:1::7/64"), Protocol: api.TCP, Ports: []uint16{443, 80}},
		linker.Allowed{Net: netip.MustParsePrefix("::/0"), Protocol: api.UDP, Ports: []uint16{53}})
	return c
}

func TestHostPlan(t *testing.T) {
	bare := hostConfig()
	bare.Members, bare.Open, bare.Public, bare.Pods = nil, nil, nil, nil
	over := dualConfig()
	over.LinksOver = "wg0"
	for name, c := range map[string]linker.HostConfig{"full": hostConfig(), "bare": bare, "egress": heldConfig(), "dual": dualConfig(), "over": over} {
		t.Run(name, func(t *testing.T) {
			r, err := linker.HostPlan(c)
			if err != nil {
				t.Fatal(err)
			}
			golden.Equal(t, "host-"+name+".rules", []byte(r.String()))
		})
	}
}

func TestHostPlanRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(*linker.HostConfig)
		want   string
	}{
		"no bridge":       {func(c *linker.HostConfig) { c.Bridge = "" }, "1 to 15"},
		"hostile bridge":  {func(c *linker.HostConfig) { c.Bridge = "g -j ACCEPT" }, "1 to 15"},
		"only a plus":     {func(c *linker.HostConfig) { c.Bridge = "+" }, "1 to 15"},
		"plus within":     {func(c *linker.HostConfig) { c.Bridge = "g+v" }, "1 to 15"},
		"long bridge":     {func(c *linker.HostConfig) { c.Bridge = "gear0gear0gear0g" }, "1 to 15"},
		"no network":      {func(c *linker.HostConfig) { c.PodNet = netip.Prefix{} }, "pod network"},
		"IPv6 network":    {func(c *linker.HostConfig) { c.PodNet = netip.MustParsePrefix("fd00::/64") }, "IPv4 network"},
		"no address":      {func(c *linker.HostConfig) { c.Address = netip.Addr{} }, "an address is needed"},
		"local member":    {func(c *linker.HostConfig) { c.Members = []netip.Addr{addr("fe80::1")} }, "no IPv6 address"},
		"zoned member":    {func(c *linker.HostConfig) { c.Members = []netip.Addr{addr("2001:db8::1%a")} }, "no IPv6 address"},
		"mapped member":   {func(c *linker.HostConfig) { c.Members = []netip.Addr{addr("::ffff:192.0.2.1")} }, "no IPv6 address"},
		"pod as member":   {func(c *linker.HostConfig) { c.Members = []netip.Addr{addr("fd67:6561:7200::a7f:5")} }, "no IPv6 address"},
		"loop as host":    {func(c *linker.HostConfig) { c.Address6 = addr("::1") }, "no IPv6 address"},
		"IPv4 as IPv6":    {func(c *linker.HostConfig) { c.Address6 = addr("192.0.2.1") }, "no IPv6 address"},
		"ssh by a link":   {func(c *linker.HostConfig) { c.Pods[0].Balanced = []uint16{22} }, "30000 to 30999"},
		"open port 0":     {func(c *linker.HostConfig) { c.Open[0].Port = 0 }, "1 to 65535"},
		"public port 0":   {func(c *linker.HostConfig) { c.Public[0].At = netip.MustParseAddrPort("192.0.2.2:0") }, "1 to 65535"},
		"public nowhere":  {func(c *linker.HostConfig) { c.Public[0].At = netip.AddrPort{} }, "an address is needed"},
		"pod elsewhere":   {func(c *linker.HostConfig) { c.Pods[0].Address = addr("192.0.2.7") }, "not in the pod network"},
		"no pod address":  {func(c *linker.HostConfig) { c.Pods[0].Address = netip.Addr{} }, "an address is needed"},
		"port 0":          {func(c *linker.HostConfig) { c.Pods[0].Ports[0].Port = 0 }, "1 to 65535"},
		"host port 0":     {func(c *linker.HostConfig) { c.Pods[0].Ports[0].HostPort = 0 }, "1 to 65535"},
		"no protocol":     {func(c *linker.HostConfig) { c.Pods[0].Ports[0].Protocol = "" }, "tcp or udp"},
		"hostile name":    {func(c *linker.HostConfig) { c.Pods[0].Ports[0].Name = "a b" }, "only a-z"},
		"host port twice": {func(c *linker.HostConfig) { c.Pods[0].Ports[0].HostPort = 20001 }, "wanted by pod"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := hostConfig()
			tt.change(&c)
			_, err := linker.HostPlan(c)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// What goes with an IPv4 address over IPv6.
func TestIPv6Addresses(t *testing.T) {
	pod := addr("10.127.3.4")
	if got := linker.IPv6(pod); got != addr("fd67:6561:7200::a7f:304") {
		t.Errorf("pod %s has %s", pod, got)
	}
	if got := linker.LinkSource(linker.IPv6(pod)); got != addr("fd67:6561:7200::a7e:304") || got != linker.IPv6(linker.LinkSource(pod)) {
		t.Errorf("its links have %s", got)
	}
}

func TestPublicPorts(t *testing.T) {
	end := func(at string, public bool) api.Endpoint {
		return api.Endpoint{Protocol: api.TCP, Address: netip.MustParseAddrPort(at), Public: public}
	}
	d := api.Directory{Endpoints: []api.HostEndpoints{
		{Host: "c", Endpoints: []api.Endpoint{end("192.0.2.3:20001", true), end("192.0.2.3:7443", true), end("192.0.2.3:30000", true)}},
		{Host: "a", Endpoints: []api.Endpoint{end("192.0.2.1:20001", true)}},
		{Host: "b", Endpoints: []api.Endpoint{end("192.0.2.2:20009", true), end("192.0.2.2:20010", false), end("192.0.2.2:20009", true)}},
	}}
	got := linker.PublicPorts(d, addr("192.0.2.1"))
	want := []linker.PublicPort{{Protocol: api.TCP, At: netip.MustParseAddrPort("192.0.2.2:20009")}, {Protocol: api.TCP, At: netip.MustParseAddrPort("192.0.2.3:20001")}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

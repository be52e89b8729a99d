//go:build root

package linker_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/linker"
)

// cluster is two hosts with two pods each. Pod n of host h has address 10.127.0.(2+n) and host
// ports 20000+n for its port 5432, TCP and UDP. Host a is .1, b is .2.
type cluster struct {
	lan
	variant  linker.Variant
	a, b     labHost
	pa, pb   [2]labPod
	ca, cb   linker.HostConfig
	stranger space
}

func newCluster(t *testing.T, v linker.Variant) *cluster { return newClusterWith(t, v, false) }

// newClusterWith makes a cluster whose pods are ports of a bridge, or routed and with br_netfilter on.
func newClusterWith(t *testing.T, v linker.Variant, routed bool) *cluster {
	return newClusterOf(t, v, routed, false)
}

func newClusterOf(t *testing.T, v linker.Variant, routed, dual bool) *cluster {
	c := &cluster{lan: newLAN(t), variant: v}
	c.a, c.b, c.stranger = c.host(t, 1), c.host(t, 2), c.node(t, 66)
	if c.a.routed, c.b.routed = routed, routed; routed {
		c.a.sysctl(t, "net/bridge/bridge-nf-call-iptables=1")
	}
	c.a.dual, c.b.dual = dual, dual
	for i := range 2 {
		c.pa[i], c.pb[i] = c.a.pod(t, 10+i), c.b.pod(t, 20+i)
		c.pa[i].serve(t, fmt.Sprintf("a%d", i), ":5432")
		c.pb[i].serve(t, fmt.Sprintf("b%d", i), ":5432")
	}
	c.ca, c.cb = c.config(c.a, c.pa), c.config(c.b, c.pb)
	c.applyHost(t, c.a, c.ca)
	c.applyHost(t, c.b, c.cb)
	return c
}

func (c *cluster) config(h labHost, pods [2]labPod) linker.HostConfig {
	cfg := linker.HostConfig{Bridge: "gear0", PodNet: netip.MustParsePrefix("10.127.0.0/16"), Address: h.addr,
		Members: []netip.Addr{c.a.addr, c.b.addr}}
	if h.routed {
		cfg.Bridge = "gv+"
	}
	if h.dual {
		cfg.Address6, cfg.Members = h.addr6(), append(cfg.Members, c.a.addr6(), c.b.addr6())
	}
	for i, p := range pods {
		n := uint16(20000 + i)
		cfg.Pods = append(cfg.Pods, linker.HostPod{Address: p.addr, Ports: []api.HostPort{
			{Name: "main", Protocol: api.TCP, Port: 5432, HostPort: n},
			{Name: "udp", Protocol: api.UDP, Port: 5432, HostPort: n}}})
	}
	return cfg
}

func (c *cluster) applyHost(t testing.TB, h labHost, cfg linker.HostConfig) linker.Rules {
	t.Helper()
	r, err := linker.HostPlan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.variant.Apply(t.Context(), h.path, r); err != nil {
		t.Fatal(err)
	}
	return r
}

func (c *cluster) applyPod(t testing.TB, p labPod, links ...api.LinkTarget) linker.Rules {
	t.Helper()
	r, err := linker.PodPlan(p.addr, links)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.variant.Apply(t.Context(), p.path, r); err != nil {
		t.Fatal(err)
	}
	return r
}

// eachVariant runs a test with both kinds of iptables.
func eachVariant(t *testing.T, f func(t *testing.T, v linker.Variant)) {
	for _, v := range []linker.Variant{linker.NFT, linker.Legacy} {
		t.Run(string(v), func(t *testing.T) { f(t, v) })
	}
}

// eachWay runs a test with both kinds of iptables and both kinds of pod network.
func eachWay(t *testing.T, f func(t *testing.T, c *cluster)) {
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		t.Run("bridged", func(t *testing.T) { f(t, newClusterWith(t, v, false)) })
		t.Run("routed", func(t *testing.T) { f(t, newClusterWith(t, v, true)) })
	})
}

func udp(l api.LinkTarget) api.LinkTarget {
	l.Protocol = api.UDP
	return l
}

func TestLinkToAnotherHost(t *testing.T) {
	eachWay(t, func(t *testing.T, c *cluster) {
		db := link("db", 1, 5432, "192.0.2.2:20001")
		c.applyPod(t, c.pa[0], db, udp(db))
		for _, network := range []string{"tcp", "udp"} {
			for _, at := range []string{"127.0.0.1:5432", "127.1.0.1:5432"} {
				c.pa[0].session(t, network, at).expect(t, "b1", "192.0.2.1")
			}
			c.pa[0].refused(t, network, "192.0.2.2:20001") // not by the link, though it is the same place
		}
		c.a.session(t, "tcp", "192.0.2.2:20000").expect(t, "b0", "192.0.2.1")
		c.b.session(t, "tcp", "192.0.2.2:20000").expect(t, "b0", "192.0.2.2")
	})
}

// Links travel over the interface that the operator has named, and are refused where the way to the other host is another.
func TestLinksOverOneInterface(t *testing.T) {
	eachWay(t, func(t *testing.T, c *cluster) {
		db := link("db", 1, 5432, "192.0.2.2:20001")
		own := link("own", 2, 5433, "192.0.2.1:20000")
		c.applyPod(t, c.pa[0], db, udp(db), own)
		for _, over := range []string{"eth0", "wg0", "eth0"} {
			cfg := c.config(c.a, c.pa)
			cfg.LinksOver = over
			c.applyHost(t, c.a, cfg)
			for _, network := range []string{"tcp", "udp"} {
				if over == "eth0" {
					c.pa[0].session(t, network, "127.0.0.1:5432").expect(t, "b1", "192.0.2.1")
				} else {
					c.pa[0].refused(t, network, "127.0.0.1:5432")
				}
			}
			c.pa[0].session(t, "tcp", "127.0.0.1:5433").expect(t, "a0", "") // on its own host it travels over none
		}
	})
}

func TestLinkIsBalanced(t *testing.T) {
	c := newCluster(t, linker.HostChoice)
	even := link("db", 1, 5432, "192.0.2.2:20000", "192.0.2.2:20001", "192.0.2.1:20001")
	weighted := with(even, func(l *api.LinkTarget) { l.Weights = []int{100, 450, 50} })
	// Standard deviations: 11.5 for a third of 600; 9, 10.6 and 6.8 for a sixth, three quarters and a twelfth.
	for _, tt := range []struct {
		link api.LinkTarget
		want map[string]int
	}{
		{even, map[string]int{"b0": 200, "b1": 200, "a1": 200}},
		{weighted, map[string]int{"b0": 100, "b1": 450, "a1": 50}},
	} {
		c.applyPod(t, c.pa[0], tt.link)
		got := c.distribution(t, 600)
		for server, want := range tt.want {
			if k := got[server]; k < want-80 && want > 80 || k > want+80 || k == 0 {
				t.Errorf("weights %v: %s got %d of 600, want about %d: %v", tt.link.Weights, server, k, want, got)
			}
		}
	}
}

// distribution opens n connections by the first pod's link and counts who answers.
func (c *cluster) distribution(t *testing.T, n int) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range n {
		s := c.pa[0].session(t, "tcp", "127.0.0.1:5432")
		answer, err := s.ask("hello")
		if err != nil {
			t.Fatal(err)
		}
		server, _, _ := strings.Cut(answer, " ")
		got[server]++
		s.Close()
	}
	return got
}

func TestLinkWithoutBackendRefuses(t *testing.T) {
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		c := newCluster(t, v)
		p := c.pa[0] // it listens on 5432 itself: the link has the port all the same
		c.applyPod(t, p, link("db", 1, 5432), udp(link("db", 1, 5432)), link("up", 2, 80, "192.0.2.2:20000"))
		for _, network := range []string{"tcp", "udp"} {
			p.refused(t, network, "127.0.0.1:5432")
			p.refused(t, network, "127.1.0.1:5432")
			p.refused(t, network, "[::1]:5432")
		}
		p.refused(t, "tcp", "[::1]:80")
		p.session(t, "tcp", "127.0.0.1:80").expect(t, "b0", "")
	})
}

func TestRetarget(t *testing.T) {
	for _, policy := range []api.Retarget{api.Drain, api.Cut} {
		t.Run(string(policy), func(t *testing.T) {
			c := newCluster(t, linker.HostChoice)
			p := c.pa[0]
			links := func(backend ...string) []api.LinkTarget {
				l := with(link("db", 1, 5432, backend...), func(l *api.LinkTarget) { l.Retarget = policy })
				return []api.LinkTarget{l, udp(l)}
			}
			old := links("192.0.2.2:20000")
			rules := c.applyPod(t, p, old...)
			tcp, datagrams := p.session(t, "tcp", "127.0.0.1:5432"), p.session(t, "udp", "127.0.0.1:5432")
			tcp.expect(t, "b0", "")
			datagrams.expect(t, "b0", "")
			for _, next := range [][]api.LinkTarget{links("192.0.2.2:20001"), links("192.0.2.1:20001")} {
				rules = c.retarget(t, p, rules, old, next)
				old = next
			}
			datagrams.expect(t, "a1", "")
			p.session(t, "tcp", "127.0.0.1:5432").expect(t, "a1", "")
			checkOld(t, tcp, policy)
			c.retarget(t, p, rules, old, links())
			p.refused(t, "tcp", "127.0.0.1:5432")
			if policy == api.Drain {
				tcp.expect(t, "b0", "")
			}
		})
	}
}

// retarget moves a pod's links on, as the agent does.
func (c *cluster) retarget(t testing.TB, p labPod, rules linker.Rules, old, next []api.LinkTarget) linker.Rules {
	t.Helper()
	r, err := linker.PodPlan(p.addr, next)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.variant.Update(t.Context(), p.path, rules, r); err != nil {
		t.Fatal(err)
	}
	if _, err := linker.Cut(t.Context(), p.path, old, next, nil); err != nil {
		t.Fatal(err)
	}
	return r
}

// checkOld checks a session that is older than its link's backends.
func checkOld(t *testing.T, s *session, policy api.Retarget) {
	t.Helper()
	if policy == api.Drain {
		s.expect(t, "b0", "")
		return
	}
	s.reset(t)
}

// When the time to drain is over, connections to the backend that is gone end, and no others.
func TestDrainEnds(t *testing.T) {
	c := newCluster(t, linker.HostChoice)
	p := c.pa[0]
	bounded := func(backends ...string) []api.LinkTarget {
		return []api.LinkTarget{with(link("db", 1, 5432, backends...), func(l *api.LinkTarget) { l.MaxDrain = api.Duration(time.Minute) }),
			link("other", 2, 81, backends...)}
	}
	old, next := bounded("192.0.2.2:20000"), bounded("192.0.2.2:20001")
	rules := c.applyPod(t, p, old...)
	gone, other := p.session(t, "tcp", "127.0.0.1:5432"), p.session(t, "tcp", "127.0.0.1:81")
	gone.expect(t, "b0", "")
	other.expect(t, "b0", "")
	c.retarget(t, p, rules, old, next)
	stays := p.session(t, "tcp", "127.1.0.1:5432")
	stays.expect(t, "b1", "")
	gone.expect(t, "b0", "")
	drains := linker.Drains(nil, old, next, time.Now())
	n, err := linker.EndDrained(t.Context(), p.path, next, drains)
	if err != nil || n[linker.ReasonDrained] != 1 || len(drains) != 1 {
		t.Fatalf("got %v, %v of %v; want one flow ended", n, err, drains)
	}
	gone.reset(t)
	stays.expect(t, "b1", "")
	other.expect(t, "b0", "")
}

// A program that only waits for an answer hears of the end too; one that has connected again is left alone.
func TestCutEndsWhatWaits(t *testing.T) {
	c := newCluster(t, linker.HostChoice)
	p := c.pa[0]
	links := func(backend string) []api.LinkTarget {
		return []api.LinkTarget{with(link("db", 1, 5432, backend), func(l *api.LinkTarget) { l.Retarget = api.Cut })}
	}
	rules := c.applyPod(t, p, links("192.0.2.2:20000")...)
	var waiting []*session
	for range 9 {
		waits := p.session(t, "tcp", "127.0.0.1:5432")
		waits.expect(t, "b0", "")
		waiting = append(waiting, waits)
	}
	c.retarget(t, p, rules, links("192.0.2.2:20000"), links("192.0.2.2:20001"))
	again := p.session(t, "tcp", "127.0.0.1:5432")
	again.expect(t, "b1", "")
	for _, waits := range waiting {
		waits.ended(t)
	}
	again.expect(t, "b1", "")
}

func TestHostDownEndsDrainedFlows(t *testing.T) {
	c := newCluster(t, linker.HostChoice)
	links := []api.LinkTarget{link("db", 1, 5432, "192.0.2.2:20000")}
	c.applyPod(t, c.pa[0], links...)
	s := c.pa[0].session(t, "tcp", "127.0.0.1:5432")
	s.expect(t, "b0", "")
	c.applyPod(t, c.pa[0], link("db", 1, 5432))
	n, err := linker.Cut(t.Context(), c.pa[0].path, links, []api.LinkTarget{link("db", 1, 5432)},
		func(a netip.Addr) bool { return a == c.b.addr })
	if err != nil || n[linker.ReasonHostDown] != 1 {
		t.Fatalf("got %v, %v; want one flow ended for its host", n, err)
	}
	s.reset(t)
}

func TestHairpin(t *testing.T) {
	eachWay(t, func(t *testing.T, c *cluster) {
		me := link("me", 1, 80, "192.0.2.1:20000")
		c.applyPod(t, c.pa[0], me, udp(me), link("next", 2, 81, "192.0.2.1:20001"))
		for range 3 { // an ICMP redirect after the first would break the next
			c.pa[0].session(t, "tcp", "127.0.0.1:80").expect(t, "a0", "10.127.0.1")
			c.pa[0].session(t, "udp", "127.0.0.1:80").expect(t, "a0", "10.127.0.1")
			c.pa[0].session(t, "tcp", "127.0.0.1:81").expect(t, "a1", "10.127.0.1")
			c.pa[0].refused(t, "tcp", "10.127.0.1:20001")
		}
	})
}

func TestIsolation(t *testing.T) {
	eachWay(t, func(t *testing.T, c *cluster) {
		for i, h := range []labHost{c.a, c.b} {
			for _, port := range []string{"7443", "7444", "7946", "22", "53"} {
				h.serve(t, fmt.Sprintf("h%d", i), "0.0.0.0:"+port)
			}
		}
		p := c.pa[0]
		p.session(t, "tcp", "10.127.0.1:53").expect(t, "h0", "10.127.0.10")
		p.session(t, "udp", "10.127.0.1:53").expect(t, "h0", "10.127.0.10")
		for _, port := range []string{"7443", "7444", "7946", "22"} {
			for _, at := range []string{"10.127.0.1:", "192.0.2.1:", "192.0.2.2:"} {
				p.refused(t, "tcp", at+port)
				p.refused(t, "udp", at+port)
			}
		}
		p.refused(t, "tcp", "10.127.0.11:5432") // the other pod, not by its host port
		p.refused(t, "udp", "10.127.0.11:5432")
		c.stranger.batch(t, "route add 10.127.0.0/16 via 192.0.2.1")
		c.stranger.unheard(t, "10.127.0.10:5432")
		c.stranger.refused(t, "tcp", "192.0.2.1:20000")
		c.stranger.session(t, "tcp", "192.0.2.1:7444").expect(t, "h0", "192.0.2.66")
		c.a.session(t, "tcp", "10.127.0.10:5432").expect(t, "a0", "10.127.0.1") // the host's own checks
		c.ca.Pods[0].Ports[0].Public = true
		c.applyHost(t, c.a, c.ca)
		c.stranger.session(t, "tcp", "192.0.2.1:20000").expect(t, "a0", "192.0.2.66")
		c.stranger.refused(t, "tcp", "192.0.2.1:20001")
	})
}

func TestOpenPort(t *testing.T) {
	c := newCluster(t, linker.HostChoice)
	c.a.serve(t, "ha", ":80")
	c.b.serve(t, "hb", ":80")
	c.pa[0].refused(t, "tcp", "192.0.2.1:80")
	c.pa[0].refused(t, "tcp", "192.0.2.2:80")
	c.ca.Open = []linker.OpenPort{{Protocol: api.TCP, Port: 80}}
	c.applyHost(t, c.a, c.ca)
	c.pa[0].session(t, "tcp", "192.0.2.1:80").expect(t, "ha", "")
	c.pa[0].session(t, "tcp", "192.0.2.2:80").expect(t, "hb", "192.0.2.1")
}

// A public port of another host is for pods without a link too, and no other port of it.
func TestPublicPort(t *testing.T) {
	eachWay(t, func(t *testing.T, c *cluster) {
		for i := range c.cb.Pods[1].Ports {
			c.cb.Pods[1].Ports[i].Public = true
		}
		at := netip.MustParseAddrPort("192.0.2.2:20001")
		c.ca.Public = []linker.PublicPort{{Protocol: api.TCP, At: at}, {Protocol: api.UDP, At: at}}
		c.applyHost(t, c.b, c.cb)
		for _, network := range []string{"tcp", "udp"} {
			c.pa[0].refused(t, network, "192.0.2.2:20001")
		}
		c.applyHost(t, c.a, c.ca)
		for _, network := range []string{"tcp", "udp"} {
			c.pa[0].session(t, network, "192.0.2.2:20001").expect(t, "b1", "192.0.2.1")
			c.pb[0].session(t, network, "192.0.2.2:20001").expect(t, "b1", "10.127.0.1") // of its own host
			c.pa[0].refused(t, network, "192.0.2.2:20000")
		}
	})
}

func TestMartianGuard(t *testing.T) {
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		c := newCluster(t, v)
		c.a.serve(t, "ha", "192.0.2.1:9001")
		var local net.PacketConn
		c.a.do(t, func() (err error) {
			local, err = net.ListenPacket("udp4", "127.0.0.1:9000")
			return err
		})
		t.Cleanup(func() { local.Close() })
		// The worst host there is: route_localnet on, and a neighbour who knows.
		c.a.sysctl(t, "net/ipv4/conf/eth0/route_localnet=1")
		c.stranger.batch(t, "route del local 127.0.0.0/8 dev lo table local", "route del local 127.0.0.1 dev lo table local",
			"route add 127.0.0.1/32 via 192.0.2.1 src 192.0.2.66")
		if err := v.Apply(t.Context(), c.a.path, linker.Rules{}); err != nil {
			t.Fatal(err)
		}
		send := func(s space, line string) {
			if _, err := fmt.Fprint(s.session(t, "udp", "127.0.0.1:9000"), line); err != nil {
				t.Fatal(err)
			}
		}
		send(c.stranger, "before")
		heard(t, local, "before")
		c.applyHost(t, c.a, c.ca)
		send(c.stranger, "attack")
		c.stranger.session(t, "tcp", "192.0.2.1:9001").expect(t, "ha", "192.0.2.66") // what was sent has arrived by now
		send(c.a.space, "own")
		heard(t, local, "own")
	})
}

// heard fails the test unless the next datagram is want.
func heard(t *testing.T, c net.PacketConn, want string) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	if n, _, err := c.ReadFrom(buf); err != nil || string(buf[:n]) != want {
		t.Fatalf("heard %q, %v; want %q", buf[:n], err, want)
	}
}

func TestSpoofedPodAddress(t *testing.T) {
	c := newCluster(t, linker.HostChoice)
	c.stranger.batch(t, "addr add 10.127.0.99/32 dev lo", "route add 192.0.2.1/32 dev eth0 src 10.127.0.99")
	c.a.batch(t, "route add 10.127.0.99/32 via 192.0.2.66") // so that it is the rule, not the way back
	c.stranger.unheard(t, "192.0.2.1:20000")
}

func TestFlushOfAFreedPort(t *testing.T) {
	c := newCluster(t, linker.HostChoice)
	s := c.b.session(t, "udp", "192.0.2.1:20000")
	s.expect(t, "a0", "192.0.2.2")
	other := c.b.session(t, "tcp", "192.0.2.1:20001")
	other.expect(t, "a1", "")
	next := c.ca
	next.Pods = []linker.HostPod{{Address: c.pa[1].addr, Ports: []api.HostPort{
		{Name: "main", Protocol: api.TCP, Port: 5432, HostPort: 20001},
		{Name: "udp", Protocol: api.UDP, Port: 5432, HostPort: 20000}}}}
	c.applyHost(t, c.a, next)
	s.expect(t, "a0", "") // rules alone leave the flow where it was
	n, err := linker.Flush(t.Context(), c.a.path, c.ca, next)
	if err != nil || n[linker.ReasonPodGone] == 0 {
		t.Fatalf("got %v, %v; want the flow of the pod that is gone", n, err)
	}
	s.expect(t, "a1", "192.0.2.2")
	other.expect(t, "a1", "192.0.2.2")
}

//go:build root

package linker_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
	"gearmesh.dev/linker"
)

// newDual makes a cluster whose hosts and pods have IPv6: hosts 2001:db8::1 and ::2, a stranger ::66.
func newDual(t *testing.T, v linker.Variant) *cluster { return newClusterOf(t, v, true, true) }

// addr6 gives a host's IPv6 address.
func (h labHost) addr6() netip.Addr {
	a := addr("2001:db8::").As16()
	a[15] = h.addr.As4()[3]
	return netip.AddrFrom16(a)
}

// forge sends a datagram from an address that need not be the sender's own, as any program may over IPv6.
func (s space) forge(t testing.TB, source netip.Addr, to string) {
	t.Helper()
	s.do(t, func() error {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: source.AsSlice()}, Control: func(_, _ string, c syscall.RawConn) error {
			var failed error
			err := c.Control(func(fd uintptr) {
				failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
			})
			return errors.Join(err, failed)
		}}
		c, err := d.Dial("udp", to)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("forged"))
		if errors.Is(err, unix.EPERM) { // a rule of OUTPUT
			return nil
		}
		return err
	})
}

// hears gives a socket of s for datagrams.
func (s space) hears(t testing.TB, at string) net.PacketConn {
	t.Helper()
	var c net.PacketConn
	s.do(t, func() (err error) {
		c, err = net.ListenPacket("udp", at)
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// No program gets further by an address that is not its own: not a pod's, and not a stranger's.
func TestIPv6ForgedSource(t *testing.T) {
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		c := newDual(t, v)
		p := c.pa[0]
		c.applyPod(t, p)
		spy := api.HostPort{Name: "spy", Protocol: api.UDP, Port: 90, HostPort: 20009}
		c.ca.Pods[1].Ports, c.cb.Pods[1].Ports = append(c.ca.Pods[1].Ports, spy), append(c.cb.Pods[1].Ports, spy)
		c.applyHost(t, c.a, c.ca)
		c.applyHost(t, c.b, c.cb)
		for _, target := range []struct {
			at, to string
			in     space
			honest space
		}{
			{"[2001:db8::1]:20009", "[::]:90", c.pa[1].space, c.b.space},
			{"[2001:db8::2]:20009", "[::]:90", c.pb[1].space, c.a.space},
			{"[2001:db8::66]:90", "[::]:90", c.stranger, p.space},
		} {
			spy := target.in.hears(t, target.to)
			for _, source := range []netip.Addr{linker.LinkSource(linker.IPv6(p.addr)), linker.LinkSource(linker.IPv6(c.pa[1].addr)),
				linker.IPv6(c.pa[1].addr), c.a.addr6(), addr("2001:db8::99")} {
				p.forge(t, source, target.at)
			}
			if target.in != c.stranger {
				c.stranger.forge(t, linker.LinkSource(linker.IPv6(p.addr)), target.at)
				c.stranger.forge(t, linker.IPv6(p.addr), target.at)
			}
			if _, err := target.honest.session(t, "udp", target.at).Write([]byte("honest")); err != nil {
				t.Fatal(err)
			}
			heard(t, spy, "honest")
		}
	})
}

// TestIPv6IsAsClosedAsIPv4 is TestIsolation with the other addresses, and what IPv6 alone makes possible.
func TestIPv6IsAsClosedAsIPv4(t *testing.T) {
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		c := newDual(t, v)
		for _, h := range []labHost{c.a, c.b} {
			for _, port := range []string{"7443", "7444", "7946", "22", "53", "30000"} {
				h.serve(t, "h", "[::]:"+port)
			}
		}
		c.stranger.serve(t, "s", "[::]:80")
		c.b.batch(t, "addr add 2001:db8::2:2/64 dev eth0 nodad") // another host may have several
		c.ca.Members = append(c.ca.Members, addr("2001:db8::2:2"))
		c.applyHost(t, c.a, c.ca)
		p := c.pa[0]
		c.applyPod(t, p)
		p.session(t, "tcp", "[2001:db8::66]:80").expect(t, "s", "2001:db8::1")
		p.session(t, "udp", "[2001:db8::66]:80").expect(t, "s", "2001:db8::1")
		for _, network := range []string{"tcp", "udp"} {
			for _, at := range []string{"[fd67:6561:7200::a7f:1]:", "[2001:db8::1]:", "[2001:db8::2]:", "[2001:db8::2:2]:"} {
				for _, port := range []string{"7443", "7444", "7946", "22", "53", "30000", "20001"} {
					p.refused(t, network, at+port)
				}
			}
			p.refused(t, network, "[fd67:6561:7200::a7f:b]:5432") // the other pod, not by its host port
			c.a.session(t, network, "[fd67:6561:7200::a7f:a]:5432").expect(t, "a0", "fd67:6561:7200::a7f:1")
			c.stranger.refused(t, network, "[2001:db8::1]:20000")
			c.b.session(t, network, "[2001:db8::1]:20000").expect(t, "a0", "") // from whichever of its addresses
		}
		c.stranger.batch(t, "route add fd67:6561:7200::/96 via 2001:db8::1")
		c.stranger.unheard(t, "[fd67:6561:7200::a7f:a]:5432")
		c.ca.Pods[0].Ports[0].Public = true
		c.applyHost(t, c.a, c.ca)
		c.stranger.session(t, "tcp", "[2001:db8::1]:20000").expect(t, "a0", "2001:db8::66")
		c.stranger.refused(t, "tcp", "[2001:db8::1]:20001")
		c.pa[1].session(t, "tcp", "[2001:db8::1]:20000").expect(t, "a0", "fd67:6561:7200::a7f:1")
		p.session(t, "tcp", "[2001:db8::1]:20000").expect(t, "a0", "fd67:6561:7200::a7f:1") // itself
	})
}

// Open and public ports of other hosts are for pods over IPv6 too, and no others.
func TestIPv6OpenAndPublicPorts(t *testing.T) {
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		c := newDual(t, v)
		c.a.serve(t, "ha", "[::]:80")
		c.b.serve(t, "hb", "[::]:80")
		for i := range c.cb.Pods[1].Ports {
			c.cb.Pods[1].Ports[i].Public = true
		}
		c.applyHost(t, c.b, c.cb)
		p := c.pa[0]
		p.refused(t, "tcp", "[2001:db8::1]:80")
		p.refused(t, "tcp", "[2001:db8::2]:80")
		p.refused(t, "tcp", "[2001:db8::2]:20001")
		c.ca.Open = []linker.OpenPort{{Protocol: api.TCP, Port: 80}}
		c.ca.Public = []linker.PublicPort{{Protocol: api.TCP, At: netip.MustParseAddrPort("[2001:db8::2]:20001")}}
		c.applyHost(t, c.a, c.ca)
		p.session(t, "tcp", "[2001:db8::1]:80").expect(t, "ha", "")
		p.session(t, "tcp", "[2001:db8::2]:80").expect(t, "hb", "2001:db8::1")
		p.session(t, "tcp", "[2001:db8::2]:20001").expect(t, "b1", "2001:db8::1")
		p.refused(t, "tcp", "[2001:db8::2]:20000")
		p.refused(t, "tcp", "192.0.2.2:20001") // of IPv4 nothing was said
	})
}

// TestIPv6Egress is TestEgress over IPv6.
func TestIPv6Egress(t *testing.T) {
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		c := newDual(t, v)
		held, free := c.pa[0], c.pa[1]
		c.stranger.serve(t, "s", "[::]:80")
		c.stranger.serve(t, "t", "[::]:81")
		open := held.session(t, "tcp", "[2001:db8::66]:81")
		open.expect(t, "t", "2001:db8::1")
		before := c.ca
		c.hold(&linker.Egress{Interface: "gv10", Allow: []linker.Allowed{{Net: netip.MustParsePrefix("0.0.0.0/0"), Protocol: api.TCP}}})
		said := c.listen(t)
		c.applyHost(t, c.a, c.ca)
		if ended, err := linker.Flush(t.Context(), c.a.path, before, c.ca); err != nil || ended[linker.ReasonEgress] == 0 {
			t.Errorf("flushing ended %v, %v; want the open flow among them", ended, err)
		}
		if _, err := open.ask("hello"); err == nil {
			t.Error("an open connection goes on")
		}
		for _, network := range []string{"tcp", "udp"} {
			held.refused(t, network, "[2001:db8::66]:80") // what is allowed of IPv4 is not of IPv6
			held.refused(t, network, "[2001:db8::1]:80")
			free.session(t, network, "[2001:db8::66]:80").expect(t, "s", "2001:db8::1")
		}
		held.session(t, "tcp", "192.0.2.66:80").expect(t, "s", "192.0.2.1")
		r := told(t, said, func() { held.refused(t, "udp", "[2001:db8::66]:80") })
		if r.Interface != "gv10" || r.From.Addr() != linker.IPv6(held.addr) || r.To.Port() == 0 {
			t.Errorf("told of %+v", r)
		}
		if n := c.refusedBy(t, "gv10"); n < 4 {
			t.Errorf("%d packets counted, want 4 or more", n)
		}
		c.hold(&linker.Egress{Interface: "gv10", Allow: []linker.Allowed{
			{Net: netip.MustParsePrefix("2001:db8::40/121"), Protocol: api.TCP, Ports: []uint16{80, 8080}},
			{Net: netip.MustParsePrefix("::/0"), Protocol: api.UDP, Ports: []uint16{80}}}})
		c.applyHost(t, c.a, c.ca)
		for _, network := range []string{"tcp", "udp"} {
			held.session(t, network, "[2001:db8::66]:80").expect(t, "s", "2001:db8::1")
			held.refused(t, network, "[2001:db8::66]:81")
			held.refused(t, network, "192.0.2.66:80")
		}
		if again, err := v.Drifted(t.Context(), c.a.path, c.plan(t)); err != nil || again {
			t.Errorf("a second Apply would change something: %v, %v", again, err)
		}
	})
}

// A host without an IPv6 address lets its pods none, whatever they give themselves.
func TestNoIPv6WithoutAddress(t *testing.T) {
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		c := newDual(t, v)
		c.stranger.serve(t, "s", "[::]:80")
		c.a.serve(t, "h", "[::]:22")
		c.pa[0].session(t, "tcp", "[2001:db8::66]:80").expect(t, "s", "")
		c.ca.Address6 = netip.Addr{}
		c.applyHost(t, c.a, c.ca)
		c.pa[0].unheard(t, "[2001:db8::66]:80")
		c.pa[0].unheard(t, "[2001:db8::1]:22")
		c.pa[0].session(t, "tcp", "192.0.2.66:80").expect(t, "s", "")
	})
}

// Flows of a pod that is gone end over IPv6 too, before another has its address.
func TestIPv6FlushOfAFreedPort(t *testing.T) {
	c := newDual(t, linker.HostChoice)
	s := c.b.session(t, "udp", "[2001:db8::1]:20000")
	s.expect(t, "a0", "2001:db8::2")
	next := c.ca
	next.Pods = []linker.HostPod{{Address: c.pa[1].addr, Ports: []api.HostPort{{Name: "udp", Protocol: api.UDP, Port: 5432, HostPort: 20000}}}}
	c.applyHost(t, c.a, next)
	talking, err := linker.Talking(t.Context(), c.a.path)
	if err != nil || !talking(c.b.addr6(), c.a.addr6()) || talking(c.b.addr6(), addr("2001:db8::3")) {
		t.Errorf("the flow is not listed: %v", err)
	}
	n, err := linker.Flush(t.Context(), c.a.path, c.ca, next)
	if err != nil || n[linker.ReasonPodGone] == 0 {
		t.Fatalf("got %v, %v; want the flow of the pod that is gone", n, err)
	}
	s.expect(t, "a1", "2001:db8::2")
}

// A host that forwards for its pods forwards for nobody else, unless it is a router anyway.
func TestIPv6IsNotRouted(t *testing.T) {
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		c := newDual(t, v)
		beyond := newSpace(t)
		c.a.batch(t, "link add eth1 type veth peer name eth0 netns "+beyond.name, "addr add 2001:db8:5::1/64 dev eth1 nodad", "link set eth1 up")
		beyond.batch(t, "addr add 2001:db8:5::2/64 dev eth0 nodad", "link set eth0 up", "route add ::/0 via 2001:db8:5::1")
		beyond.serve(t, "far", "[::]:80")
		c.stranger.batch(t, "route add 2001:db8:5::/64 via 2001:db8::1")
		c.pa[0].session(t, "tcp", "[2001:db8:5::2]:80").expect(t, "far", "2001:db8:5::1")
		c.stranger.unheard(t, "[2001:db8:5::2]:80")
		c.ca.Routes6 = true
		c.applyHost(t, c.a, c.ca)
		c.stranger.session(t, "tcp", "[2001:db8:5::2]:80").expect(t, "far", "2001:db8::66")
	})
}

// What a pod's programs listen on is seen from outside.
func TestListensIPv6(t *testing.T) {
	s := newSpace(t)
	ports := []api.HostPort{{Name: "both", Protocol: api.TCP, Port: 81}, {Name: "old", Protocol: api.TCP, Port: 82}, {Name: "udp", Protocol: api.UDP, Port: 81}, {Name: "none", Protocol: api.UDP, Port: 83}}
	s.serve(t, "both", "[::]:81")
	var old net.Listener
	s.do(t, func() (err error) {
		old, err = net.Listen("tcp4", ":82")
		return err
	})
	defer old.Close()
	got, err := linker.ListensIPv6(s.path, ports)
	if want := []api.Name{"both", "udp"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	if _, err := linker.ListensIPv6("/run/netns/nobody", ports); err == nil {
		t.Error("a namespace that is not there was looked at")
	}
}

// A link is at ::1 as it is at 127.0.0.1, for those of its backends that have IPv6; without any it is refused at once.
func TestIPv6Link(t *testing.T) {
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		c := newDual(t, v)
		p := c.pa[0]
		far, near, me := six(link("far", 1, 80, "192.0.2.2:20001"), "[2001:db8::2]:20001"), six(link("near", 2, 81, "192.0.2.1:20001"), "[2001:db8::1]:20001"),
			six(link("me", 3, 82, "192.0.2.1:20000"), "[2001:db8::1]:20000")
		some := six(link("some", 4, 83, "192.0.2.2:20000", "192.0.2.2:20001"), "", "[2001:db8::2]:20001")
		old, none := six(link("old", 5, 84, "192.0.2.2:20000"), ""), six(link("none", 6, 85))
		links := []api.LinkTarget{far, udp(far), near, udp(near), me, udp(me), some, udp(some), old, udp(old), none, udp(none)}
		c.applyPod(t, p, links...)
		for _, network := range []string{"tcp", "udp"} {
			for range 3 { // a redirect after the first would break the next
				p.session(t, network, "[::1]:80").expect(t, "b1", "2001:db8::1")
				p.session(t, network, "[::1]:81").expect(t, "a1", "fd67:6561:7200::a7f:1")
				p.session(t, network, "[::1]:82").expect(t, "a0", "fd67:6561:7200::a7f:1")
				p.session(t, network, "[::1]:83").expect(t, "b1", "2001:db8::1")
			}
			p.session(t, network, "127.0.0.1:80").expect(t, "b1", "192.0.2.1")
			p.session(t, network, "127.0.0.1:84").expect(t, "b0", "192.0.2.1")
			p.refused(t, network, "[::1]:84")
			p.refused(t, network, "[::1]:85")
			p.refused(t, network, "[2001:db8::2]:20001") // not by the link, though it is the same place
			c.pa[1].refused(t, network, "[2001:db8::2]:20001")
		}
		p.serve(t, "own", "[::1]:9000") // what the pod itself has at ::1 is its own
		p.session(t, "tcp", "[::1]:9000").expect(t, "own", "::1")
		states, err := v.States(t.Context(), p.path, links, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range states {
			if !s.Applied {
				t.Errorf("link %s is not as it was applied: %+v", links[i].Service, s)
			}
		}
		if i := slices.IndexFunc(states[0].Backends, func(b api.LinkBackend) bool { return b.Address == netip.MustParseAddrPort("[2001:db8::2]:20001") }); i < 0 || states[0].Backends[i].Gone || states[0].Backends[i].Connections != 3 {
			t.Errorf("far has %+v", states[0].Backends)
		}
	})
}

// Over IPv6 a link is retargeted, cut, and let go as over IPv4.
func TestIPv6Retarget(t *testing.T) {
	for _, policy := range []api.Retarget{api.Drain, api.Cut} {
		t.Run(string(policy), func(t *testing.T) {
			c := newDual(t, linker.HostChoice)
			p := c.pa[0]
			links := func(n int) []api.LinkTarget {
				l := link("db", 1, 5432)
				if l.IPv6, l.Retarget = true, policy; n >= 0 {
					l = six(with(l, func(l *api.LinkTarget) { l.Backends = backends(fmt.Sprintf("192.0.2.2:2000%d", n)) }), fmt.Sprintf("[2001:db8::2]:2000%d", n))
				}
				return []api.LinkTarget{l, udp(l)}
			}
			rules := c.applyPod(t, p, links(0)...)
			tcp, datagrams := p.session(t, "tcp", "[::1]:5432"), p.session(t, "udp", "[::1]:5432")
			tcp.expect(t, "b0", "2001:db8::1")
			datagrams.expect(t, "b0", "2001:db8::1")
			rules = c.retarget(t, p, rules, links(0), links(1))
			datagrams.expect(t, "b1", "2001:db8::1")
			p.session(t, "tcp", "[::1]:5432").expect(t, "b1", "2001:db8::1")
			checkOld(t, tcp, policy)
			c.retarget(t, p, rules, links(1), links(-1))
			p.refused(t, "tcp", "[::1]:5432")
		})
	}
}

// What bears ::1 on the wire reaches nobody, though answers of links do.
func TestIPv6LoopbackFromOutside(t *testing.T) {
	c := newDual(t, linker.HostChoice)
	p := c.pa[0]
	c.applyPod(t, p, six(link("db", 1, 5432, "192.0.2.2:20001"), "[2001:db8::2]:20001"))
	local := p.hears(t, "[::1]:9000")
	at := linker.IPv6(p.addr).String()
	c.a.batch(t, "route del local ::1 dev lo table local", "route add ::1/128 via "+at+" dev gv10")
	if err := c.variant.Apply(t.Context(), c.a.path, linker.Rules{}); err != nil {
		t.Fatal(err)
	}
	c.a.forge(t, linker.IPv6(addr("10.127.0.1")), "[::1]:9000")
	c.a.session(t, "tcp", "["+at+"]:5432").expect(t, "a0", "") // what was sent has arrived by now
	if _, err := fmt.Fprint(p.session(t, "udp", "[::1]:9000"), "own"); err != nil {
		t.Fatal(err)
	}
	heard(t, local, "own")
}

// A host can say whether it can do all that IPv6 needs.
func TestTryIPv6(t *testing.T) {
	if err := linker.TryIPv6(t.Context()); err != nil {
		t.Error(err)
	}
}

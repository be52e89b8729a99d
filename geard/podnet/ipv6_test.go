package podnet

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

// startAlone makes the machine one that does not forward IPv6.
func startAlone(t *testing.T) {
	t.Helper()
	if err := sysctls([]sysctl{{"net/ipv6/conf/all/forwarding", "0"}, {"net/ipv6/conf/lo/accept_ra", "1"}}); err != nil {
		t.Fatal(err)
	}
}

// has6 fails the test unless a pod has IPv6 as it should, on both ends of its veth, or none at all.
func has6(t *testing.T, dirs podstate.Dirs, uid api.UID, addr string, want bool) {
	t.Helper()
	var l net.Listener
	inside(t, dirs, uid, func() (err error) {
		eth, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		addrs, _ := netlink.AddrList(eth, netlink.FAMILY_V6)
		routes, _ := netlink.RouteList(eth, netlink.FAMILY_V6)
		if !want {
			if len(addrs)+len(routes) != 0 {
				t.Errorf("it has %v, and routes %v", addrs, routes)
			}
			return nil
		}
		if len(addrs) != 1 || addrs[0].IPNet.String() != addr+"/128" {
			t.Errorf("eth0 has %v, want %s alone", addrs, addr)
		}
		loop, err := netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{LinkIndex: eth.Attrs().Index, Table: unix.RT_TABLE_LOCAL, Dst: ipNet(host(netip.IPv6Loopback()))},
			netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
		if err != nil || len(loop) != 1 {
			t.Errorf("answers for ::1 are taken by %v, %v", loop, err)
		}
		if got := setting(t, "net/ipv6/conf/eth0/accept_ra"); got != "0" {
			t.Errorf("accept_ra is %s inside", got)
		}
		l, err = net.Listen("tcp6", "["+addr+"]:8080")
		return err
	})
	if !want {
		if _, err := netlink.RouteGet(netip.MustParseAddr(addr).AsSlice()); err == nil {
			t.Errorf("the host has a route to %s", addr)
		}
		return
	}
	if l == nil {
		return
	}
	defer l.Close()
	conn, err := net.Dial("tcp6", "["+addr+"]:8080") // and the answer finds its way
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if from := conn.LocalAddr().(*net.TCPAddr).IP.String(); from != gateway6().String() {
		t.Errorf("the host comes from %s, want %s", from, gateway6())
	}
}

func TestIPv6(t *testing.T) {
	dirs := testDirs(t)
	startAlone(t)
	newPod(t, dirs, uidA, "10.127.0.2")
	newPod(t, dirs, uidB, "10.127.200.9")
	const a, b = "fd67:6561:7200::a7f:2", "fd67:6561:7200::a7f:c809"
	h := hooks{ipv6: true}
	for _, uid := range []api.UID{uidA, uidB, uidA} {
		if err := Up(t.Context(), dirs, uid, h.hooks()); err != nil {
			t.Fatal(err)
		}
	}
	has6(t, dirs, uidA, a, true)
	has6(t, dirs, uidB, b, true)
	checkRoutes(t, uidA, net.IPv4(10, 127, 0, 2), net.IPv4(10, 126, 0, 2))
	link, err := netlink.LinkByName(VethName(uidA))
	if err != nil {
		t.Fatal(err)
	}
	routes, err := netlink.RouteGet(net.ParseIP("fd67:6561:7200::a7e:2"))
	if err != nil || routes[0].LinkIndex != link.Attrs().Index || !routes[0].Gw.Equal(net.ParseIP(a)) {
		t.Errorf("to its links' source: %v, %v", routes, err)
	}
	if setting(t, "net/ipv6/conf/all/forwarding") != "1" || setting(t, "net/ipv6/conf/lo/accept_ra") != "2" {
		t.Error("the host does not forward, or takes nothing from routers any more")
	}
	if RoutesIPv6(dirs) {
		t.Error("it is taken for a router")
	}
	for _, on := range []bool{false, false, true, true} { // an agent that finds the host changed
		if err := SetIPv6(dirs, on); err != nil {
			t.Fatal(err)
		}
		for uid, pod := range map[api.UID]string{uidA: "10.127.0.2", uidB: "10.127.200.9"} {
			if err := EnsureIPv6(dirs, uid, netip.MustParseAddr(pod)); err != nil {
				t.Fatal(err)
			}
		}
		has6(t, dirs, uidA, a, on)
		has6(t, dirs, uidB, b, on)
		checkRoutes(t, uidA, net.IPv4(10, 127, 0, 2), net.IPv4(10, 126, 0, 2))
	}
	for _, uid := range []api.UID{uidA, uidB} {
		if err := Down(dirs, uid); err != nil {
			t.Error(err)
		}
	}
}

// A host that forwards IPv6 already goes on as it does.
func TestIPv6OfARouter(t *testing.T) {
	dirs := testDirs(t)
	startAlone(t)
	if err := os.WriteFile(forwarding6, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	newPod(t, dirs, uidA, "10.127.0.2")
	h := hooks{ipv6: true}
	if err := Up(t.Context(), dirs, uidA, h.hooks()); err != nil {
		t.Fatal(err)
	}
	if !RoutesIPv6(dirs) || setting(t, "net/ipv6/conf/lo/accept_ra") != "1" {
		t.Error("it is not taken for a router")
	}
	if err := Down(dirs, uidA); err != nil {
		t.Error(err)
	}
}

// Before there is any pod there is nothing to set.
func TestSetIPv6WithoutPods(t *testing.T) {
	dirs := testDirs(t)
	startAlone(t)
	if err := SetIPv6(dirs, true); err != nil || hasIPv6() || setting(t, "net/ipv6/conf/all/forwarding") != "0" {
		t.Errorf("got %v", err)
	}
}

package podnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/linker"
)

// This file gives pods IPv6, on a host that has it. A pod's address is the one that goes with its IPv4 address, and everything else is as for that one, but
// for two things: both ends of the veth know each other's hardware address for ever, so that there is no neighbour discovery to lie in, and
// neither has an address of the link (fe80::/10). Whether the host has IPv6 is told by gear0: pods that come up have it when gear0 has.

// onlyOurs are settings of an interface that gets its addresses from us alone.
func onlyOurs(name string) []sysctl {
	at := "net/ipv6/conf/" + name + "/"
	return []sysctl{noLinkLocal(name), {at + "accept_ra", "0"}, {at + "accept_redirects", "0"}, {at + "disable_ipv6", "0"}}
}

// noLinkLocal keeps an interface that comes up from giving itself an address.
func noLinkLocal(name string) sysctl { return sysctl{"net/ipv6/conf/" + name + "/addr_gen_mode", "1"} }

// noIPv6 takes IPv6 away from an interface, with its addresses and routes.
func noIPv6(name string) []sysctl {
	return []sysctl{{"net/ipv6/conf/" + name + "/disable_ipv6", "1"}}
}

func gateway6() netip.Addr { return linker.IPv6(podstate.Gateway()) }

// SetIPv6 says whether this host has IPv6 for its pods. It does nothing before gear0 is there, which Up makes. Pods whose network is up already go by it
// after EnsureIPv6.
func SetIPv6(dirs podstate.Dirs, on bool) error {
	if _, err := netlink.LinkByName(GatewayLink); errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if on == hasIPv6() {
		return nil
	}
	if !on {
		return sysctls(noIPv6(GatewayLink))
	}
	return gatewayIPv6(dirs)
}

// gatewayIPv6 gives gear0 its address, which comes after all that pods need to be forwarded.
func gatewayIPv6(dirs podstate.Dirs) error {
	if err := forwardIPv6(dirs); err != nil {
		return err
	}
	if err := sysctls(onlyOurs(GatewayLink)); err != nil {
		return err
	}
	link, err := netlink.LinkByName(GatewayLink)
	if err != nil {
		return fmt.Errorf("interface %q: %w", GatewayLink, err)
	}
	return addIPv6(link, gateway6())
}

// hasIPv6 tells whether this host gives its pods IPv6.
func hasIPv6() bool {
	link, err := netlink.LinkByName(GatewayLink)
	if err != nil {
		return false
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if a.IP.Equal(gateway6().AsSlice()) {
			return true
		}
	}
	return false
}

const forwarding6 = "/proc/sys/net/ipv6/conf/all/forwarding"

// forwardIPv6 makes the host forward packets of pods. It is the setting of all interfaces, and would make the host a router for everybody,
// which is noted for RoutesIPv6; the rules then drop what is not of pods. A host that forwards takes no more addresses and routes from
// routers, unless it is told to (accept_ra 2 in Documentation/networking/ip-sysctl.rst).
func forwardIPv6(dirs podstate.Dirs) error {
	if now, err := os.ReadFile(forwarding6); err != nil || strings.TrimSpace(string(now)) != "0" {
		return err
	}
	files, err := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra")
	if err != nil {
		return err
	}
	for _, f := range files {
		if now, err := os.ReadFile(f); err != nil || strings.TrimSpace(string(now)) != "1" {
			continue // it is gone, or needs nothing
		}
		if err := sysctls([]sysctl{{strings.TrimPrefix(f, "/proc/sys/"), "2"}}); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dirs.Run, 0o755); err != nil {
		return fmt.Errorf("forwarding IPv6: %w", err)
	}
	if err := os.WriteFile(forwardsFile(dirs), nil, 0o644); err != nil {
		return fmt.Errorf("forwarding IPv6: %w", err)
	}
	return sysctls([]sysctl{{"net/ipv6/conf/all/forwarding", "1"}})
}

// forwardsFile says that this host forwards IPv6 for its pods only. It is gone after a reboot, as the setting is.
func forwardsFile(dirs podstate.Dirs) string { return filepath.Join(dirs.Run, "forwards-ipv6") }

// RoutesIPv6 tells whether somebody other than us makes this host forward IPv6: then it is their matter what it forwards.
func RoutesIPv6(dirs podstate.Dirs) bool {
	_, err := os.Stat(forwardsFile(dirs))
	now, readErr := os.ReadFile(forwarding6)
	return err != nil && readErr == nil && strings.TrimSpace(string(now)) != "0"
}

// EnsureIPv6 gives a pod whose network is up IPv6, or takes it away, as gear0 has it.
func EnsureIPv6(dirs podstate.Dirs, uid api.UID, pod netip.Addr) error {
	return ensureIPv6(VethName(uid), dirs.Namespace(uid), linker.IPv6(pod), hasIPv6())
}

func ensureIPv6(name, file string, pod netip.Addr, on bool) error {
	if !on {
		if err := sysctls(noIPv6(name)); err != nil {
			return err
		}
		return within(file, func() error { return sysctls(noIPv6(podIface)) })
	}
	if err := sysctls(onlyOurs(name)); err != nil {
		return err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("interface %q: %w", name, err)
	}
	var mac net.HardwareAddr
	if err := within(file, func() (err error) {
		mac, err = insideIPv6(pod, link.Attrs().HardwareAddr)
		return err
	}); err != nil {
		return err
	}
	index := link.Attrs().Index
	if err := neighbour(index, pod, mac); err != nil {
		return err
	}
	if err := route(index, host(pod), netip.Addr{}); err != nil {
		return err
	}
	return route(index, host(linker.LinkSource(pod)), pod)
}

// insideIPv6 is the part in the pod's namespace. It gives the hardware address of the pod's end.
func insideIPv6(pod netip.Addr, gateway net.HardwareAddr) (net.HardwareAddr, error) {
	if err := sysctls(onlyOurs(podIface)); err != nil {
		return nil, err
	}
	eth, err := netlink.LinkByName(podIface)
	if err != nil {
		return nil, fmt.Errorf("the pod's interface %q: %w", podIface, err)
	}
	index := eth.Attrs().Index
	return eth.Attrs().HardwareAddr, firstError(
		func() error { return addIPv6(eth, pod) },
		func() error { return neighbour(index, gateway6(), gateway) },
		func() error { return route(index, host(gateway6()), netip.Addr{}) },
		func() error { return route(index, netip.PrefixFrom(netip.IPv6Unspecified(), 0), gateway6()) },
		func() error { return takeLoopback(index) },
	)
}

// addIPv6 gives an interface an address that is good at once: nobody else can have it, so nobody is asked (RFC 4862, 5.4).
func addIPv6(link netlink.Link, a netip.Addr) error {
	addr := &netlink.Addr{IPNet: ipNet(host(a)), Flags: unix.IFA_F_NODAD}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("giving %q the address %s: %w", link.Attrs().Name, a, err)
	}
	return nil
}

// neighbour says for ever who has an address.
func neighbour(index int, a netip.Addr, mac net.HardwareAddr) error {
	n := &netlink.Neigh{LinkIndex: index, Family: netlink.FAMILY_V6, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: mac}
	if err := netlink.NeighSet(n); err != nil {
		return fmt.Errorf("naming the neighbour %s: %w", a, err)
	}
	return nil
}

// route leads to a network, by way of an address unless that is the zero one.
func route(index int, to netip.Prefix, via netip.Addr) error {
	if err := netlink.RouteReplace(&netlink.Route{LinkIndex: index, Dst: ipNet(to), Gw: via.AsSlice()}); err != nil {
		return fmt.Errorf("routing to %s: %w", to, err)
	}
	return nil
}

// takeLoopback lets what comes by an interface be for ::1, as answers to links are once their addresses are put back. The kernel looks for such
// an address among the routes of the interface alone. Packets that bear it outside never get that far (ip6_rcv_core in net/ipv6/ip6_input.c).
func takeLoopback(index int) error {
	const last = 2048 // after the kernel's own, by lo
	r := &netlink.Route{LinkIndex: index, Dst: ipNet(host(netip.IPv6Loopback())), Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Priority: last}
	if err := netlink.RouteReplace(r); err != nil {
		return fmt.Errorf("taking answers for ::1: %w", err)
	}
	return nil
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// firstError calls each step until one fails.
func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

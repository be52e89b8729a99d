package podnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/linker"
)

// podIface is the pod's interface, as it is called inside.
const podIface = "eth0"

// ensureGateway makes the interface that has the gateway's address: a bridge without ports, since a dummy
// device is not in every kernel. Rules of the host come before it, so that no packet of a pod meets a
// host without them.
func ensureGateway(ctx context.Context, dirs podstate.Dirs, rules func(context.Context) (bool, error)) error {
	link, err := netlink.LinkByName(GatewayLink)
	if err == nil && link.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	six := false
	if rules != nil {
		if six, err = rules(ctx); err != nil {
			return fmt.Errorf("laying the rules of the host: %w", err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = GatewayLink
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("making %q: %w", GatewayLink, err)
	}
	return setupGateway(dirs, six)
}

// setupGateway gives the interface its addresses. Up comes last: one that is up is complete. It takes the
// packets for addresses that no pod has, and nobody answers there.
func setupGateway(dirs podstate.Dirs, six bool) error {
	link, err := netlink.LinkByName(GatewayLink)
	if err != nil {
		return fmt.Errorf("interface %q: %w", GatewayLink, err)
	}
	if err := sysctls([]sysctl{
		{"net/ipv4/ip_forward", "1"},
		{"net/ipv4/conf/" + GatewayLink + "/route_localnet", "0"},
	}); err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(podstate.Gateway(), podstate.Prefix().Bits()))}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("giving %q its address: %w", GatewayLink, err)
	}
	if six {
		err = gatewayIPv6(dirs)
	} else {
		err = sysctls(noIPv6(GatewayLink))
	}
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting %q up: %w", GatewayLink, err)
	}
	return nil
}

// ensureVeth makes the pod's veth, with one end as eth0 in the namespace, and the route to the pod. A
// pair whose pod end went with an earlier namespace does not exist: the kernel removes both ends.
func ensureVeth(name string, pod netip.Addr, file string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		if link, err = makeVeth(name, file); err != nil {
			return err
		}
	}
	if err := sysctls([]sysctl{
		{"net/ipv4/conf/" + name + "/rp_filter", "1"}, // a pod sends from its own address alone
		{"net/ipv4/conf/" + name + "/send_redirects", "0"},
		noLinkLocal(name),
	}); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting %q up: %w", name, err)
	}
	return routeTo(link.Attrs().Index, pod)
}

// routeTo leads to a pod what is for it, and what is for its links' source: the pod has no such address to answer ARP with, so
// the way there is by the pod's own.
func routeTo(index int, pod netip.Addr) error {
	own := &netlink.Route{LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: ipNet(netip.PrefixFrom(pod, 32)), Src: podstate.Gateway().AsSlice()}
	if err := netlink.RouteReplace(own); err != nil {
		return fmt.Errorf("routing to the pod's address %s: %w", pod, err)
	}
	source := linker.LinkSource(pod)
	links := &netlink.Route{LinkIndex: index, Dst: ipNet(netip.PrefixFrom(source, 32)), Gw: pod.AsSlice()}
	if err := netlink.RouteReplace(links); err != nil {
		return fmt.Errorf("routing to the source %s of the pod's links: %w", source, err)
	}
	return nil
}

// EnsureRoutes makes the host's routes to a pod whose network is up, as Up does.
func EnsureRoutes(uid api.UID, pod netip.Addr) error {
	link, err := netlink.LinkByName(VethName(uid))
	if err != nil {
		return fmt.Errorf("interface %q: %w", VethName(uid), err)
	}
	return routeTo(link.Attrs().Index, pod)
}

func makeVeth(name, file string) (netlink.Link, error) {
	ns, err := open(file)
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: podIface, PeerNamespace: netlink.NsFd(int(ns))}
	if err := netlink.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("making veth %q: %w", name, err)
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("making veth %q: %w", name, err)
	}
	return link, nil
}

func removeVeth(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("removing %q: %w", name, err)
	}
	return nil
}

// configure sets up the calling thread's namespace for a pod with that address.
func configure(pod netip.Addr) error {
	if err := sysctls(insideSysctls()); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("setting the pod's loopback up: %w", err)
	}
	eth, err := netlink.LinkByName(podIface)
	if err != nil {
		return fmt.Errorf("the pod's interface %q: %w", podIface, err)
	}
	if err := netlink.AddrReplace(eth, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(pod, 32))}); err != nil {
		return fmt.Errorf("giving the pod its address %s: %w", pod, err)
	}
	if err := netlink.LinkSetUp(eth); err != nil {
		return fmt.Errorf("setting the pod's interface up: %w", err)
	}
	return routes(eth.Attrs().Index)
}

// routes lead everything to the gateway. It is on no subnet of the pod's /32, hence the first route.
func routes(index int) error {
	gw := &netlink.Route{LinkIndex: index, Scope: netlink.SCOPE_LINK, Dst: ipNet(netip.PrefixFrom(podstate.Gateway(), 32))}
	if err := netlink.RouteReplace(gw); err != nil {
		return fmt.Errorf("routing to the gateway: %w", err)
	}
	all := &netlink.Route{LinkIndex: index, Gw: podstate.Gateway().AsSlice()}
	if err := netlink.RouteReplace(all); err != nil {
		return fmt.Errorf("setting the default route: %w", err)
	}
	return nil
}

// sysctl is a kernel setting: a path under /proc/sys and its value.
type sysctl struct{ path, value string }

// insideSysctls are the settings of a pod's namespace (kernel: Documentation/networking/ip-sysctl.rst).
func insideSysctls() []sysctl {
	return []sysctl{
		{"net/ipv4/conf/all/route_localnet", "1"}, // links on 127.0.0.1 leave by eth0
		{"net/ipv4/conf/" + podIface + "/route_localnet", "1"},
		{"net/ipv4/ip_unprivileged_port_start", "0"}, // the namespace is the pod's own: port 80 needs no privilege
		noLinkLocal(podIface),
		{"net/ipv6/conf/default/disable_ipv6", "1"},
	}
}

// sysctls writes settings. One that this kernel does not have (no IPv6) is left out.
func sysctls(list []sysctl) error {
	for _, s := range list {
		err := os.WriteFile("/proc/sys/"+s.path, []byte(s.value), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("setting %q to %s: %w", s.path, s.value, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

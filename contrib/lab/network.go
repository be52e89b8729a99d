package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gearmesh.dev/internal/hostexec"
)

// netnsDir is where ip-netns(8) keeps named network namespaces.
const netnsDir = "/run/netns"

// Addresses on the lab's network, by last byte. The switch is the hosts'
// default route and has the registry; the outer machine comes next.
const (
	switchByte = 1
	outerByte  = 2
)

// chooseSubnet returns the first 10.99.x.0/24 that overlaps none of taken.
func chooseSubnet(taken []netip.Prefix) (netip.Prefix, error) {
	for i := range 256 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 99, byte(i), 0}), 24)
		if !slices.ContainsFunc(taken, p.Overlaps) {
			return p, nil
		}
	}
	return netip.Prefix{}, errors.New("every 10.99.x.0/24 is in use on this machine; choose a subnet yourself")
}

// checkSubnet refuses a wanted subnet that overlaps one of taken.
func checkSubnet(want netip.Prefix, taken []netip.Prefix) error {
	if i := slices.IndexFunc(taken, want.Overlaps); i >= 0 {
		return fmt.Errorf("lab subnet %s overlaps %s, which this machine or another lab uses; choose another", want, taken[i])
	}
	return nil
}

// takenSubnets lists the networks this machine has addresses in or routes to.
func takenSubnets(ctx context.Context) ([]netip.Prefix, error) {
	var taken []netip.Prefix
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("listing addresses: %w", err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			taken = append(taken, p.Masked())
		}
	}
	out, err := hostexec.Run(ctx, hostexec.Cmd{Argv: []string{"ip", "-j", "-4", "route", "show", "table", "all"}})
	if err != nil {
		return nil, fmt.Errorf("listing routes: %w", err)
	}
	routes, err := parseRoutes(out)
	return append(taken, routes...), err
}

// parseRoutes reads `ip -j route`; the default route overlaps everything and is left out.
func parseRoutes(out []byte) ([]netip.Prefix, error) {
	var routes []struct {
		Dst string `json:"dst"`
	}
	if err := json.Unmarshal(out, &routes); err != nil {
		return nil, fmt.Errorf("reading routes: %w", err)
	}
	var prefixes []netip.Prefix
	for _, r := range routes {
		if a, err := netip.ParseAddr(r.Dst); err == nil {
			prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
		} else if p, err := netip.ParsePrefix(r.Dst); err == nil && p.Bits() > 0 {
			prefixes = append(prefixes, p)
		}
	}
	return prefixes, nil
}

// ipBatch runs lines of ip(8) commands in a named namespace ("" is the outer).
func ipBatch(ctx context.Context, netns string, lines ...string) error {
	argv := []string{"ip"}
	if netns != "" {
		argv = append(argv, "-n", netns)
	}
	_, err := hostexec.Run(ctx, hostexec.Cmd{
		Argv:  append(argv, "-batch", "-"),
		Stdin: []byte(strings.Join(lines, "\n") + "\n"),
	})
	if err != nil {
		return fmt.Errorf("setting up the lab's network: %w; the lines were\n%s", err, strings.Join(lines, "\n"))
	}
	return nil
}

// ensureSwitch makes the lab's bridge and the outer machine's link to it. The
// outer address comes last: if it is there, so is all the rest.
func (l *Lab) ensureSwitch(ctx context.Context, subnet netip.Prefix) error {
	ns, outer := l.switchNS(), nth(subnet, outerByte)
	if hasAddr(ns, outer) && exists(filepath.Join(netnsDir, ns)) {
		return nil
	}
	if err := l.removeSwitch(ctx); err != nil {
		return err
	}
	if err := addNetNS(ctx, ns); err != nil {
		return err
	}
	err := ipBatch(ctx, ns,
		"link set lo up",
		"link add br0 type bridge forward_delay 0 stp_state 0",
		fmt.Sprintf("address add %s/24 dev br0", nth(subnet, switchByte)),
		fmt.Sprintf("address add %s/64 dev br0 nodad", IPv6(nth(subnet, switchByte))),
		"link set br0 up")
	if err != nil {
		return err
	}
	// Forwarding makes the switch answer "network unreachable" for what it
	// has no route to; without it, packets would vanish and callers hang.
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if err := setSysctl(ctx, ns, key, "1"); err != nil {
			return err
		}
	}
	if err := ipBatch(ctx, "", fmt.Sprintf("link add %s type veth peer name up0 netns %s", ns, ns)); err != nil {
		return err
	}
	if err := ipBatch(ctx, ns, "link set up0 master br0 up"); err != nil {
		return err
	}
	return ipBatch(ctx, "", "link set "+ns+" up", fmt.Sprintf("address add %s/24 dev %s", outer, ns))
}

// removeSwitch ends what runs in the switch's namespace (the registry) and
// removes it with both ends of its link.
func (l *Lab) removeSwitch(ctx context.Context) error {
	ns := l.switchNS()
	file := filepath.Join(netnsDir, ns)
	if err := killAll(ctx, func() []int { return netnsPIDs(file) }); err != nil {
		return err
	}
	if _, err := net.InterfaceByName(ns); err == nil {
		if err := ipBatch(ctx, "", "link delete "+ns); err != nil {
			return err
		}
	}
	return deleteNetNS(ctx, ns)
}

// plugIn makes the host's network namespace and its cable to the switch. The
// MAC follows the address, so neighbours' ARP entries survive a reboot.
func (l *Lab) plugIn(ctx context.Context, h host, subnet netip.Prefix) error {
	if err := addNetNS(ctx, h.scope); err != nil {
		return err
	}
	a := h.addr.As4()
	mac := fmt.Sprintf("02:67:%02x:%02x:%02x:%02x", a[0], a[1], a[2], a[3])
	err := ipBatch(ctx, l.switchNS(),
		fmt.Sprintf("link add %s type veth peer name eth0 address %s netns %s", h.name, mac, h.scope),
		fmt.Sprintf("link set %s master br0 up", h.name))
	if err != nil {
		return err
	}
	return ipBatch(ctx, h.scope,
		"link set lo up",
		fmt.Sprintf("address add %s/24 broadcast + dev eth0", h.addr),
		fmt.Sprintf("address add %s/64 dev eth0 nodad", IPv6(h.addr)),
		"link set eth0 up",
		fmt.Sprintf("route add default via %s", nth(subnet, switchByte)),
		fmt.Sprintf("route add ::/0 via %s", IPv6(nth(subnet, switchByte))))
}

// unplug removes the host's network namespace and its cable. The cable goes
// first and explicitly: the kernel tears a namespace down some time after its
// last process, and until then the name of the switch's port would be taken.
func (l *Lab) unplug(ctx context.Context, h host) error {
	if exists(filepath.Join(netnsDir, l.switchNS())) {
		_, err := hostexec.Run(ctx, hostexec.Cmd{Argv: []string{"ip", "-n", l.switchNS(), "link", "delete", "dev", h.name}})
		var exit *hostexec.ExitError
		if err != nil && (!errors.As(err, &exit) || !strings.Contains(exit.Stderr, "Cannot find device")) {
			return fmt.Errorf("unplugging host %q: %w", h.name, err)
		}
	}
	return deleteNetNS(ctx, h.scope)
}

// setPort lets the switch forward a host's frames, or drop them silently in
// both directions: the spanning tree states of a port, IEEE 802.1D. The host
// keeps its carrier and notices nothing but silence.
func (l *Lab) setPort(ctx context.Context, h host, forward bool) error {
	state := "0" // disabled, see bridge(8)
	if forward {
		state = "3" // forwarding
	}
	_, err := hostexec.Run(ctx, hostexec.Cmd{Argv: []string{
		"bridge", "-n", l.switchNS(), "link", "set", "dev", h.name, "state", state}})
	if err != nil {
		return fmt.Errorf("setting the switch's port of host %q (is it on?): %w", h.name, err)
	}
	return nil
}

// cutPorts returns the names of the hosts whose port is disabled.
func (l *Lab) cutPorts(ctx context.Context) (map[string]bool, error) {
	out, err := hostexec.Run(ctx, hostexec.Cmd{Argv: []string{"bridge", "-n", l.switchNS(), "-j", "link", "show"}})
	if err != nil {
		return nil, fmt.Errorf("reading the switch's ports: %w", err)
	}
	var ports []struct{ Ifname, State string }
	if err := json.Unmarshal(out, &ports); err != nil {
		return nil, fmt.Errorf("reading the switch's ports: %w", err)
	}
	cut := map[string]bool{}
	for _, p := range ports {
		cut[p.Ifname] = p.State == "disabled"
	}
	return cut, nil
}

func addNetNS(ctx context.Context, name string) error {
	if _, err := hostexec.Run(ctx, hostexec.Cmd{Argv: []string{"ip", "netns", "add", name}}); err != nil {
		return fmt.Errorf("making network namespace %q: %w", name, err)
	}
	return nil
}

// deleteNetNS removes a namespace's name; the namespace goes with its last process.
func deleteNetNS(ctx context.Context, name string) error {
	if !exists(filepath.Join(netnsDir, name)) {
		return nil
	}
	if _, err := hostexec.Run(ctx, hostexec.Cmd{Argv: []string{"ip", "netns", "delete", name}}); err != nil {
		return fmt.Errorf("deleting network namespace %q: %w", name, err)
	}
	return nil
}

func setSysctl(ctx context.Context, netns, key, value string) error {
	c := hostexec.Cmd{Argv: []string{"sysctl", "-q", "-w", key + "=" + value}}
	if netns != "" {
		c.NetNS = filepath.Join(netnsDir, netns)
	}
	if _, err := hostexec.Run(ctx, c); err != nil {
		return fmt.Errorf("setting %s: %w", key, err)
	}
	return nil
}

// hasAddr tells whether link exists here and has address a.
func hasAddr(link string, a netip.Addr) bool {
	i, err := net.InterfaceByName(link)
	if err != nil {
		return false
	}
	addrs, err := i.Addrs()
	return err == nil && slices.ContainsFunc(addrs, func(have net.Addr) bool {
		p, err := netip.ParsePrefix(have.String())
		return err == nil && p.Addr() == a
	})
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

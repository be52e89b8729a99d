package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podnet"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/geard/volumes"
	"gearmesh.dev/internal/atomicfile"
	"gearmesh.dev/linker"
)

// netUp makes a pod's network.
func netUp(ctx context.Context, uid string, stderr io.Writer) error {
	dirs := podstate.Host()
	say := func(text string) { fmt.Fprintf(stderr, "gear-run: %s\n", text) }
	if err := mountMemory(dirs, api.UID(uid)); err != nil {
		return err
	}
	return podnet.Up(ctx, dirs, api.UID(uid), podnet.Hooks{
		Links: layLinks,
		Say:   say,
		Host:  func(ctx context.Context) (bool, error) { return layHost(ctx, dirs, say) },
	})
}

// netDown takes a pod's network away.
func netDown(uid string) error {
	if err := api.UID(uid).Validate(); err != nil {
		return fmt.Errorf("taking down the network: %w", err)
	}
	return errors.Join(volumes.UnmountMemory(podstate.Host(), api.UID(uid)), podnet.Down(podstate.Host(), api.UID(uid)))
}

// mountMemory makes the pod's volumes that are in memory, whose place follows from its uid. They live as long as its network.
func mountMemory(dirs podstate.Dirs, uid api.UID) error {
	if err := uid.Validate(); err != nil {
		return err
	}
	pod, err := dirs.LoadVolumes(uid)
	if err != nil {
		return err
	}
	return volumes.MountMemory(dirs, pod)
}

// pidsUp makes a pod's shared pid namespace and makes its process 1 the unit's main process.
func pidsUp(uid string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	pid, err := podnet.PidsUp(podstate.Host(), api.UID(uid), self, "pids-init")
	if err != nil {
		return err
	}
	notify(fmt.Sprintf("MAINPID=%d\nREADY=1", pid))
	return nil
}

// layLinks puts a pod's links into its namespace. A fresh one has no rules, so nothing is read first.
func layLinks(ctx context.Context, netns string, fresh bool, pod netip.Addr, links []api.LinkTarget) error {
	rules, err := linker.PodPlan(pod, links)
	if err != nil {
		return err
	}
	if fresh {
		return linker.Lay(ctx, netns, rules)
	}
	return linker.Apply(ctx, netns, rules)
}

// rulesLimit is the most that is read of the host's rules, in bytes.
const rulesLimit = 64 << 20

// layHost lays the host's own rules as the agent last had them, and tells whether the host has IPv6. A host whose agent has never kept any has none.
func layHost(ctx context.Context, dirs podstate.Dirs, say func(string)) (ipv6 bool, err error) {
	config, err := hostConfig(dirs, say)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the host's rules: %w", err)
	}
	config.Routes6 = podnet.RoutesIPv6(dirs)
	rules, err := linker.HostPlan(config)
	if err != nil {
		return false, fmt.Errorf("the host's rules in %q: %w", dirs.HostRules(), err)
	}
	return config.Address6.IsValid(), linker.Apply(ctx, "", rules)
}

// hostConfig reads what the agent last made the host's rules of, so that a host that powers on without an agent has its
// host ports. When that is damaged, it is made once more from the same files that the agent makes it from.
func hostConfig(dirs podstate.Dirs, say func(string)) (linker.HostConfig, error) {
	var config linker.HostConfig
	err := atomicfile.ReadSummed(dirs.HostRules(), rulesLimit, &config)
	if err == nil && !config.Address.IsValid() {
		err = fmt.Errorf("%q: %w: the host has no address", dirs.HostRules(), atomicfile.ErrDamaged)
	}
	if err == nil || !podstate.Damaged(err) {
		return config, err
	}
	config, found := foundConfig(dirs)
	if !found {
		return config, err
	}
	say(fmt.Sprintf("the host's rules cannot be read (%v); they are made again for %d pods and %d hosts", err, len(config.Pods), len(config.Members)))
	return config, nil
}

// foundConfig makes the host's rules from its pods' places and from the hosts and public ports that the master last told of. Without the
// latter only this host itself reaches ports that are not public, and its pods reach no public ones elsewhere.
func foundConfig(dirs podstate.Dirs) (linker.HostConfig, bool) {
	uids, err := dirs.Pods()
	if err != nil {
		return linker.HostConfig{}, false
	}
	var pods []podstate.Net
	var address netip.Addr
	balanced := map[netip.Addr][]uint16{}
	for _, uid := range uids {
		if n, err := dirs.LoadNet(uid); err == nil {
			pods = append(pods, n)
			address = n.HostAddress
			if links, err := dirs.LoadLinks(uid); err == nil && len(podstate.Balanced(links)) > 0 {
				balanced[n.Address] = podstate.Balanced(links)
			}
		}
	}
	held := map[netip.Addr]*linker.Egress{}
	for _, uid := range uids {
		p, podErr := dirs.LoadPod(uid)
		n, netErr := dirs.LoadNet(uid)
		if podstate.Damaged(podErr) { // nobody knows what it may
			p.Spec.Egress = &api.Egress{}
		}
		if netErr == nil {
			held[n.Address] = podnet.Egress(uid, p.Spec.Egress, dirs.LoadTold(uid))
		}
	}
	return podnet.HostConfig(knownHosts(dirs, address), pods, balanced, held), address.IsValid()
}

// knownHosts gives the host's addresses, and of the hosts and public ports what the master last told of.
func knownHosts(dirs podstate.Dirs, address netip.Addr) linker.HostConfig {
	c := linker.HostConfig{Address: address, Members: []netip.Addr{address}}
	known, err := dirs.LoadDesired()
	if err != nil {
		return c
	}
	c.Public = linker.PublicPorts(known.Directory, address)
	for _, h := range known.Directory.Hosts {
		if h.Address == address {
			c.Address6 = h.IPv6
		} else if h.Address.IsValid() {
			c.Members = append(c.Members, h.Address)
		}
		c.Members = append(c.Members, h.AllIPv6()...)
	}
	return c
}

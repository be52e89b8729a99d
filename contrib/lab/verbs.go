package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Up makes the lab if need be and brings hosts h1 to hN up, all at once. On a
// running lab it boots what is missing, renews binaries and /etc/hosts where
// they differ, and touches nothing else. Hosts beyond N stay as they are. It
// returns when systemd says "running" on each, or with an error that names the
// units that failed.
func (l *Lab) Up(ctx context.Context, n int) error {
	if n < 1 || n > MaxHosts {
		return fmt.Errorf("%d hosts: a lab has 1 to %d", n, MaxHosts)
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.checkMachine(ctx); err != nil {
		return err
	}
	s, err := l.foundation(ctx)
	if err != nil {
		return err
	}
	if err := l.makeHosts(ctx, n, s); err != nil {
		return err
	}
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("h%d", i+1)
	}
	return l.bringUp(ctx, l.sortedHosts(names, s.Subnet), s)
}

// foundation makes what hosts share: tree, network, registry.
func (l *Lab) foundation(ctx context.Context) (state, error) {
	s, err := l.settle(ctx)
	if err != nil {
		return s, err
	}
	return s, l.ensureRegistry(ctx, s)
}

// settle loads the lab's state or decides it, and brings up the switch. The
// lock is shared by all labs: two must not choose one subnet.
func (l *Lab) settle(ctx context.Context) (state, error) {
	s, err := l.loadState()
	isNew := errors.Is(err, errNoLab)
	if err != nil && !isNew {
		return s, err
	}
	if isNew {
		if s.Tree, err = l.ensureTree(ctx); err != nil {
			return s, err
		}
	}
	if !exists(s.Tree) {
		return s, fmt.Errorf("the root tree %q of lab %q is gone from the cache; take the lab down and up again", s.Tree, l.cfg.Name)
	}
	unlock, err := l.flock(ctx, ".subnet.lock")
	if err != nil {
		return s, err
	}
	defer unlock()
	if isNew {
		if s.Subnet, err = l.decideSubnet(ctx); err != nil {
			return s, err
		}
		if err := l.saveState(s); err != nil {
			return s, err
		}
	}
	return s, l.ensureSwitch(ctx, s.Subnet)
}

func (l *Lab) decideSubnet(ctx context.Context) (netip.Prefix, error) {
	if err := l.removeSwitch(ctx); err != nil { // its own remains must not count as taken
		return netip.Prefix{}, err
	}
	taken, err := takenSubnets(ctx)
	if err != nil {
		return netip.Prefix{}, err
	}
	others, err := l.otherSubnets()
	if err != nil {
		return netip.Prefix{}, err
	}
	taken = append(taken, others...)
	if l.cfg.Subnet.IsValid() {
		return l.cfg.Subnet, checkSubnet(l.cfg.Subnet, taken)
	}
	return chooseSubnet(taken)
}

// makeHosts gives h1 to hN a disk, before any of them boots, so that every
// host's /etc/hosts can name all.
func (l *Lab) makeHosts(ctx context.Context, n int, s state) error {
	for i := range n {
		h, err := l.host(fmt.Sprintf("h%d", i+1), s.Subnet)
		if err != nil {
			return err
		}
		if err := errors.Join(newDisk(h), l.makeImage(ctx, h)); err != nil {
			return err
		}
	}
	return nil
}

// bringUp furnishes every known host and starts those of hosts that are off.
// Wiping comes first: a host that just died must let go of its disk.
func (l *Lab) bringUp(ctx context.Context, hosts []host, s state) error {
	known, err := l.knownHosts(s.Subnet)
	if err != nil {
		return err
	}
	// Looked at once: a host that dies from here on was not wiped, so it must
	// not be started either.
	off := offOnly(known)
	if err := together(ctx, off, l.wipe); err != nil {
		return err
	}
	for _, h := range known {
		if err := l.furnish(h, known, registryAddr(s.Subnet)); err != nil {
			return err
		}
	}
	asked := slices.DeleteFunc(off, func(h host) bool {
		return !slices.ContainsFunc(hosts, func(a host) bool { return a.name == h.name })
	})
	return together(ctx, asked, func(ctx context.Context, h host) error { return l.start(ctx, h, s) })
}

// offOnly returns those of hosts that do not run.
func offOnly(hosts []host) []host {
	var off []host
	for _, h := range hosts {
		if _, ok := h.running(); !ok {
			off = append(off, h)
		}
	}
	return off
}

// together does one thing to many hosts at once. One host's error does not
// stop the others; all errors are returned.
func together(ctx context.Context, hosts []host, do func(context.Context, host) error) error {
	errs := make([]error, len(hosts))
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() { errs[i] = do(ctx, h) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Boot starts hosts that are off, from their own disks, and waits for them.
// A host that was partitioned comes back with its cable plugged in.
func (l *Lab) Boot(ctx context.Context, names ...string) error {
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	hosts, err := l.pick(names)
	if err != nil {
		return err
	}
	if err := l.checkMachine(ctx); err != nil {
		return err
	}
	s, err := l.foundation(ctx)
	if err != nil {
		return err
	}
	return l.bringUp(ctx, hosts, s)
}

// PowerOff pulls the plug: the hosts' process 1 is killed, and with it all
// their processes, connections and firewall rules. What they wrote to disk
// stays, unsynced writes included (the kernel is the outer machine's).
func (l *Lab) PowerOff(ctx context.Context, names ...string) error {
	return l.each(ctx, names, func(ctx context.Context, h host) error {
		start := time.Now()
		if err := l.wipe(ctx, h); err != nil {
			return err
		}
		l.say(h.name, "off", start)
		return nil
	})
}

// Partition cuts hosts off from every other host, the registry and the outer
// machine. Frames are dropped silently in both directions and the hosts keep
// their carrier, as when a switch between them dies. Exec still works.
func (l *Lab) Partition(ctx context.Context, names ...string) error {
	return l.each(ctx, names, func(ctx context.Context, h host) error { return l.setPort(ctx, h, false) })
}

// Heal ends the partition of hosts; without names, of all that run.
func (l *Lab) Heal(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		list, err := l.List(ctx)
		if err != nil {
			return err
		}
		for _, h := range list {
			if h.State == Partitioned {
				names = append(names, h.Name)
			}
		}
		if len(names) == 0 {
			return nil
		}
	}
	return l.each(ctx, names, func(ctx context.Context, h host) error { return l.setPort(ctx, h, true) })
}

// each locks the lab and does one thing to the named hosts, all at once.
func (l *Lab) each(ctx context.Context, names []string, do func(context.Context, host) error) error {
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	hosts, err := l.pick(names)
	if err != nil {
		return err
	}
	return together(ctx, hosts, do)
}

// pick finds the named hosts; it wants at least one name.
func (l *Lab) pick(names []string) ([]host, error) {
	s, err := l.loadState()
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errors.New("no host given; name at least one, like \"h1\"")
	}
	for _, name := range names {
		if _, err := l.existingHost(name, s); err != nil {
			return nil, err
		}
	}
	return l.sortedHosts(names, s.Subnet), nil
}

// Down ends the lab and removes everything of it, disks included; the cache
// stays. It finds what there is by name, so it also cleans up after a command
// that was killed half-way, and it is no error if there is nothing.
func (l *Lab) Down(ctx context.Context) error {
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	start := time.Now()
	hosts, err := l.remains()
	if err != nil {
		return err
	}
	if err := together(ctx, hosts, l.wipe); err != nil {
		return err
	}
	if err := l.removeSwitch(ctx); err != nil {
		return err
	}
	if err := l.unmountAll(); err != nil {
		return err
	}
	if err := os.RemoveAll(l.dir()); err != nil {
		return fmt.Errorf("removing lab %q: %w", l.cfg.Name, err)
	}
	l.say("", "down", start)
	return nil
}

// remains lists the hosts of which anything is left: disk, network namespace
// or cgroup.
func (l *Lab) remains() ([]host, error) {
	hs, err := ownHierarchies()
	if err != nil {
		return nil, err
	}
	scopes := cgroupScopes(hs, l.prefix())
	found, err := filepath.Glob(filepath.Join(netnsDir, l.prefix()+"*"))
	if err != nil {
		return nil, fmt.Errorf("listing network namespaces: %w", err)
	}
	for _, file := range found {
		scopes = append(scopes, filepath.Base(file))
	}
	known, err := l.knownHosts(netip.Prefix{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, h := range known {
		names = append(names, h.name)
	}
	for _, scope := range scopes {
		names = append(names, strings.TrimPrefix(scope, l.prefix()))
	}
	return l.sortedHosts(names, netip.Prefix{}), nil
}

// unmountAll detaches what is mounted below the lab's directory in this mount
// namespace. The lab mounts only inside its hosts' namespaces; this is for what
// people mounted there by hand, which RemoveAll must not reach into.
func (l *Lab) unmountAll() error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("listing mounts: %w", err)
	}
	for _, point := range mountsBelow(string(text), l.dir()) {
		if err := syscall.Unmount(point, syscall.MNT_DETACH); err != nil {
			return fmt.Errorf("unmounting %q: %w", point, err)
		}
	}
	return nil
}

package geard

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/linker"
)

// relinkers is how many namespaces are re-linked side by side.
const relinkers = 8

// network is one pass over the rules: the host's own, then the links of each pod that differ from
// what was last laid. Links go to disk first, so that a reboot lays the same.
func (a *Agent) network(ctx context.Context) {
	a.balanceKick.Wake()
	disk, err := a.loadPods()
	if err != nil {
		a.condition(reasonNetwork, err)
		return
	}
	if err := a.firstHostRules(ctx); err != nil {
		a.condition(reasonNetwork, err)
		return
	}
	down, resolver := ifAny(a.downAddresses()), a.resolver()
	links := a.relink(ctx, a.linkChanges(ctx, resolver, disk), down)
	a.condition(reasonLinkFeed, a.feeds.Keep(func(uid api.UID) bool { _, ok := disk[uid]; return ok }))
	a.forgetTold(ctx, disk)
	links = errors.Join(links, a.layHostRules(ctx), a.router(ctx), a.linkFiles.settle(func() bool { return ctx.Err() == nil && len(a.networkKick) == 0 }))
	a.condition(reasonNetwork, links)
}

// reasonNetwork is the condition of a host whose rules could not be laid.
const reasonNetwork = api.Reason("NetworkRules")

// reasonLinkFeed is the condition of a host where the socket that tells a pod of its links could not be made.
const reasonLinkFeed = api.Reason("LinkSocket")

// linkChange is a pod whose rules are to be laid.
type linkChange struct {
	uid        api.UID
	pod        api.Pod
	address    netip.Addr
	last, want []api.LinkTarget
	over       []linker.Drain
	known      bool // last is what was last laid, and on disk
	save       bool // want is not on disk yet
	err        error
}

// linkChanges finds the pods whose links differ from what was last laid.
func (a *Agent) linkChanges(ctx context.Context, r *api.Resolver, disk map[api.UID]held) []*linkChange {
	var all []*linkChange
	g := errgroup.Group{}
	g.SetLimit(relinkers)
	var mu sync.Mutex
	for _, h := range disk {
		if h.pod == nil || !a.hasLinks(r, *h.pod) {
			continue
		}
		g.Go(func() error {
			if c := a.linkChange(ctx, r, *h.pod, h.net); c != nil {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, c)
			}
			return nil
		})
	}
	_ = g.Wait() // what failed is in the changes
	return all
}

// linkChange gives nil for a pod that has the links which it should have.
func (a *Agent) linkChange(ctx context.Context, r *api.Resolver, pod api.Pod, net podstate.Net) *linkChange {
	c := &linkChange{uid: pod.Metadata.UID, pod: pod, address: net.Address}
	if c.want, c.err = a.wantedLinks(r, pod); c.err != nil {
		return c
	}
	a.mu.Lock()
	w := a.workLocked(c.uid)
	known, made, due := w.linked, w.made, w.drain.due(time.Now())
	a.mu.Unlock()
	if known != nil && !due && slices.EqualFunc(known, c.want, sameTarget) {
		return nil
	}
	c.last, c.known = known, known != nil
	if c.known {
		c.save = differ(known, nil, c.want)
	} else {
		old, err := a.linkFiles.load(c.uid)
		if podstate.Damaged(err) {
			a.log.Warn("the links of a pod cannot be read and are made anew", "pod", pod.Metadata.Name, "uid", c.uid, "err", err)
		}
		if err == nil && made && len(old)+len(c.want) == 0 {
			a.laid(c.uid, c.want)
			return nil
		}
		c.last, c.save = old, differ(old, err, c.want)
	}
	c.over, c.err = a.draining(ctx, c.uid, c.last, c.want)
	return c
}

// relink brings changes to disk, all of them before the first is laid, and lays them side by side.
func (a *Agent) relink(ctx context.Context, changes []*linkChange, down func(netip.Addr) bool) error {
	save := podstate.ChangedLinks{}
	for _, c := range changes {
		if c.save && c.err == nil {
			save[c.uid] = c.want
		}
	}
	failed := a.linkFiles.save(save)
	g := errgroup.Group{}
	g.SetLimit(relinkers)
	for _, c := range changes {
		if c.err = cmp.Or(c.err, failed[c.uid]); c.err == nil {
			g.Go(func() error {
				if c.err = a.lay(ctx, c, down); c.err == nil {
					a.feed(c.pod, c.want) // after the rules: what containers are told of is there
				}
				return nil
			})
		}
	}
	_ = g.Wait() // what failed is in the changes
	if len(save) > 0 {
		a.reconcileKick.Wake() // whether a pod is ready may depend on its links
	}
	var errs []error
	for _, c := range changes {
		errs = append(errs, c.err)
	}
	return errors.Join(errs...)
}

// lay changes a pod's rules. What it was not sure to lay for good is not known afterwards, and is laid once more by the next pass.
func (a *Agent) lay(ctx context.Context, c *linkChange, down func(netip.Addr) bool) error {
	a.mu.Lock()
	busy := a.workLocked(c.uid).busy
	a.mu.Unlock()
	err := a.cfg.Machine.Relink(ctx, PodLinks{UID: c.uid, Address: c.address, Old: c.last, New: c.want, Over: c.over, Known: c.known, Down: down})
	if errors.Is(err, ErrNoNamespace) {
		a.unknown(c.uid)
		return a.keepDrains(c.uid, nil) // it lays the links from disk when it is made, and nobody has connections
	}
	if err == nil {
		err = a.drained(c.uid, c.over)
	}
	if err != nil || busy {
		a.unknown(c.uid) // while a task makes the namespace, the next pass lays them once more
		return err
	}
	a.laid(c.uid, c.want)
	return nil
}

// feed tells a pod's containers of its links.
func (a *Agent) feed(pod api.Pod, links []api.LinkTarget) {
	a.feeds.Tell(pod.Metadata.UID, pod.Metadata.Project, pod.Metadata.Name, links)
}

// hasLinks tells whether a pod has links, or had some when its rules were last laid, or whether that is not known.
func (a *Agent) hasLinks(r *api.Resolver, p api.Pod) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	known := a.workLocked(p.Metadata.UID).linked
	return known == nil || len(known) > 0 || len(p.Spec.Template.Links) > 0 || r.Gives(p.Metadata.Project)
}

// laid remembers which links a pod's rules carry.
func (a *Agent) laid(uid api.UID, links []api.LinkTarget) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.workLocked(uid).linked = append([]api.LinkTarget{}, links...) // never nil: nil is not known
}

// waitingLinks gives the links of a pod, from disk, when its template waits for any. What cannot be read waits for nothing here:
// gear-run says so itself.
func (a *Agent) waitingLinks(p api.Pod) []api.LinkTarget {
	if !slices.ContainsFunc(p.Spec.Template.Links, func(l api.Link) bool { return l.WaitFor != "" }) {
		return nil
	}
	links, err := a.linkFiles.load(p.Metadata.UID)
	if err != nil {
		return nil
	}
	return links
}

// unknown forgets what a pod's rules carry.
func (a *Agent) unknown(uid api.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.workLocked(uid).linked = nil
}

// watchPods has the rules of pods laid anew that somebody else has changed.
func (a *Agent) watchPods(ctx context.Context) {
	a.mu.Lock()
	uids := slices.Collect(maps.Keys(a.pods)) // in any order: the few that are looked at first are others each time
	a.mu.Unlock()
	touched, err := a.cfg.Machine.Touched(ctx, uids)
	if err != nil {
		a.log.Warn("looking for changes of pods' rules by others", "err", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, uid := range touched {
		if w := a.pods[uid]; w != nil && w.linked != nil {
			w.linked, w.made = nil, false
			a.networkKick.Wake()
		}
	}
}

// ErrNoNamespace is Relink's answer for a pod that has no network namespace at present.
var ErrNoNamespace = errors.New("the pod has no network namespace")

// resolver resolves links as the cluster is now.
func (a *Agent) resolver() *api.Resolver { return a.Directory().Resolver(a.cfg.Name) }

func (a *Agent) linkTargets(r *api.Resolver, pod api.Pod) ([]api.LinkTarget, error) {
	links := r.Targets(pod.Metadata.Project, pod.Metadata.Name, pod.Spec.Template.Links)
	return links, a.ports.fill(pod.Metadata.Project, links)
}

func sameTarget(a, b api.LinkTarget) bool { return reflect.DeepEqual(a, b) }

// downAddresses gives the addresses of hosts that the mesh reports as failed.
func (a *Agent) downAddresses() map[netip.Addr]bool {
	down := map[netip.Addr]bool{}
	for _, h := range a.mem.get().Directory.Hosts {
		if a.cfg.Mesh.Down(h.Name) && !a.mem.get().Directory.Detached(h.Name) {
			for _, at := range append(h.AllIPv6(), h.Address) {
				down[at] = true
			}
		}
	}
	return down
}

// ifAny gives a test for addresses; nil for none, so that nobody looks for connections to them.
func ifAny(down map[netip.Addr]bool) func(netip.Addr) bool {
	if len(down) == 0 {
		return nil
	}
	return func(addr netip.Addr) bool { return down[addr] }
}

// layHostRules lays the host's rules for the pods on disk. Laying the same again does nothing but
// put back what others flushed.
func (a *Agent) layHostRules(ctx context.Context) error {
	a.rulesMu.Lock()
	defer a.rulesMu.Unlock()
	disk, err := a.loadPods()
	if err != nil {
		return err
	}
	r, resolver, had := a.hostRules(), a.resolver(), a.rulesIPv6
	for uid, h := range disk {
		if h.pod == nil {
			r.hold(uid, h.net)
			continue
		}
		if err := a.keepEgress(h); err != nil {
			return err
		}
		r.Egress[h.net.Address] = a.egressRules(h)
		r.Pods = append(r.Pods, h.net)
		ports, err := a.balancedPorts(resolver, *h.pod)
		if err != nil {
			return err
		}
		r.balance(h.net.Address, ports)
	}
	// In one order: the same pods are then the same rules.
	slices.SortFunc(r.Pods, func(x, y podstate.Net) int { return x.Address.Compare(y.Address) })
	if err := a.cfg.Machine.HostRules(ctx, r); err != nil {
		return err
	}
	if a.rulesLaid, a.rulesIPv6 = true, r.IPv6.IsValid(); a.rulesIPv6 != had {
		a.forgetNetworks()
	}
	return nil
}

// firstHostRules lays the host's rules before the first pod's links are looked at: what a pod gets with those, such as IPv6, is kept in
// bounds by the host's rules of this version.
func (a *Agent) firstHostRules(ctx context.Context) error {
	a.rulesMu.Lock()
	laid := a.rulesLaid
	a.rulesMu.Unlock()
	if laid {
		return nil
	}
	return a.layHostRules(ctx)
}

// forgetNetworks makes the next pass look at the network of each pod: the host has IPv6 now, or has it no more.
func (a *Agent) forgetNetworks() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.pods {
		w.linked, w.made = nil, false
	}
	a.networkKick.Wake()
}

// hostRules gives what the host's rules are made of, but for its pods. Public ports of hosts that are down stay: they harm nobody, and rules
// that stay the same need not be written.
func (a *Agent) hostRules() HostRules {
	return HostRules{Address: a.cfg.Address, IPv6: a.ipv6().IPv6, Members: append(a.members(), a.members6()...), Public: linker.PublicPorts(a.mem.get().Directory, a.cfg.Address),
		Egress: map[netip.Addr]*linker.Egress{}}
}

// balance notes which ports of the balancer a pod's links lead to.
func (r *HostRules) balance(pod netip.Addr, ports []uint16) {
	if len(ports) == 0 {
		return
	}
	if r.Balanced == nil {
		r.Balanced = map[netip.Addr][]uint16{}
	}
	r.Balanced[pod] = ports
}

// RulesTouched tells that somebody else has changed the host's rules: they are looked at soon.
func (a *Agent) RulesTouched() { a.networkKick.Wake() }

// router starts the router on a host that is labelled for it, and stops it on one that no longer
// is. A host that the directory does not know yet is left as it is. Asking systemd costs more than all the rest of
// a pass, so without a change of the label it is done less often.
func (a *Agent) router(ctx context.Context) error {
	for _, h := range a.mem.get().Directory.Hosts {
		if h.Name != a.cfg.Name || h.Router == a.routerOn && time.Since(a.routerAsked) < routerPeriod {
			continue
		}
		if err := a.cfg.Machine.Router(ctx, h.Router); err != nil {
			return err
		}
		a.routerOn, a.routerAsked = h.Router, time.Now()
	}
	return nil
}

// Pods gives this host's pods by their addresses, as they are on disk, with what they are held to at present.
func (a *Agent) Pods() map[netip.Addr]api.Pod {
	disk, err := a.loadPods()
	if err != nil {
		a.log.Warn("listing pods", "err", err)
	}
	out := map[netip.Addr]api.Pod{}
	for _, h := range disk {
		if h.pod != nil {
			p := *h.pod
			p.Spec.Egress = a.egress(h)
			out[h.net.Address] = p
		}
	}
	return out
}

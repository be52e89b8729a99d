package geard

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"slices"
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
	down, resolver := a.downAddresses(), a.resolver()
	g := errgroup.Group{}
	g.SetLimit(relinkers)
	for _, h := range disk {
		if h.pod != nil && a.hasLinks(resolver, *h.pod) {
			g.Go(func() error { return a.relink(ctx, resolver, *h.pod, h.net, down) })
		}
	}
	links := g.Wait()
	a.forgetTold(ctx, disk)
	a.condition(reasonNetwork, errors.Join(links, a.layHostRules(ctx), a.router(ctx)))
}

// reasonNetwork is the condition of a host whose rules could not be laid.
const reasonNetwork = api.Reason("NetworkRules")

func (a *Agent) relink(ctx context.Context, r *api.Resolver, pod api.Pod, net podstate.Net, down func(netip.Addr) bool) error {
	uid := pod.Metadata.UID
	want, err := a.wantedLinks(r, pod)
	if err != nil {
		return err
	}
	a.mu.Lock()
	w := a.workLocked(uid)
	known, busy, due := w.linked, w.busy, w.drain.due(time.Now())
	a.mu.Unlock()
	if known != nil && !due && slices.EqualFunc(known, want, sameTarget) {
		return nil
	}
	old, err := a.cfg.Dirs.LoadLinks(uid)
	if podstate.Damaged(err) {
		a.log.Warn("the links of a pod cannot be read and are made anew", "pod", pod.Metadata.Name, "uid", uid, "err", err)
	}
	if err == nil && known == nil && len(old)+len(want) == 0 {
		a.laid(uid, want)
		return nil
	}
	last := old
	if known != nil {
		last = known
	}
	over, drainErr := a.draining(uid, last, want)
	if drainErr != nil {
		return drainErr
	}
	if err != nil || !reflect.DeepEqual(old, want) {
		if err := a.cfg.Dirs.SaveLinks(uid, want); err != nil {
			return err
		}
	}
	err = a.cfg.Machine.Relink(ctx, PodLinks{UID: uid, Address: net.Address, Old: last, New: want, Over: over, Known: known != nil, Down: down})
	if errors.Is(err, ErrNoNamespace) {
		return a.keepDrains(uid, nil) // it lays the links from disk when it is made, and nobody has connections
	}
	if err == nil {
		err = a.drained(uid, over)
	}
	if err != nil || busy {
		return err // while a task makes the namespace, the next pass lays them once more
	}
	a.laid(uid, want)
	return nil
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

// ErrNoNamespace is Relink's answer for a pod that has no network namespace at present.
var ErrNoNamespace = errors.New("the pod has no network namespace")

// resolver resolves links as the cluster is now.
func (a *Agent) resolver() *api.Resolver { return a.Directory().Resolver(a.cfg.Name) }

func (a *Agent) linkTargets(r *api.Resolver, pod api.Pod) ([]api.LinkTarget, error) {
	links := r.Targets(pod.Metadata.Project, pod.Metadata.Name, pod.Spec.Template.Links)
	return links, a.ports.fill(pod.Metadata.Project, links)
}

func sameTarget(a, b api.LinkTarget) bool { return reflect.DeepEqual(a, b) }

// downAddresses gives a test for the addresses of hosts that the mesh reports as failed.
func (a *Agent) downAddresses() func(netip.Addr) bool {
	down := map[netip.Addr]bool{}
	for _, h := range a.mem.get().Directory.Hosts {
		if a.cfg.Mesh.Down(h.Name) && !a.mem.get().Directory.Detached(h.Name) {
			down[h.Address] = true
		}
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
	r, resolver := a.hostRules(), a.resolver()
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
	return a.cfg.Machine.HostRules(ctx, r)
}

// hostRules gives what the host's rules are made of, but for its pods. Public ports of hosts that are down stay: they harm nobody, and rules
// that stay the same need not be written.
func (a *Agent) hostRules() HostRules {
	return HostRules{Address: a.cfg.Address, Members: a.members(), Public: linker.PublicPorts(a.mem.get().Directory, a.cfg.Address),
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

package geard

import (
	"context"
	"errors"
	"net/netip"
	"reflect"

	"golang.org/x/sync/errgroup"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

// relinkers is how many namespaces are re-linked side by side.
const relinkers = 8

// network is one pass over the rules: the host's own, then the links of each pod that differ from
// what was last laid. Links go to disk first, so that a reboot lays the same.
func (a *Agent) network(ctx context.Context) {
	disk, err := a.loadPods()
	if err != nil {
		a.condition(reasonNetwork, err)
		return
	}
	down := a.downAddresses()
	g := errgroup.Group{}
	g.SetLimit(relinkers)
	for _, h := range disk {
		if h.pod != nil {
			g.Go(func() error { return a.relink(ctx, *h.pod, h.net, down) })
		}
	}
	links := g.Wait()
	a.condition(reasonNetwork, errors.Join(links, a.layHostRules(ctx), a.router(ctx)))
}

// reasonNetwork is the condition of a host whose rules could not be laid.
const reasonNetwork = api.Reason("NetworkRules")

func (a *Agent) relink(ctx context.Context, pod api.Pod, net podstate.Net, down func(netip.Addr) bool) error {
	uid := pod.Metadata.UID
	want, err := a.wantedLinks(pod)
	if err != nil {
		return err
	}
	a.mu.Lock()
	w := a.workLocked(uid)
	known, busy := w.linked, w.busy
	a.mu.Unlock()
	if len(want) == 0 || reflect.DeepEqual(known, want) {
		return nil
	}
	old, err := a.cfg.Dirs.LoadLinks(uid)
	if err != nil || !reflect.DeepEqual(old, want) {
		if err := a.cfg.Dirs.SaveLinks(uid, want); err != nil {
			return err
		}
	}
	if known != nil {
		old = known
	}
	err = a.cfg.Machine.Relink(ctx, PodLinks{UID: uid, Address: net.Address, Old: old, New: want, Known: known != nil, Down: down})
	if errors.Is(err, ErrNoNamespace) {
		return nil // it lays the links from disk when it is made
	}
	if err != nil || busy {
		return err // while a task makes the namespace, the next pass lays them once more
	}
	a.mu.Lock()
	a.workLocked(uid).linked = want
	a.mu.Unlock()
	return nil
}

// ErrNoNamespace is Relink's answer for a pod that has no network namespace at present.
var ErrNoNamespace = errors.New("the pod has no network namespace")

func (a *Agent) linkTargets(pod api.Pod) []api.LinkTarget {
	return a.Directory().LinkTargets(pod.Metadata.Project, pod.Spec.Template.Links)
}

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
	r := HostRules{Address: a.cfg.Address, Members: a.members()}
	for _, h := range disk {
		if h.pod != nil {
			r.Pods = append(r.Pods, h.net)
		}
	}
	return a.cfg.Machine.HostRules(ctx, r)
}

// RulesTouched tells that somebody else has changed the host's rules: they are looked at soon.
func (a *Agent) RulesTouched() { a.networkKick.Wake() }

// router starts the router on a host that is labelled for it, and stops it on one that no longer
// is. A host that the directory does not know yet is left as it is.
func (a *Agent) router(ctx context.Context) error {
	for _, h := range a.mem.get().Directory.Hosts {
		if h.Name == a.cfg.Name {
			return a.cfg.Machine.Router(ctx, h.Router)
		}
	}
	return nil
}

// Pods gives this host's pods by their addresses, as they are on disk.
func (a *Agent) Pods() map[netip.Addr]api.Pod {
	disk, err := a.loadPods()
	if err != nil {
		a.log.Warn("listing pods", "err", err)
	}
	out := map[netip.Addr]api.Pod{}
	for _, h := range disk {
		if h.pod != nil {
			out[h.net.Address] = *h.pod
		}
	}
	return out
}

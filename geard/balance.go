package geard

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/linker"
)

// The times of the balancer.
const (
	balancePeriod = 4 * time.Second
	balanceTime   = 10 * time.Second // longest time of one pass, which the start of a pod with such a link waits for too
	keepPort      = time.Minute      // a port that nobody uses is kept for so long: its pod may be on its way to the disk
)

// reasonBalancer is the condition of a host whose balancer does not carry all balanced links.
const reasonBalancer = api.Reason("Balancer")

// linkPorts gives ports of the host's balancer to targets of balanced links. They stay the same as long as a pod here has such a link,
// also when the agent starts anew: they are in the rules of running pods.
type linkPorts struct {
	mu    sync.Mutex
	dirs  podstate.Dirs
	ports podstate.LinkPorts
	asked map[string]time.Time // when a target was last asked for
	last  uint16               // that was given
}

func newLinkPorts(dirs podstate.Dirs) (*linkPorts, error) {
	p := &linkPorts{dirs: dirs, asked: map[string]time.Time{}, last: linker.LastLinkPort}
	var err error
	if p.ports, err = dirs.LoadLinkPorts(); p.ports == nil {
		p.ports = podstate.LinkPorts{}
	}
	if podstate.Missing(err) {
		err = nil
	}
	return p, err
}

// fill gives each balanced link of a pod of that project its port.
func (p *linkPorts) fill(project api.Name, links []api.LinkTarget) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	changed := false
	for _, l := range links {
		key := podstate.LinkKey(project, l)
		if key == "" {
			continue
		}
		p.asked[key] = time.Now()
		if p.ports[key] != 0 {
			continue
		}
		port, err := p.free()
		if err != nil {
			return fmt.Errorf("link %q: %w", l.Service, err)
		}
		p.ports[key], changed = port, true
	}
	p.ports.Fill(project, links)
	if changed {
		return p.dirs.SaveLinkPorts(p.ports)
	}
	return nil
}

// free goes round in a circle, so that a freed port is used again as late as can be.
func (p *linkPorts) free() (uint16, error) {
	used := map[uint16]bool{}
	for _, port := range p.ports {
		used[port] = true
	}
	for range linker.LastLinkPort - linker.FirstLinkPort + 1 {
		if p.last++; p.last > linker.LastLinkPort || p.last < linker.FirstLinkPort {
			p.last = linker.FirstLinkPort
		}
		if !used[p.last] {
			return p.last, nil
		}
	}
	return 0, fmt.Errorf("no port from %d to %d is free for another target of balanced links; make some of them direct", linker.FirstLinkPort, linker.LastLinkPort)
}

// release frees the ports of targets that are not in use and were not asked for lately.
func (p *linkPorts) release(used map[string]api.BalancedLink) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := len(p.ports)
	maps.DeleteFunc(p.ports, func(key string, _ uint16) bool {
		_, inUse := used[key]
		return !inUse && time.Since(p.asked[key]) > keepPort
	})
	if len(p.ports) == before {
		return nil
	}
	return p.dirs.SaveLinkPorts(p.ports)
}

// hasBalanced tells whether a pod's template has a balanced link. Links that a project gives are direct.
func hasBalanced(p api.Pod) bool {
	return slices.ContainsFunc(p.Spec.Template.Links, func(l api.Link) bool { return l.Mode == api.LinkBalanced })
}

// balancedPorts gives the ports of the balancer that a pod's links lead to.
func (a *Agent) balancedPorts(r *api.Resolver, p api.Pod) ([]uint16, error) {
	if !hasBalanced(p) {
		return nil, nil
	}
	links, err := a.wantedLinks(r, p)
	return podstate.Balanced(links), err
}

// balance is one pass over the balanced links: the host's HAProxy carries those of the pods on disk, or does not run.
func (a *Agent) balance(ctx context.Context) {
	a.balanceMu.Lock()
	defer a.balanceMu.Unlock()
	links, err := a.balanced()
	if err == nil && (len(links) > 0 || a.balances) {
		ctx, cancel := context.WithTimeout(ctx, balanceTime)
		defer cancel()
		down := a.downAddresses()
		if err = a.cfg.Machine.Balance(ctx, links, func(addr netip.Addr) bool { return down[addr] }); err == nil {
			a.balances = len(links) > 0
		}
	}
	a.condition(reasonBalancer, err)
}

// balanced gives the targets of all balanced links of this host's pods, sorted by port.
func (a *Agent) balanced() ([]api.BalancedLink, error) {
	disk, err := a.loadPods()
	if err != nil {
		return nil, err
	}
	r, used := a.resolver(), map[string]api.BalancedLink{}
	for _, h := range disk {
		if h.pod == nil || !hasBalanced(*h.pod) {
			continue
		}
		links, err := a.wantedLinks(r, *h.pod)
		if err != nil {
			return nil, err
		}
		for _, l := range links {
			if l.Via.IsValid() {
				project := h.pod.Metadata.Project
				used[podstate.LinkKey(project, l)] = api.BalancedLink{Project: cmp.Or(l.Project, project), Service: l.Service, PortName: l.PortName,
					Port: l.Via.Port(), Retarget: l.Retarget, MaxDrain: l.MaxDrain, Backends: l.Backends}
			}
		}
	}
	list := slices.SortedFunc(maps.Values(used), func(x, y api.BalancedLink) int { return cmp.Compare(x.Port, y.Port) })
	return list, a.ports.release(used)
}

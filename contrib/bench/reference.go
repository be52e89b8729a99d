package main

import (
	"cmp"
	"slices"

	"gearmesh.dev/api"
	"gearmesh.dev/master/schedule"
)

// serviceKey names a service of any project.
type serviceKey struct{ project, name api.Name }

func keyOf(p *api.Pod) serviceKey { return serviceKey{p.Metadata.Project, p.Spec.Service} }

// reference is a scheduler as one would write it down: it goes through all hosts and, for each rule, through what is on them.
// It is the peer of P7, and what its decisions are checked by.
type reference struct {
	hosts    []api.Host
	byName   map[api.Name]*api.Host
	services map[serviceKey]*api.Service
	on       map[serviceKey]map[api.Name]int // pods by host
	load     map[api.Name]*hostLoad
}

type hostLoad struct {
	used        api.Resources
	ports, pods int
}

func newReference(c *cluster) *reference {
	r := &reference{hosts: c.Hosts, byName: map[api.Name]*api.Host{}, services: map[serviceKey]*api.Service{},
		on: map[serviceKey]map[api.Name]int{}, load: map[api.Name]*hostLoad{}}
	for i := range c.Hosts {
		r.byName[c.Hosts[i].Metadata.Name] = &c.Hosts[i]
		r.load[c.Hosts[i].Metadata.Name] = &hostLoad{}
	}
	for i := range c.Services {
		s := &c.Services[i]
		r.services[serviceKey{s.Metadata.Project, s.Metadata.Name}] = s
	}
	return r
}

// take counts a pod on a host.
func (r *reference) take(q schedule.Request, host api.Name) {
	k, l := serviceKey{q.Project, q.Service}, r.load[host]
	if r.on[k] == nil {
		r.on[k] = map[api.Name]int{}
	}
	r.on[k][host]++
	l.used.CPU, l.used.Memory, l.ports, l.pods = l.used.CPU+q.Need.CPU, l.used.Memory+q.Need.Memory, l.ports+q.Ports, l.pods+1
}

// near counts the pods of a service on hosts that have a host's value of a label.
func (r *reference) near(project, service api.Name, label string, h *api.Host) int {
	n, value := 0, schedule.LabelOf(h, label)
	for on, pods := range r.on[serviceKey{project, service}] {
		if schedule.LabelOf(r.byName[on], label) == value {
			n += pods
		}
	}
	return n
}

// fits tells whether every rule holds of a pod on a host.
func (r *reference) fits(q schedule.Request, host api.Name) bool {
	h := r.byName[host]
	return r.mayTake(q, h) && r.hasRoom(q, h) && r.neighbours(q, h) && r.bounds(q, h)
}

func (r *reference) mayTake(q schedule.Request, h *api.Host) bool {
	return h.Status.State == api.HostReady && !h.Spec.Cordoned && schedule.Meets(h, q.Placement.Require) && h.Status.Lacks(q.Policy, q.Classes) == ""
}

func (r *reference) hasRoom(q schedule.Request, h *api.Host) bool {
	l, has := r.load[h.Metadata.Name], h.Status.Capacity
	return (q.Need.CPU == 0 || l.used.CPU+q.Need.CPU <= has.CPU) && (q.Need.Memory == 0 || l.used.Memory+q.Need.Memory <= has.Memory) &&
		(q.Ports == 0 || h.Status.HostPorts == 0 || l.ports+q.Ports <= h.Status.HostPorts)
}

func (r *reference) neighbours(q schedule.Request, h *api.Host) bool {
	for _, n := range q.Placement.Near {
		first := n.Service == q.Service && len(r.on[serviceKey{q.Project, n.Service}]) == 0
		if !n.Prefer && !first && r.near(q.Project, n.Service, n.Label(), h) == 0 {
			return false
		}
	}
	for _, n := range q.Placement.Apart {
		if !n.Prefer && r.near(q.Project, n.Service, n.Label(), h) > 0 {
			return false
		}
	}
	for k, s := range r.services {
		for _, n := range s.Spec.Placement.Apart {
			if !n.Prefer && k.project == q.Project && n.Service == q.Service && r.near(k.project, k.name, n.Label(), h) > 0 {
				return false
			}
		}
	}
	return true
}

func (r *reference) bounds(q schedule.Request, h *api.Host) bool {
	p := q.Placement
	if p.MaxPerHost > 0 && r.on[serviceKey{q.Project, q.Service}][h.Metadata.Name] >= p.MaxPerHost {
		return false
	}
	return p.MaxSkew == 0 || r.near(q.Project, q.Service, spreadOf(q), h)+1-r.emptiest(q) <= p.MaxSkew
}

// emptiest gives the fewest pods under a value of the spread label, of the hosts that may be taken.
func (r *reference) emptiest(q schedule.Request) int {
	under, label := map[string]int{}, spreadOf(q)
	for i := range r.hosts {
		if r.mayTake(q, &r.hosts[i]) {
			under[schedule.LabelOf(&r.hosts[i], label)] = 0
		}
	}
	for on, n := range r.on[serviceKey{q.Project, q.Service}] {
		if value := schedule.LabelOf(r.byName[on], label); has(under, value) {
			under[value] += n
		}
	}
	least := -1
	for _, n := range under {
		if least < 0 || n < least {
			least = n
		}
	}
	return max(least, 0)
}

func has(m map[string]int, key string) bool { _, ok := m[key]; return ok }

func spreadOf(q schedule.Request) string { return cmp.Or(q.Placement.Spread, api.HostLabel) }

// best gives the host that docs/placement.md calls the best, "" when none fits. The hosts are in the order of their names.
func (r *reference) best(q schedule.Request) api.Name {
	best, rank := api.Name(""), []int(nil)
	for i := range r.hosts {
		h := &r.hosts[i]
		if !r.fits(q, h.Metadata.Name) {
			continue
		}
		if mine := r.rank(q, h); rank == nil || slices.Compare(mine, rank) < 0 {
			best, rank = h.Metadata.Name, mine
		}
	}
	return best
}

// rank gives what hosts are compared by, the smaller the better.
func (r *reference) rank(q schedule.Request, h *api.Host) []int {
	unmet, label := 0, spreadOf(q)
	for _, n := range q.Placement.Near {
		if n.Prefer && r.near(q.Project, n.Service, n.Label(), h) == 0 {
			unmet++
		}
	}
	for _, n := range q.Placement.Apart {
		if n.Prefer && r.near(q.Project, n.Service, n.Label(), h) > 0 {
			unmet++
		}
	}
	l, has := r.load[h.Metadata.Name], h.Status.Capacity
	share := max(thousandths(int64(l.used.CPU), int64(has.CPU)), thousandths(int64(l.used.Memory), int64(has.Memory)))
	spread, same := r.near(q.Project, q.Service, label, h), r.on[serviceKey{q.Project, q.Service}][h.Metadata.Name]
	switch {
	case q.Placement.Pack && label == api.HostLabel:
		return []int{unmet, -share, -l.pods}
	case q.Placement.Pack:
		return []int{unmet, spread, -share, -l.pods}
	}
	return []int{unmet, spread, same, share, l.pods}
}

func thousandths(used, of int64) int {
	if used >= of {
		return 1000
	}
	return int(used * 1000 / of)
}

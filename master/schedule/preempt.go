package schedule

import (
	"cmp"
	"slices"

	"gearmesh.dev/api"
)

// resident is a pod that is on a host already.
type resident struct {
	pod    *api.Pod
	fleet  *fleet
	need   amount
	ending bool
}

// hopeless names requests for which no pods can be ended, as failure does.
type hopeless struct {
	failure
	priority int
}

// eviction is what it takes to make room on a host.
type eviction struct {
	host    int32
	victims []*resident // the lowest priority first
}

// Preempt finds the host on which a pod that fits nowhere can be once pods of lower priority have ended: those that are
// ending already, and the victims, which the caller must end and Retire. It takes the host with the fewest victims, of
// these the one whose victims have the lowest priorities. No victim has the pod's priority or a higher one, none could be spared, and
// no service is left with fewer ready pods than its MinReady. The room is kept for the pod as long as the Cluster lives.
func (c *Cluster) Preempt(q Request) (on api.Name, victims []*api.Pod) {
	if q.Priority <= c.lowest {
		return "", nil
	}
	key, k := c.class(&q)
	k = c.only(k, &q)
	r := c.rules(&q, k)
	fails := hopeless{failure{key, r.need}, q.Priority}
	plain := len(r.bounds) == 0 && q.On == ""
	if plain && c.hopeless[fails] {
		return "", nil
	}
	best := c.leastEviction(k, r, q.Priority)
	if best == nil {
		if plain {
			c.hopeless[fails] = true
		}
		return "", nil
	}
	c.room[best.host].use(r.need)
	for _, v := range best.victims {
		victims = append(victims, v.pod)
	}
	return c.hosts[best.host].Metadata.Name, victims
}

func (c *Cluster) leastEviction(k *class, r *rules, priority int) *eviction {
	c.gatherResidents()
	var best *eviction
	for _, i := range k.fit {
		if len(c.residents[i]) == 0 || c.residents[i][0].fleet.priority >= priority || r.misplaced(i) != filters {
			continue
		}
		victims, ok := c.victims(i, &r.need, priority)
		if e := (eviction{i, victims}); ok && (best == nil || e.compare(best) < 0) {
			best = &e
		}
	}
	return best
}

// compare puts the eviction that costs least first.
func (e *eviction) compare(o *eviction) int {
	if n := cmp.Compare(len(e.victims), len(o.victims)); n != 0 || len(e.victims) == 0 {
		return n
	}
	return slices.CompareFunc(backward(e.victims), backward(o.victims), func(a, b *resident) int {
		return cmp.Compare(a.fleet.priority, b.fleet.priority)
	})
}

func backward(list []*resident) []*resident {
	out := slices.Clone(list)
	slices.Reverse(out)
	return out
}

// victims gives the pods to end on a host, none when those that are ending suffice; false when all do not suffice.
func (c *Cluster) victims(host int32, need *amount, priority int) ([]*resident, bool) {
	have := c.room[host].free
	var alone, may []*resident // each can end alone; all can end together
	spared := map[*fleet]int32{}
	for i := range c.residents[host] {
		v := &c.residents[host][i]
		switch {
		case v.fleet.priority >= priority:
		case v.ending:
			have.add(v.need)
		case !v.pod.Status.Ready:
			alone, may = append(alone, v), append(may, v)
		case v.fleet.ready > v.fleet.minReady:
			alone = append(alone, v)
			if v.fleet.ready-spared[v.fleet] > v.fleet.minReady {
				spared[v.fleet]++
				may = append(may, v)
			}
		}
	}
	if have.short(need) < 0 {
		return nil, true
	}
	return fewestVictims(have, need, alone, may)
}

// fewestVictims chooses among pods in the order of their priorities: one that alone suffices, or else all that may end together but
// those that can be spared, the highest priority first.
func fewestVictims(have amount, need *amount, alone, may []*resident) ([]*resident, bool) {
	for _, v := range alone {
		one := have
		if one.add(v.need); one.short(need) < 0 {
			return []*resident{v}, true
		}
	}
	all := have
	for _, v := range may {
		all.add(v.need)
	}
	if all.short(need) >= 0 {
		return nil, false
	}
	var out []*resident
	for _, v := range backward(may) {
		without := all
		if without.subtract(v.need); without.short(need) < 0 {
			all = without
		} else {
			out = append(out, v)
		}
	}
	slices.Reverse(out)
	return out, true
}

// gatherResidents lists the pods of each host, the lowest priority and the newest first. Pods that were placed since
// the Cluster was made are not among them: whoever has just placed them did so by priority.
func (c *Cluster) gatherResidents() {
	if c.residents != nil {
		return
	}
	c.residents = make([][]resident, len(c.hosts))
	for i := range c.pods {
		p := &c.pods[i]
		on, ok := c.byName[p.Spec.Host]
		if ok && p.Status.Phase != api.PhaseGone {
			c.residents[on] = append(c.residents[on], resident{p, c.fleetOf(p), needOf(&p.Spec.Template), p.Metadata.Deleting || c.ending[p.Metadata.UID]})
		}
	}
	for _, list := range c.residents {
		slices.SortFunc(list, func(a, b resident) int {
			return cmp.Or(cmp.Compare(a.fleet.priority, b.fleet.priority), b.pod.Metadata.Created.Compare(a.pod.Metadata.Created),
				cmp.Compare(a.pod.Metadata.Project, b.pod.Metadata.Project), cmp.Compare(a.pod.Metadata.Name, b.pod.Metadata.Name))
		})
	}
}

// ended notes that a pod is being ended.
func (c *Cluster) ended(host int32, p *api.Pod) {
	c.ending[p.Metadata.UID] = true
	if c.residents == nil {
		return
	}
	for i := range c.residents[host] {
		if r := &c.residents[host][i]; r.pod.Metadata.UID == p.Metadata.UID {
			r.ending = true
		}
	}
}

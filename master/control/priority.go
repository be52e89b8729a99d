package control

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/master/schedule"
)

// byPriority gives the services in the order in which they get room.
func byPriority(fleets []*fleet) []*fleet {
	out := slices.Clone(fleets)
	slices.SortStableFunc(out, func(a, b *fleet) int { return cmp.Compare(b.Spec.Placement.Priority, a.Spec.Placement.Priority) })
	return out
}

// preempt lets pods of lower priority end for a pod that fits nowhere. The pod waits until they have: d says where, and for whom.
func (p *planner) preempt(f *fleet, pod *api.Pod, q schedule.Request, d *api.Decision) {
	host, victims := p.cluster.Preempt(q)
	if host == "" {
		return
	}
	d.Waits = host
	if was := pod.Spec.Placement; was != nil && was.Waits == host && len(victims) == 0 {
		d.Reasons = slices.Clone(was.Reasons)
		return
	}
	var names []string
	for _, v := range victims {
		names = append(names, string(v.Metadata.Project)+"/"+string(v.Metadata.Name))
		p.evict(v, fmt.Sprintf("pod %s/%s of priority %d gets its room on host %s", pod.Metadata.Project, pod.Metadata.Name, f.Spec.Placement.Priority, host))
	}
	if len(names) == 0 {
		names = []string{"those that are ending"}
	}
	d.Reasons = append(d.Reasons, fmt.Sprintf("its room on host %s is that of pods of lower priority: %s", host, strings.Join(names, ", ")))
}

// evict ends a pod for another one.
func (p *planner) evict(v *api.Pod, why string) {
	p.mark(v, api.ReasonPreempted, why)
	for _, f := range p.planned {
		if f.Metadata.Project != v.Metadata.Project || f.Metadata.Name != v.Spec.Service {
			continue
		}
		for _, r := range f.pick(func(r replica) bool { return r.Metadata.Name == v.Metadata.Name }) {
			f.drop(r)
			f.leaving = append(f.leaving, r)
		}
	}
}

package control

import (
	"cmp"
	"reflect"
	"slices"

	"gearmesh.dev/api"
	"gearmesh.dev/master/schedule"
)

// fleet is a service with its pods.
type fleet struct {
	*api.Service
	hash    string
	want    int
	live    []replica // wanted to run
	leaving []replica // marked for deletion; their hosts still have something of them
	gone    []replica // nothing of them is left anywhere
	marked  bool      // this plan has given up a pod of the singleton
}

// replica is a pod with what is decided by.
type replica struct {
	*api.Pod
	outdated api.Reason // why it must be replaced; "" when it is as its service wants
	ready    bool
	silent   bool // its host's lease has run out: what it does is not known
	lost     bool // its host is lost
}

// fleets gives every service that is not being deleted, in the order of names.
func (p *planner) fleets() []*fleet {
	var out []*fleet
	for _, s := range p.sortedServices() {
		if !s.Metadata.Deleting && !p.deletingProject(s.Metadata.Project) {
			out = append(out, p.fleet(s))
		}
	}
	return out
}

// fleet sorts out the pods of a service.
func (v *View) fleet(s *api.Service) *fleet {
	f := &fleet{Service: s, hash: v.hash(s), want: wanted(s)}
	for _, pod := range v.pods[keyOf(s)] {
		r := v.replica(f, pod)
		switch {
		case v.gone(pod):
			f.gone = append(f.gone, r)
		case pod.Metadata.Deleting:
			f.leaving = append(f.leaving, r)
		default:
			f.live = append(f.live, r)
		}
	}
	for _, list := range [][]replica{f.live, f.leaving, f.gone} {
		slices.SortFunc(list, func(a, b replica) int { return cmp.Compare(a.Metadata.Name, b.Metadata.Name) })
	}
	if s.Spec.Global {
		f.want = v.wantedGlobal(f)
	}
	f.markMoved()
	return f
}

func (v *View) replica(f *fleet, pod *api.Pod) replica {
	r := replica{Pod: pod, outdated: v.outdated(f, pod)}
	if pod.Spec.Host != "" {
		r.silent = !v.Health[pod.Spec.Host].LeaseGood
		r.lost = v.states[pod.Spec.Host] == api.HostLost
		r.ready = pod.Status.Ready && !r.silent
	}
	return r
}

// outdated tells why a pod must be replaced. Templates are compared when their hashes differ, so
// that another way of hashing in a newer master replaces nothing.
func (v *View) outdated(f *fleet, pod *api.Pod) api.Reason {
	if pod.Singleton() != f.Spec.Leased() || (pod.Spec.Ordinal != nil) != f.identity() {
		return api.ReasonTemplateChange
	}
	if !f.runs(pod) && !api.LiveChange(pod.Spec.Template, f.Spec.PodTemplate) {
		return api.ReasonTemplateChange
	}
	h := v.hosts[pod.Spec.Host]
	switch {
	case h == nil:
		return ""
	case h.Metadata.Deleting || !schedule.Meets(h, f.Spec.Placement.Require):
		return api.ReasonPlacement
	case h.Spec.Drain && !f.stateful(): // volumes stay where they are, and their pods with them
		return api.ReasonDrained
	}
	return ""
}

// runs tells whether a pod has the service's template.
func (f *fleet) runs(pod *api.Pod) bool {
	return cmp.Or(pod.Spec.Live, pod.Spec.Hash) == f.hash || reflect.DeepEqual(pod.Spec.Template, f.Spec.PodTemplate)
}

// gone tells whether nothing of a pod can be left: it is marked and has never had a host or was
// reported gone, or an operator has said that its host will not return.
func (v *View) gone(pod *api.Pod) bool {
	if pod.Spec.Host == "" {
		return pod.Metadata.Deleting
	}
	h := v.hosts[pod.Spec.Host]
	if h != nil && expelled(h) { // it may run on there, but not beyond its lease
		return !pod.Singleton() || v.Health[pod.Spec.Host].Lapsed
	}
	return h == nil || v.givenUp(h) || pod.Metadata.Deleting && pod.Status.Phase == api.PhaseGone
}

// givenUp tells whether an operator has deleted a host that can no longer end its pods itself: it
// is lost, or silent with no other host left that could say so.
func (v *View) givenUp(h *api.Host) bool {
	if !h.Metadata.Deleting || v.Health[h.Metadata.Name].LeaseGood {
		return false
	}
	return v.ready == 0 || v.states[h.Metadata.Name] == api.HostLost
}

// stateful tells whether two copies could disturb each other's data. Those of a global service are on different hosts.
func (f *fleet) stateful() bool { return f.Spec.Stateful() && !f.Spec.Global }

// current gives the pods that are as the service wants them.
func (f *fleet) current() []replica { return f.pick(func(r replica) bool { return r.outdated == "" }) }

// stale gives the pods that must be replaced.
func (f *fleet) stale() []replica { return f.pick(func(r replica) bool { return r.outdated != "" }) }

func (f *fleet) pick(want func(replica) bool) []replica {
	var out []replica
	for _, r := range f.live {
		if want(r) {
			out = append(out, r)
		}
	}
	return out
}

// drop takes a pod out of live.
func (f *fleet) drop(r replica) {
	f.live = slices.DeleteFunc(f.live, func(o replica) bool { return o.Pod == r.Pod })
}

func allReady(list []replica) bool {
	return !slices.ContainsFunc(list, func(r replica) bool { return !r.ready })
}

// victim gives the pod that is missed least: without a host, on a lost host, not ready, outdated,
// of the highest number, newest.
func victim(list []replica) replica {
	return slices.MinFunc(list, func(a, b replica) int {
		return cmp.Or(
			cmp.Compare(a.worth(), b.worth()),
			cmp.Compare(b.outdated, a.outdated),
			cmp.Compare(b.ordinal(), a.ordinal()),
			b.Metadata.Created.Compare(a.Metadata.Created),
			cmp.Compare(a.Metadata.UID, b.Metadata.UID))
	})
}

func (r replica) worth() int {
	switch {
	case r.Spec.Host == "":
		return 0
	case r.lost:
		return 1
	case r.silent:
		return 2
	case !r.ready:
		return 3
	}
	return 4
}

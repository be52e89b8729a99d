package control

import (
	"maps"
	"slices"

	"gearmesh.dev/api"
)

// Forecast is what the controllers would do until nothing is left to do.
type Forecast struct {
	Actions []Action // on pods, in their order
	End     Snapshot // the cluster then
	Rest    bool     // false when it was cut off before
}

// Foresee plans again and again on a snapshot, taken that each write succeeds, that hosts with a good lease do at once as they
// are told, and that pods become ready. It ends at rest, or when more says no.
func Foresee(s Snapshot, newUID func() api.UID, more func() bool) Forecast {
	f := foresight{s: s, pods: map[api.Key]int{}}
	f.s.Pods = slices.Clone(s.Pods)
	f.s.Aliases, f.s.Services = slices.Clone(s.Aliases), slices.Clone(s.Services)
	f.s.Hosts, f.s.Projects = slices.Clone(s.Hosts), slices.Clone(s.Projects)
	for i := range f.s.Pods {
		f.obey(&f.s.Pods[i])
		f.pods[f.s.Pods[i].Key()] = i
	}
	out := Forecast{}
	for more() {
		actions := Plan(f.s, newUID)
		if len(actions) == 0 {
			out.Rest = true
			break
		}
		for i, a := range actions {
			if p, ok := a.Object.(*api.Pod); ok {
				own := *p // it may stand in the list that play changes
				actions[i].Object = &own
				out.Actions = append(out.Actions, actions[i])
			}
		}
		for _, a := range actions {
			f.play(a)
		}
	}
	out.End = f.s
	return out
}

// foresight is a snapshot that changes as it is foreseen.
type foresight struct {
	s    Snapshot
	pods map[api.Key]int // index in s.Pods
}

// obey gives a pod the status that it has once its host has done what it is told.
func (f *foresight) obey(p *api.Pod) {
	if p.Spec.Host == "" || !f.s.Health[p.Spec.Host].LeaseGood {
		return
	}
	p.Status.Phase, p.Status.Ready = api.PhaseRunning, true
	if p.Metadata.Deleting {
		p.Status.Phase, p.Status.Ready = api.PhaseGone, false
	}
}

// play carries out an action.
func (f *foresight) play(a Action) {
	switch r := a.Object.(type) {
	case *api.Pod:
		if a.Op == Rename {
			f.forget(a.From)
		}
		f.playPod(a.Op, r)
	case *api.Service:
		f.s.Services = played(f.s.Services, a.Op, *r, func(o *api.Service) bool { return o.Key() == r.Key() })
	case *api.Project:
		f.s.Projects = played(f.s.Projects, a.Op, *r, func(o *api.Project) bool { return o.Key() == r.Key() })
	case *api.Host:
		f.s.Hosts = played(f.s.Hosts, a.Op, *r, func(o *api.Host) bool { return o.Key() == r.Key() })
	case *api.Alias:
		f.s.Aliases = played(f.s.Aliases, a.Op, *r, func(o *api.Alias) bool { return o.Key() == r.Key() })
	}
}

func (f *foresight) playPod(op Op, r *api.Pod) {
	if op == Delete {
		f.forget(r.Key())
		return
	}
	i, ok := f.pods[r.Key()]
	next := *r
	f.obey(&next)
	if ok {
		f.s.Pods[i] = next
		return
	}
	f.pods[r.Key()] = len(f.s.Pods)
	f.s.Pods = append(f.s.Pods, next)
}

func (f *foresight) forget(pod api.Key) {
	if i, ok := f.pods[pod]; ok {
		last := len(f.s.Pods) - 1
		f.s.Pods[i] = f.s.Pods[last]
		f.pods[f.s.Pods[i].Key()] = i
		f.s.Pods = f.s.Pods[:last]
		delete(f.pods, pod)
	}
}

// played gives a list after an action on one of its elements.
func played[T any](list []T, op Op, v T, is func(*T) bool) []T {
	i := slices.IndexFunc(list, func(o T) bool { return is(&o) })
	switch {
	case op == Delete && i >= 0:
		return slices.Delete(list, i, i+1)
	case op == Put && i >= 0:
		list[i] = v
	case op == Put:
		list = append(list, v)
	}
	return list
}

// PodChanges compares two forecasts, of the cluster as it is and of the cluster with a change: what would become of the pods
// of each service for which they differ, and of those named. start has the pods that there are now.
func PodChanges(start []api.Pod, without, with Forecast, named func(project, service api.Name) bool) []api.PodChange {
	before := outcomes(start, without.Actions)
	after := outcomes(start, with.Actions)
	var out []api.PodChange
	for _, k := range slices.SortedFunc(maps.Keys(after), compareServices) {
		if o := after[k]; !slices.Equal(o.signature(), before[k].signature()) {
			out = append(out, o.changes(k)...)
		}
	}
	ended := map[api.UID]bool{}
	for _, o := range after {
		for _, e := range o.ends {
			ended[e.pod.Metadata.UID] = true
		}
	}
	for i := range start {
		p := &start[i]
		if named(p.Metadata.Project, p.Spec.Service) && !p.Metadata.Deleting && p.Spec.Host != "" && !ended[p.Metadata.UID] {
			out = append(out, api.PodChange{Op: api.PodKeep, Project: p.Metadata.Project, Service: p.Spec.Service, Pod: p.Metadata.Name, Host: p.Spec.Host})
		}
	}
	slices.SortStableFunc(out, func(a, b api.PodChange) int {
		return compareServices(serviceKey{a.Project, a.Service}, serviceKey{b.Project, b.Service})
	})
	return out
}

package control

import (
	"cmp"
	"slices"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/master/schedule"
)

// Plan gives the writes that bring the cluster nearer to what is wanted, in the order in which to
// carry them out; none when all is as wanted or must be waited for. newUID gives a fresh uid with
// each call.
func Plan(s Snapshot, newUID func() api.UID) []Action {
	return NewView(s).Plan(newUID)
}

// Plan is Plan on a View.
func (v *View) Plan(newUID func() api.UID) []Action {
	p := &planner{View: v, newUID: newUID}
	fleets := byPriority(p.fleets())
	p.planned = fleets
	p.removeProjects()
	p.removeServices()
	p.removeOrphans()
	p.aliases()
	for _, f := range fleets {
		p.retire(f)
		p.changeLive(f)
	}
	p.assign(fleets)
	for _, f := range fleets {
		p.replaceLost(f)
		p.create(f)
		p.removeGone(f)
	}
	p.removeHosts()
	p.sort()
	return p.acts
}

// planner gathers the actions of one plan.
type planner struct {
	*View
	newUID  func() api.UID
	acts    []Action
	planned []*fleet
	retired []*api.Pod        // marked for deletion in this plan, before cluster was built
	cluster *schedule.Cluster // built when the first pod is placed
	names   *names            // built when the first pod is made
}

func (p *planner) act(op Op, object api.Resource, reason api.Reason, why string) {
	p.acts = append(p.acts, Action{Op: op, Object: object, Reason: reason, Why: why})
}

// end asks for a pod's deletion: at once when it never had a host, otherwise by the mark that its
// host acts on.
func (p *planner) end(pod *api.Pod, reason api.Reason, why string) {
	if pod.Spec.Host == "" {
		p.act(Delete, pod, reason, why)
		return
	}
	p.mark(pod, reason, why)
}

func (p *planner) mark(pod *api.Pod, reason api.Reason, why string) {
	marked := *pod
	marked.Metadata.Deleting, marked.Spec.Ending = true, reason
	p.act(Put, &marked, reason, why)
	if p.cluster != nil {
		p.cluster.Retire(pod)
	} else {
		p.retired = append(p.retired, pod)
	}
}

// sort orders the actions: first what ends, then what is removed, then what is new, so that a
// plan that is cut short never leaves more than there should be.
func (p *planner) sort() {
	kinds := api.Kinds()
	slices.SortStableFunc(p.acts, func(a, b Action) int {
		ka, kb := a.Object.Head().Key(), b.Object.Head().Key()
		return cmp.Or(
			cmp.Compare(a.step(), b.step()),
			cmp.Compare(slices.Index(kinds, ka.Kind), slices.Index(kinds, kb.Kind)),
			cmp.Compare(ka.Project, kb.Project),
			cmp.Compare(ka.Name, kb.Name))
	})
}

func (a Action) step() int {
	switch {
	case a.Op != Delete && a.Object.Head().Metadata.Deleting:
		return 0
	case a.Op == Delete:
		return 1
	}
	return 2
}

// sortedServices gives every service in the order of project and name.
func (v *View) sortedServices() []*api.Service {
	out := make([]*api.Service, len(v.Services))
	for i := range v.Services {
		out[i] = &v.Services[i]
	}
	slices.SortFunc(out, func(a, b *api.Service) int { return byName(&a.Metadata, &b.Metadata) })
	return out
}

func byName(a, b *api.Metadata) int {
	return cmp.Or(strings.Compare(string(a.Project), string(b.Project)), strings.Compare(string(a.Name), string(b.Name)))
}

package control

import (
	"cmp"
	"fmt"
	"slices"

	"gearmesh.dev/api"
)

// outcome is what becomes of the pods of one service.
type outcome struct {
	makes, places, ends []fate
}

// fate is a pod that is made, placed or ended, and why.
type fate struct {
	pod    *api.Pod
	reason api.Reason
	why    string
}

// outcomes sorts actions on pods by service. A pod that is made and ended again is neither.
func outcomes(start []api.Pod, actions []Action) map[serviceKey]*outcome {
	there := make(map[api.UID]*api.Pod, len(start))
	for i := range start {
		there[start[i].Metadata.UID] = &start[i]
	}
	out := map[serviceKey]*outcome{}
	for _, a := range actions {
		p, ok := a.Object.(*api.Pod)
		if !ok {
			continue
		}
		k := serviceKey{p.Metadata.Project, p.Spec.Service}
		if out[k] == nil {
			out[k] = &outcome{}
		}
		out[k].note(there[p.Metadata.UID], fate{p, a.Reason, a.Why}, a.Op)
	}
	return out
}

// note takes in one action; was is the pod as it was at first, nil for a new one.
func (o *outcome) note(was *api.Pod, f fate, op Op) {
	same := func(g fate) bool { return g.pod.Metadata.UID == f.pod.Metadata.UID }
	ends := op == Delete || f.pod.Metadata.Deleting
	switch {
	case ends && was == nil:
		o.makes = slices.DeleteFunc(o.makes, same)
	case ends && (was.Metadata.Deleting || slices.ContainsFunc(o.ends, same)):
	case ends:
		o.places = slices.DeleteFunc(o.places, same)
		o.ends = append(o.ends, fate{was, f.reason, f.why})
	case was == nil:
		o.makes = append(slices.DeleteFunc(o.makes, same), f)
	case was.Spec.Host == "" && f.pod.Spec.Host != "":
		o.places = append(slices.DeleteFunc(o.places, same), f)
	}
}

// signature tells two outcomes apart, whatever the new pods are called.
func (o *outcome) signature() []string {
	if o == nil {
		return nil
	}
	var out []string
	for _, f := range o.makes {
		out = append(out, fmt.Sprint("make ", f.pod.Spec.Host, f.pod.Spec.Hash, f.pod.Spec.Cause))
	}
	for _, f := range o.places {
		out = append(out, fmt.Sprint("place ", f.pod.Metadata.UID, f.pod.Spec.Host))
	}
	for _, f := range o.ends {
		out = append(out, fmt.Sprint("end ", f.pod.Metadata.UID, f.reason))
	}
	slices.Sort(out)
	return out
}

// changes puts new pods beside the ones whose place they take.
func (o *outcome) changes(k serviceKey) []api.PodChange {
	makes := slices.Clone(o.makes)
	var out []api.PodChange
	for _, e := range o.ends {
		c := api.PodChange{Op: api.PodEnd, Project: k.project, Service: k.name, Pod: e.pod.Metadata.Name, Host: e.pod.Spec.Host, Reason: e.reason, Message: e.why}
		if i := slices.IndexFunc(makes, e.leadsTo); i >= 0 && e.reason != api.ReasonScaleDown {
			c.Op = api.PodReplace
			arrive(&c, makes[i].pod)
			makes = slices.Delete(makes, i, i+1)
		}
		out = append(out, c)
	}
	for _, f := range o.places {
		c := api.PodChange{Op: api.PodPlace, Project: k.project, Service: k.name, Pod: f.pod.Metadata.Name, Reason: f.reason}
		arrive(&c, f.pod)
		out = append(out, c)
	}
	for _, f := range makes {
		c := api.PodChange{Op: api.PodMake, Project: k.project, Service: k.name, Reason: f.pod.Spec.Cause}
		if f.pod.Spec.Ordinal != nil {
			c.Pod = f.pod.Metadata.Name
		}
		arrive(&c, f.pod)
		out = append(out, c)
	}
	return out
}

// leadsTo tells whether a new pod takes the place of one that ends: that of its name, where names last.
func (e fate) leadsTo(m fate) bool {
	if m.pod.Spec.Ordinal != nil && e.pod.Spec.Ordinal != nil {
		return m.pod.Metadata.Name == e.pod.HeldName()
	}
	return m.pod.Spec.Cause == e.reason || e.reason == api.ReasonReplaced
}

// arrive fills in where a new pod goes.
func arrive(c *api.PodChange, pod *api.Pod) {
	c.NewHost, c.Decision = pod.Spec.Host, pod.Spec.Placement
	_, c.Message = placementOf(pod)
}

func compareServices(a, b serviceKey) int {
	return cmp.Or(cmp.Compare(a.project, b.project), cmp.Compare(a.name, b.name))
}

package master

import (
	"context"
	"fmt"
	"slices"

	"gearmesh.dev/api"
)

// What a project allows its services: a policy, and a priority.

// allowed refuses a service that goes beyond what its project allows, and a project that would allow less than its services have.
func (b *batch) allowed(ctx context.Context, was, r api.Resource) error {
	switch v := r.(type) {
	case *api.Project:
		if old, ok := was.(*api.Project); ok && stricter(old, v) {
			return b.obeyed(ctx, v)
		}
	case *api.Service:
		p, err := b.load(ctx, projectOf(v.Key()))
		if err != nil {
			return err
		}
		var faults []api.Fault
		for _, e := range excesses(p.(*api.Project), v) {
			faults = append(faults, api.Fault{Field: e.Field, Message: fmt.Sprintf("%s (%s of %s)", e.Message, e.setting, p.Head().Key())})
		}
		if len(faults) > 0 {
			return api.Invalid(v.Key().String(), faults)
		}
	}
	return nil
}

// excess is what a service has beyond what a setting of its project allows.
type excess struct {
	api.Fault
	setting string
}

func excesses(p *api.Project, s *api.Service) []excess {
	var out []excess
	for _, f := range p.Spec.Policy.Refuses("spec", &s.Spec.PodTemplate) {
		out = append(out, excess{f, "spec.policy"})
	}
	if n := s.Spec.Placement.Priority; n > p.Spec.MaxPriority {
		out = append(out, excess{api.Fault{Field: "spec.placement.priority", Message: fmt.Sprintf("is %d; at most %d is allowed here", n, p.Spec.MaxPriority)}, "spec.maxPriority"})
	}
	return out
}

// stricter tells whether a project allows less than before.
func stricter(was, is *api.Project) bool {
	return !is.Spec.Policy.Covers(was.Spec.Policy) || was.Spec.MaxPriority > is.Spec.MaxPriority
}

// obeyed refuses a project whose services have more than it would allow. The transaction holds that none of them has been written by
// another master meanwhile; one that is written afterwards holds that the project is as it was when that was checked.
func (b *batch) obeyed(ctx context.Context, p *api.Project) error {
	revision, err := b.m.revisionNow(ctx)
	if err != nil {
		return err
	}
	if err := b.m.cache.wait(ctx, revision); err != nil {
		return err
	}
	services, at := b.m.cache.listAt(api.KindService, p.Metadata.Name)
	b.lists[api.Key{Kind: api.KindService, Project: p.Metadata.Name}] = at
	if faults := disobedience(p, slices.DeleteFunc(services, b.changes)); len(faults) > 0 {
		return api.Invalid(p.Key().String(), faults)
	}
	return nil
}

// changes tells whether a resource becomes another by the batch: then that is checked by itself.
func (b *batch) changes(r api.Resource) bool {
	return slices.ContainsFunc(b.wishes, func(w *wish) bool { return w.key() == r.Head().Key() && w.result != api.ResultUnchanged })
}

// disobedience gives what services of a project have that it would not allow.
func disobedience(p *api.Project, services []api.Resource) []api.Fault {
	var out []api.Fault
	for _, r := range services {
		s, ok := r.(*api.Service)
		if !ok || s.Metadata.Deleting {
			continue
		}
		for _, e := range excesses(p, s) {
			out = append(out, api.Fault{Field: e.setting, Message: fmt.Sprintf("%s, %s: %s; change the service first", s.Key(), e.Field, e.Message)})
		}
	}
	return out
}

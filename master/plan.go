package master

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/master/control"
)

// Limits of the plan of an apply.
const (
	maxRounds  = 2000             // plans of the controllers, each of them up to a pod of every service
	maxForesee = 10 * time.Second // for each of the two forecasts
)

// plan answers POST /v1/plan.
func (m *Master) plan(c *call) error {
	wishes, err := m.readWishes(c.body)
	if err != nil {
		return err
	}
	term := m.term()
	if term == 0 {
		return notLeading()
	}
	select {
	case m.foresees <- struct{}{}:
		defer func() { <-m.foresees }()
	case <-c.Context().Done():
		return c.Context().Err()
	}
	b, err := m.freshBatch(c.Context())
	if err != nil {
		return err
	}
	if err := b.take(c.Context(), wishes...); err != nil {
		return err
	}
	s, _, revision := m.cache.snapshot(m.pulses)
	s.Now, s.Term, s.Health = time.Now(), term, m.pulses.health(s.Hosts, time.Now())
	out := api.ApplyPlan{Revision: revision}
	if out.Resources, err = b.fields(); err != nil {
		return err
	}
	if !out.Empty() {
		forecast(c.Context(), b.changed(), s, &out)
		if out.Units, err = b.units(); err != nil {
			return err
		}
	}
	return c.answer(http.StatusOK, out)
}

// fields says what differs, resource by resource.
func (b *batch) fields() ([]api.ResourceChange, error) {
	var out []api.ResourceChange
	for _, w := range b.wishes {
		c := w.change()
		if w.result == api.ResultConfigured {
			var err error
			if c.Fields, err = fieldChanges(w.old, w.next); err != nil {
				return nil, err
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// changed gives what would be stored.
func (b *batch) changed() map[api.Key]api.Resource {
	out := map[api.Key]api.Resource{}
	for _, w := range b.wishes {
		if w.result != api.ResultUnchanged {
			out[w.key()] = w.next
		}
	}
	return out
}

// forecast lets the controllers work on the cluster as it is and as it would be, and compares.
func forecast(ctx context.Context, changed map[api.Key]api.Resource, s control.Snapshot, out *api.ApplyPlan) {
	without := control.Foresee(s, pki.NewUID, patience(ctx))
	with := control.Foresee(overlay(s, changed), pki.NewUID, patience(ctx))
	named := func(project, service api.Name) bool {
		return changed[api.Key{Kind: api.KindService, Project: project, Name: service}] != nil
	}
	out.Pods = control.PodChanges(s.Pods, without, with, named)
	out.Rules = control.RuleChanges(s.Pods, without, with)
	out.Cut = !with.Rest
}

// patience ends a forecast that takes too long.
func patience(ctx context.Context) func() bool {
	rounds, end := 0, time.Now().Add(maxForesee)
	return func() bool {
		rounds++
		return rounds <= maxRounds && time.Now().Before(end) && ctx.Err() == nil
	}
}

// overlay gives a snapshot with the changes in place.
func overlay(s control.Snapshot, changed map[api.Key]api.Resource) control.Snapshot {
	s.Projects, s.Services, s.Aliases = slices.Clone(s.Projects), slices.Clone(s.Services), slices.Clone(s.Aliases)
	s.Hosts, s.Secrets = slices.Clone(s.Hosts), slices.Clone(s.Secrets)
	for _, r := range changed {
		switch r := r.(type) {
		case *api.Project:
			lay(&s.Projects, *r, func(o *api.Project) bool { return o.Key() == r.Key() })
		case *api.Service:
			lay(&s.Services, *r, func(o *api.Service) bool { return o.Key() == r.Key() })
		case *api.Alias:
			lay(&s.Aliases, *r, func(o *api.Alias) bool { return o.Key() == r.Key() })
		case *api.Secret:
			lay(&s.Secrets, *r, func(o *api.Secret) bool { return o.Key() == r.Key() })
		case *api.Host:
			layHost(s.Hosts, *r)
		}
	}
	return s
}

// layHost changes a host and leaves what it has reported.
func layHost(hosts []api.Host, h api.Host) {
	for i := range hosts {
		if hosts[i].Metadata.Name == h.Metadata.Name {
			h.Status = hosts[i].Status
			hosts[i] = h
		}
	}
}

// lay puts v in the place of the element that it is, or at the end.
func lay[T any](list *[]T, v T, is func(*T) bool) {
	for i := range *list {
		if is(&(*list)[i]) {
			(*list)[i] = v
			return
		}
	}
	*list = append(*list, v)
}

// units gives the unit files that would differ, of the services whose pods would.
func (b *batch) units() ([]api.UnitChange, error) {
	if b.m.cfg.Units == nil {
		return nil, nil
	}
	var out []api.UnitChange
	for _, w := range b.wishes {
		now, ok := w.next.(*api.Service)
		if !ok || w.result == api.ResultUnchanged {
			continue
		}
		was, _ := w.old.(*api.Service)
		list, err := b.m.cfg.Units(examplePod(was), examplePod(now))
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			c.Project, c.Service = now.Metadata.Project, now.Metadata.Name
			out = append(out, c)
		}
	}
	return out, nil
}

// examplePod gives a pod of a service, called SERVICE-pod.
func examplePod(s *api.Service) *api.Pod {
	if s == nil {
		return nil
	}
	const suffix = "-pod"
	name := string(s.Metadata.Name)
	p := &api.Pod{Header: api.Header{Kind: api.KindPod, Version: api.Version}}
	p.Metadata = api.Metadata{Project: s.Metadata.Project, UID: "aaaaaaaaaaaaaaaa",
		Name: api.Name(strings.TrimRight(name[:min(len(name), api.MaxNameLen-len(suffix))], "-") + suffix)}
	p.Spec = api.PodSpec{Service: s.Metadata.Name, Template: s.Spec.PodTemplate}
	return p
}

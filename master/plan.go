package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/master/control"
	"gearmesh.dev/master/store"
)

// Limits of the plan of an apply.
const (
	maxPlanned  = 1000             // resources
	maxPlanBody = 8 << 20          // bytes
	maxRounds   = 2000             // plans of the controllers, each of them up to a pod of every service
	maxForesee  = 10 * time.Second // for each of the two forecasts
)

func (m *Master) planRoutes() []route {
	return []route{{method: "POST", path: "/v1/plan", who: forPeople, audit: true, summary: "What an apply of resources would change; stores nothing",
		body: reflect.TypeFor[planBody](), limit: maxPlanBody, answer: reflect.TypeFor[api.ApplyPlan](), handle: m.plan}}
}

// planBody is api.ApplyRequest for OpenAPI, where a resource's shape depends on its kind.
type planBody struct {
	Resources []map[string]any `json:"resources" doc:"As they would be applied; each has its kind" minItems:"1" maxItems:"1000"`
}

// plan answers POST /v1/plan.
func (m *Master) plan(c *call) error {
	list, err := readResources(c.body)
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
	d := dryRun{m: m, next: map[api.Key]api.Resource{}}
	for _, r := range list {
		if err := d.put(c.Context(), r); err != nil {
			return err
		}
	}
	out := api.ApplyPlan{Resources: d.changes}
	s, parts := m.cache.snapshot(m.pulses)
	s.Now, s.Term, s.Health = time.Now(), term, m.pulses.health(s.Hosts, time.Now())
	out.Revision = parts.revision
	if !out.Empty() {
		d.foresee(c.Context(), s, &out)
		if out.Units, err = d.units(); err != nil {
			return err
		}
	}
	return c.answer(http.StatusOK, out)
}

// readResources reads the body of a plan as strictly as that of a write.
func readResources(body []byte) ([]api.Resource, error) {
	var in struct {
		Resources []json.RawMessage `json:"resources"`
	}
	if err := api.Decode(body, &in); err != nil {
		return nil, err
	}
	if n := len(in.Resources); n == 0 || n > maxPlanned {
		return nil, api.Invalid("the plan", []api.Fault{{Field: "resources", Message: fmt.Sprintf("has %d; 1 to %d are allowed", n, maxPlanned)}})
	}
	var out []api.Resource
	seen := map[api.Key]bool{}
	for i, text := range in.Resources {
		r, err := readResource(text)
		if err == nil && seen[r.Head().Key()] {
			err = api.Invalid("the plan", []api.Fault{{Field: "metadata.name", Message: r.Head().Key().String() + " is given twice"}})
		}
		if err != nil {
			return nil, within(fmt.Sprintf("resources[%d]", i), err)
		}
		seen[r.Head().Key()] = true
		out = append(out, r)
	}
	order := api.Kinds()
	slices.SortStableFunc(out, func(a, b api.Resource) int {
		return slices.Index(order, a.Head().Kind) - slices.Index(order, b.Head().Kind)
	})
	return out, nil
}

func readResource(text []byte) (api.Resource, error) {
	var head struct {
		Kind api.Kind `json:"kind"`
	}
	_ = json.Unmarshal(text, &head) // what is wrong, api.Decode says
	r := api.New(head.Kind)
	if r == nil || head.Kind == api.KindPod {
		return nil, api.Invalid("the plan", []api.Fault{{Field: "kind", Message: fmt.Sprintf("%.40q cannot be applied; write one of %v but Pod", head.Kind, api.Kinds())}})
	}
	if err := api.Decode(text, r); err != nil {
		return nil, err
	}
	return r, complete(r, nil)
}

// within puts the faults of an error below a field.
func within(at string, err error) error {
	var e *api.Error
	if !errors.As(err, &e) {
		return err
	}
	out := *e
	out.Faults = slices.Clone(e.Faults)
	for i := range out.Faults {
		out.Faults[i].Field = at + "." + out.Faults[i].Field
	}
	if len(out.Faults) == 0 {
		out.Detail = at + ": " + out.Detail
	}
	return &out
}

// dryRun takes in resources as writes would, and stores nothing.
type dryRun struct {
	m        *Master
	next     map[api.Key]api.Resource // what would be stored, of what would change
	changes  []api.ResourceChange
	services []unitsOf
}

// unitsOf is a service whose pods would have another template.
type unitsOf struct{ old, new *api.Service }

// load reads a resource as it would be by now.
func (d *dryRun) load(ctx context.Context, key api.Key) (api.Resource, error) {
	if r, ok := d.next[key]; ok {
		return r, nil
	}
	return d.m.load(ctx, key)
}

// put does what replace does, but for the write.
func (d *dryRun) put(ctx context.Context, r api.Resource) error {
	key := r.Head().Key()
	if _, err := d.m.seal(r); err != nil { // leaves hashes of a secret's values
		return err
	}
	old, err := d.load(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return d.create(ctx, r)
	}
	if err != nil {
		return err
	}
	next, changed, err := successor(old, r)
	if err != nil {
		return err
	}
	change := api.ResourceChange{Kind: key.Kind, Project: key.Project, Name: key.Name, Result: api.ResultUnchanged, Revision: old.Head().Metadata.Revision}
	if changed {
		if _, err := d.m.policyGuard(ctx, d.load, next); err != nil {
			return err
		}
		change.Result = api.ResultConfigured
		if change.Fields, err = fieldChanges(old, next); err != nil {
			return err
		}
		d.note(old, next)
	}
	d.changes = append(d.changes, change)
	return nil
}

func (d *dryRun) create(ctx context.Context, r api.Resource) error {
	h := r.Head()
	if err := mayCreate(h); err != nil {
		return err
	}
	next := newborn(r)
	if _, err := d.m.projectGuard(ctx, d.load, h); err != nil {
		return err
	}
	if _, err := d.m.policyGuard(ctx, d.load, next); err != nil {
		return err
	}
	d.note(nil, next)
	d.changes = append(d.changes, api.ResourceChange{Kind: h.Kind, Project: h.Metadata.Project, Name: h.Metadata.Name, Result: api.ResultCreated})
	return nil
}

// note remembers what would be stored.
func (d *dryRun) note(old, next api.Resource) {
	d.next[next.Head().Key()] = next
	s, ok := next.(*api.Service)
	if !ok {
		return
	}
	u := unitsOf{new: s}
	if o, ok := old.(*api.Service); ok {
		u.old = o
	}
	d.services = append(d.services, u)
}

// foresee lets the controllers work on the cluster as it is and as it would be, and compares.
func (d *dryRun) foresee(ctx context.Context, s control.Snapshot, out *api.ApplyPlan) {
	without := control.Foresee(s, pki.NewUID, patience(ctx))
	with := control.Foresee(d.overlay(s), pki.NewUID, patience(ctx))
	named := func(project, service api.Name) bool {
		return d.next[api.Key{Kind: api.KindService, Project: project, Name: service}] != nil
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
func (d *dryRun) overlay(s control.Snapshot) control.Snapshot {
	s.Projects, s.Services, s.Aliases = slices.Clone(s.Projects), slices.Clone(s.Services), slices.Clone(s.Aliases)
	s.Hosts, s.Secrets = slices.Clone(s.Hosts), slices.Clone(s.Secrets)
	for _, r := range d.next {
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
func (d *dryRun) units() ([]api.UnitChange, error) {
	if d.m.cfg.Units == nil {
		return nil, nil
	}
	var out []api.UnitChange
	for _, u := range d.services {
		list, err := d.m.cfg.Units(examplePod(u.old), examplePod(u.new))
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			c.Project, c.Service = u.new.Metadata.Project, u.new.Metadata.Name
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

package master

import (
	"context"
	"fmt"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
)

// policyGuard refuses a service that asks for more than its project's policy allows, and a policy
// that allows less than the project's services have. The ops make a write fail when the project
// changes meanwhile.
func (m *Master) policyGuard(ctx context.Context, load loader, r api.Resource) ([]store.Op, error) {
	switch v := r.(type) {
	case *api.Project:
		if faults := policyFaults(v, m.cache.list(api.KindService, v.Metadata.Name)); len(faults) > 0 {
			return nil, api.Invalid(v.Key().String(), faults)
		}
	case *api.Service:
		key := api.Key{Kind: api.KindProject, Name: v.Metadata.Project}
		p, err := load(ctx, key)
		if err != nil {
			return nil, err
		}
		policy := p.(*api.Project).Spec.Policy
		if faults := policy.Refuses("spec", &v.Spec.PodTemplate); len(faults) > 0 {
			for i := range faults {
				faults[i].Message += fmt.Sprintf(" (spec.policy of %s)", key)
			}
			return nil, api.Invalid(v.Key().String(), faults)
		}
		return []store.Op{{Kind: store.Check, Key: storeKey(key), If: p.Head().Metadata.Revision}}, nil
	}
	return nil, nil
}

// policyFaults gives what services of a project have that its policy would not allow.
func policyFaults(p *api.Project, services []api.Resource) []api.Fault {
	var out []api.Fault
	for _, r := range services {
		s, ok := r.(*api.Service)
		if !ok || s.Metadata.Deleting {
			continue
		}
		for _, f := range p.Spec.Policy.Refuses("spec", &s.Spec.PodTemplate) {
			out = append(out, api.Fault{Field: "spec.policy", Message: fmt.Sprintf("%s, %s: %s; change the service first", s.Key(), f.Field, f.Message)})
		}
	}
	return out
}

package control_test

import (
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/master/control"
)

// TestSameEntry: what the directory shows of a resource is a change, and nothing else is.
func TestSameEntry(t *testing.T) {
	service := func(change func(*api.Service)) *api.Service {
		s := &api.Service{}
		s.Spec.Ports = []api.Port{{Name: "http", Port: 80}}
		change(s)
		return s
	}
	host := func(labels map[string]string) *api.Host {
		return &api.Host{Header: api.Header{Metadata: api.Metadata{Name: "h1", Labels: labels}}}
	}
	plain := service(func(*api.Service) {})
	for name, test := range map[string]struct {
		old, now api.Resource
		same     bool
	}{
		"labels":     {plain, service(func(s *api.Service) { s.Metadata.Labels = map[string]string{"a": "b"} }), true},
		"ports":      {plain, service(func(s *api.Service) { s.Spec.Ports[0].Port = 81 }), false},
		"new":        {nil, plain, false},
		"gone":       {plain, nil, false},
		"host label": {host(nil), host(map[string]string{"a": "b"}), true},
		"zone":       {host(nil), host(map[string]string{api.ZoneLabel: "z1"}), false},
		"router":     {host(nil), host(map[string]string{api.RouterLabel: "true"}), false},
		"project":    {&api.Project{}, &api.Project{Spec: api.ProjectSpec{LinkServices: true}}, false},
		"policy":     {&api.Project{}, &api.Project{Spec: api.ProjectSpec{Policy: "baseline"}}, true},
		"alias":      {&api.Alias{}, &api.Alias{}, false},
		"secret":     {nil, &api.Secret{}, true},
	} {
		if got := control.SameEntry(test.old, test.now); got != test.same {
			t.Errorf("%s: %t", name, got)
		}
	}
}

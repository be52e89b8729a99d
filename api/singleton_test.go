package api_test

import (
	"strings"
	"testing"

	"gearmesh.dev/api"
)

func singleton(change func(*api.ServiceSpec)) *api.Service {
	s := api.New(api.KindService).(*api.Service)
	s.Metadata.Name, s.Metadata.Project = "mail", "shop"
	s.Spec.Singleton = true
	s.Spec.Containers = []api.Container{{Name: "main", Image: "mail:1"}}
	change(&s.Spec)
	s.Default()
	return s
}

func TestSingletonDefaults(t *testing.T) {
	s := singleton(func(s *api.ServiceSpec) {
		s.InitContainers = []api.Container{{Name: "schema", Image: "mail:1", StopGrace: 1e9}}
	})
	if faults := s.Validate(); len(faults) > 0 {
		t.Fatal(faults)
	}
	if s.Spec.Containers[0].StopGrace.Std() != api.SingletonGrace || s.Spec.InitContainers[0].StopGrace != 1e9 || *s.Spec.Replicas != 1 {
		t.Errorf("%+v", s.Spec)
	}
}

func TestSingletonsAreRefused(t *testing.T) {
	two := 2
	for want, change := range map[string]func(*api.ServiceSpec){
		"write 1 or leave it out": func(s *api.ServiceSpec) { s.Replicas = &two },
		"one on each host":        func(s *api.ServiceSpec) { s.Global = true },
		"never runs twice anyway": func(s *api.ServiceSpec) { s.Volumes = []api.Volume{{Name: "data"}} },
		"may take 4s to end":      func(s *api.ServiceSpec) { s.Containers[0].StopGrace = 5e9 },
		"cannot have programs": func(s *api.ServiceSpec) {
			s.Containers[0] = api.Container{Name: "main", Native: &api.Native{Command: []string{"/bin/x"}}}
		},
		`the name "lapsed" is taken`: func(s *api.ServiceSpec) { s.Containers[0].Name = "lapsed" },
		"spec.initContainers[0].stopGrace": func(s *api.ServiceSpec) {
			s.InitContainers = []api.Container{{Name: "schema", Image: "mail:1", StopGrace: 60e9}}
		},
	} {
		var all []string
		for _, f := range singleton(change).Validate() {
			all = append(all, f.Field+" "+f.Message)
		}
		if !strings.Contains(strings.Join(all, "\n"), want) {
			t.Errorf("want %q, got %q", want, all)
		}
	}
}

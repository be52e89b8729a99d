package api_test

import (
	"strings"
	"testing"

	"gearmesh.dev/api"
)

func withIdentity(change func(*api.Service)) *api.Service {
	s := api.New(api.KindService).(*api.Service)
	s.Metadata.Name, s.Metadata.Project = "db", "shop"
	s.Spec.Identity = api.IdentityOrdered
	s.Spec.Containers = []api.Container{{Name: "main", Image: "db:1"}}
	change(s)
	s.Default()
	return s
}

func dataVolume(s *api.Service) { s.Spec.Volumes = []api.Volume{{Name: "data"}} }

// TestWhoHasALease: pods with an identity that could be started elsewhere.
func TestWhoHasALease(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*api.Service)
		leased bool
		grace  api.Duration
	}{
		"no volumes":     {func(*api.Service) {}, true, api.Duration(api.SingletonGrace)},
		"in memory":      {func(s *api.Service) { s.Spec.Volumes = []api.Volume{{Name: "data", Tmpfs: true}} }, true, api.Duration(api.SingletonGrace)},
		"volumes":        {dataVolume, false, api.DefaultStopGrace},
		"no identity":    {func(s *api.Service) { s.Spec.Identity = "" }, false, api.DefaultStopGrace},
		"the other kind": {func(s *api.Service) { s.Spec.Identity = api.IdentityParallel }, true, api.Duration(api.SingletonGrace)},
	} {
		s := withIdentity(c.change)
		if s.Spec.Leased() != c.leased || s.Spec.Containers[0].StopGrace != c.grace || len(s.Validate()) > 0 {
			t.Errorf("%s: leased %v, grace %s, %v", name, s.Spec.Leased(), s.Spec.Containers[0].StopGrace, s.Validate())
		}
	}
}

func TestIdentitiesAreRefused(t *testing.T) {
	for want, change := range map[string]func(*api.Service){
		`spec.identity "sorted" is not known; write ordered or parallel`: func(s *api.Service) { s.Spec.Identity = "sorted" },
		"one pod to each host":                       func(s *api.Service) { s.Spec.Global = true },
		"take spec.singleton away":                   func(s *api.Service) { s.Spec.Singleton = true },
		"metadata.name is 59 characters long":        func(s *api.Service) { s.Metadata.Name = api.Name(strings.Repeat("a", 59)) },
		"a container of a pod with identity":         func(s *api.Service) { s.Spec.Containers[0].StopGrace = 5e9 },
		"a pod with identity and without volumes on": func(s *api.Service) { s.Spec.Containers[0].Name = "lapsed" },
		"cannot have programs": func(s *api.Service) {
			s.Spec.Containers[0] = api.Container{Name: "main", Native: &api.Native{Command: []string{"/bin/x"}}}
		},
	} {
		var all []string
		for _, f := range withIdentity(change).Validate() {
			all = append(all, f.Field+" "+f.Message)
		}
		if !strings.Contains(strings.Join(all, "\n"), want) {
			t.Errorf("want %q, got %q", want, all)
		}
	}
	s := withIdentity(dataVolume)
	s.Spec.Containers[0].StopGrace, s.Metadata.Name = 60e9, api.Name(strings.Repeat("a", 58))
	if faults := s.Validate(); len(faults) > 0 {
		t.Errorf("with volumes it may take its time: %v", faults)
	}
}

func TestHeldNames(t *testing.T) {
	p, n := api.Pod{}, 3
	p.Metadata.Name, p.Spec.Service = "db-3-k3v7qxw2", "db"
	if p.HeldName() != "db-3-k3v7qxw2" {
		t.Error(p.HeldName())
	}
	if p.Spec.Ordinal = &n; p.HeldName() != "db-3" {
		t.Error(p.HeldName())
	}
	for _, bad := range []int{-1, api.MaxIdentities} {
		p.Spec.Ordinal = &bad
		if faults := p.Validate(); !mentions(faults, "spec.ordinal") {
			t.Errorf("%d: %v", bad, faults)
		}
	}
}

func mentions(faults []api.Fault, field string) bool {
	for _, f := range faults {
		if f.Field == field {
			return true
		}
	}
	return false
}

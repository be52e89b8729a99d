package schedule_test

import (
	"slices"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/master/schedule"
)

// service makes one of project p.
func service(name api.Name, p api.Placement) api.Service {
	s := api.Service{Spec: api.ServiceSpec{Placement: p}}
	s.Metadata.Project, s.Metadata.Name = "p", name
	return s
}

func cpus(n api.CPU) api.Resources { return api.Resources{CPU: n} }

// TestBetter asks for a better host than h1 for a pod of web.
func TestBetter(t *testing.T) {
	times := func(n int, service, on api.Name, need api.Resources) (out []api.Pod) {
		for range n {
			out = append(out, pod(service, on, need))
		}
		return out
	}
	tests := map[string]struct {
		place  api.Placement
		need   api.Resources
		others []api.Service
		pods   []api.Pod // beside the one that may move
		to     api.Name
	}{
		"as good":                    {pods: times(1, "web", "h2", cpus(0))},
		"one more than the other":    {pods: times(1, "web", "h1", cpus(0)), to: "h2"},
		"as many":                    {pods: append(times(1, "web", "h1", cpus(0)), times(1, "web", "h2", cpus(0))...)},
		"a little less load":         {need: cpus(400), pods: times(1, "db", "h1", cpus(380))},
		"much less load":             {need: cpus(400), pods: times(1, "db", "h1", cpus(400)), to: "h2"},
		"no room":                    {need: cpus(400), pods: append(times(2, "web", "h1", cpus(400)), times(1, "db", "h2", cpus(3700))...)},
		"packed":                     {place: api.Placement{Pack: true}, need: cpus(400), pods: times(3, "web", "h1", cpus(400))},
		"pods, much fewer":           {pods: times(2, "db", "h1", cpus(0)), to: "h2"},
		"pods, hardly fewer":         {pods: append(times(22, "db", "h1", cpus(0)), times(20, "db", "h2", cpus(0))...)},
		"fewer pods, but more load":  {pods: append(times(2, "db", "h1", cpus(0)), times(1, "db", "h2", cpus(1000))...)},
		"preferred neighbour":        {place: api.Placement{Near: []api.Neighbour{{Service: "db", Prefer: true}}}, pods: times(1, "db", "h2", cpus(1000)), to: "h2"},
		"preferred, but must not":    {place: api.Placement{Near: []api.Neighbour{{Service: "db", Prefer: true}}, MaxPerHost: 1}, pods: append(times(1, "db", "h2", cpus(0)), times(1, "web", "h2", cpus(0))...)},
		"needed by another":          {others: []api.Service{service("db", api.Placement{Near: []api.Neighbour{{Service: "web"}}})}, pods: times(3, "db", "h1", cpus(0))},
		"wanted by another":          {others: []api.Service{service("db", api.Placement{Near: []api.Neighbour{{Service: "web", Prefer: true}}})}, pods: times(3, "db", "h1", cpus(0))},
		"not wanted by another":      {others: []api.Service{service("db", api.Placement{Apart: []api.Neighbour{{Service: "web", Prefer: true}}})}, pods: times(1, "db", "h1", cpus(0)), to: "h2"},
		"followed by who wants it":   {place: api.Placement{Apart: []api.Neighbour{{Service: "db", Prefer: true}}}, others: []api.Service{service("db", api.Placement{Near: []api.Neighbour{{Service: "web", Prefer: true}}})}, pods: append(times(1, "db", "h1", cpus(0)), times(1, "x", "h2", cpus(0))...)},
		"bound of the spread":        {place: api.Placement{MaxSkew: 2, Near: []api.Neighbour{{Service: "db", Prefer: true}}}, pods: append(times(1, "web", "h2", cpus(0)), times(1, "db", "h2", cpus(0))...)},
		"without bound of a spread":  {place: api.Placement{Near: []api.Neighbour{{Service: "db", Prefer: true}}}, pods: append(times(1, "web", "h2", cpus(0)), times(1, "db", "h2", cpus(0))...), to: "h2"},
		"what it needs is elsewhere": {place: api.Placement{Near: []api.Neighbour{{Service: "db"}}}, pods: append(times(1, "db", "h1", cpus(0)), times(2, "web", "h1", cpus(0))...)},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			services := append(slices.Clone(tc.others), service("web", tc.place))
			pods := append(slices.Clone(tc.pods), pod("web", "h1", tc.need))
			c := schedule.NewCluster([]api.Host{host("h1", nil), host("h2", nil)}, pods, services)
			q := schedule.Request{Project: "p", Service: "web", Need: tc.need, Placement: tc.place}
			m, ok := c.Better(q, "h1")
			if m.To != tc.to || ok != (tc.to != "") || ok != (m.Why != "") {
				t.Fatalf("got %+v, want %q", m, tc.to)
			}
			if again, _ := c.Better(q, "h1"); again != m {
				t.Fatalf("asked again: %+v, at first %+v", again, m)
			}
			if !ok {
				return
			}
			c.Shift(q, "h1", m.To)
			if back, ok := c.Better(q, m.To); ok && back.To == "h1" {
				t.Fatalf("it would move back: %s", back.Why)
			}
		})
	}
}

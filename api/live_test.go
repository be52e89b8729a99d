package api_test

import (
	"slices"
	"testing"
	"time"

	"gearmesh.dev/api"
)

func TestLiveChange(t *testing.T) {
	from := api.PodTemplate{
		Containers: []api.Container{{Name: "main", Image: "web:1"}},
		Links: []api.Link{
			{Service: "db", LocalPort: 5432, Protocol: api.TCP, Retarget: api.Drain},
			{Service: "cache", LocalPort: 6379, Protocol: api.TCP, Retarget: api.Drain},
			{Service: "queue", LocalPort: 5672, Protocol: api.TCP, Retarget: api.Drain, WaitFor: api.WaitReady},
		},
	}
	for _, tt := range []struct {
		name   string
		change func(*api.PodTemplate)
		live   bool
	}{
		{"nothing", func(p *api.PodTemplate) {}, true},
		{"another service by the same name", func(p *api.PodTemplate) { p.Links[0].Name, p.Links[0].Service = "db", "db2" }, true},
		{"another project's by the same name", func(p *api.PodTemplate) { p.Links[0].Name, p.Links[0].Project = "db", "data" }, true},
		{"how connections find a backend", func(p *api.PodTemplate) { p.Links[1].Balance, p.Links[1].Nearest = api.BalanceSticky, true }, true},
		{"what becomes of open connections", func(p *api.PodTemplate) { p.Links[1].Retarget = api.Cut }, true},
		{"the port of the service", func(p *api.PodTemplate) { p.Links[0].Port = "sql" }, true},
		{"weight", func(p *api.PodTemplate) { p.Weight = 10 }, true},
		{"egress", func(p *api.PodTemplate) { p.Egress = &api.Egress{} }, true},

		{"another name, which variables and hosts file have", func(p *api.PodTemplate) { p.Links[0].Service = "db2" }, false},
		{"the local port", func(p *api.PodTemplate) { p.Links[0].LocalPort = 5433 }, false},
		{"the protocol", func(p *api.PodTemplate) { p.Links[0].Protocol = api.UDP }, false},
		{"two links share an address now", func(p *api.PodTemplate) { p.Links[0].Name, p.Links[1].Name = "x", "x" }, false},
		{"the order, and so the addresses", func(p *api.PodTemplate) { p.Links[0], p.Links[1] = p.Links[1], p.Links[0] }, false},
		{"a link more", func(p *api.PodTemplate) { p.Links = append(p.Links, api.Link{Service: "mail", LocalPort: 25}) }, false},
		{"a link less", func(p *api.PodTemplate) { p.Links = p.Links[:2] }, false},
		{"what carries it", func(p *api.PodTemplate) { p.Links[0].Mode = api.LinkBalanced }, false},
		{"a link that units wait for", func(p *api.PodTemplate) { p.Links[2].Name, p.Links[2].Service = "queue", "queue2" }, false},
		{"the image", func(p *api.PodTemplate) { p.Containers[0].Image = "web:2" }, false},
		{"a restart", func(p *api.PodTemplate) { p.Restarted = time.Unix(1, 0) }, false},
	} {
		to := from
		to.Links, to.Containers = slices.Clone(from.Links), slices.Clone(from.Containers)
		tt.change(&to)
		if got := api.LiveChange(from, to); got != tt.live {
			t.Errorf("%s: live is %t", tt.name, got)
		}
		if got := api.LiveChange(to, from); got != tt.live {
			t.Errorf("%s, and back: live is %t", tt.name, got)
		}
	}
}

package control_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/golden"
	"gearmesh.dev/master/control"
)

// forever lets a forecast go on to its end.
func forever() bool { return true }

// foretold writes down what a change of a scene would do.
func foretold(c *scene, change func(*scene)) string {
	without := control.Foresee(c.Snapshot, c.newUID, forever)
	after := &scene{Snapshot: c.Snapshot, uids: c.uids}
	after.Services = append([]api.Service(nil), c.Services...)
	after.Aliases = append([]api.Alias(nil), c.Aliases...)
	change(after)
	with := control.Foresee(after.Snapshot, after.newUID, forever)
	var b strings.Builder
	for _, p := range control.PodChanges(c.Pods, without, with, func(_, s api.Name) bool { return s == "web" }) {
		fmt.Fprintf(&b, "%s %s %s on %q → %q: %s %s\n", p.Op, p.Service, p.Pod, p.Host, p.NewHost, p.Reason, p.Message)
	}
	for _, r := range control.RuleChanges(c.Pods, without, with) {
		fmt.Fprintf(&b, "rules %q %s %s: %q → %q\n", r.Host, r.Pod, r.What, r.Old, r.New)
	}
	return b.String()
}

func TestForecast(t *testing.T) {
	web := func(change func(*api.Service)) func(*scene) {
		return func(c *scene) { change(&c.Services[0]) }
	}
	image := web(func(s *api.Service) {
		s.Spec.Containers = []api.Container{{Name: "main", Image: "web:2", Resources: api.Resources{CPU: 500}}}
	})
	replicas := func(n int) func(*scene) { return web(func(s *api.Service) { s.Spec.Replicas = &n }) }
	three := []func(*scene){service("web", 3), pod("web", "web-1", "h1"), pod("web", "web-2", "h2"), pod("web", "web-3", "h3")}
	onWeb := func(s *api.Service) { s.Spec.Links = []api.Link{{Service: "web", LocalPort: 80}} }
	tests := map[string]struct {
		have   []func(*scene)
		change func(*scene)
	}{
		"nothing":        {three, func(*scene) {}},
		"new image":      {three, image},
		"scale up":       {three, replicas(5)},
		"scale down":     {three, replicas(1)},
		"to nothing":     {three, replicas(0)},
		"more than fits": {three, replicas(14)},
		"links go elsewhere": {append(append([]func(*scene){}, three...), service("web2", 1), pod("web2", "web2-1", "h2"), service("api", 1, linked("web")), pod("api", "api-1", "h1")),
			func(c *scene) { linked("web2")(&c.Services[2]) }},
		"links follow":      {append(append([]func(*scene){}, three...), service("api", 1, onWeb), pod("api", "api-1", "h1")), image},
		"volumes":           {[]func(*scene){service("web", 1, volumes), pod("web", "web-1", "h2")}, image},
		"on a lost host":    {append(append([]func(*scene){}, three...), lose("h3")), image},
		"not ready today":   {[]func(*scene){service("web", 2), pod("web", "web-1", "h1", unready), pod("web", "web-2", "h2")}, image},
		"waits for a host":  {[]func(*scene){service("web", 1, func(s *api.Service) { s.Spec.Containers[0].Resources.CPU = 9000 }), pod("web", "web-1", "")}, web(func(s *api.Service) { s.Spec.Containers = []api.Container{{Name: "main", Image: "web:1"}} })},
		"an alias":          {three, web(func(s *api.Service) { s.Spec.Aliases = []api.Hostname{"shop.example.com"} })},
		"others go on":      {append(append([]func(*scene){}, three...), service("api", 2, aliases("api.example.com"))), replicas(4)},
		"place":             {three, web(func(s *api.Service) { s.Spec.Placement.Require = []api.Requirement{{Label: "zone", In: []string{"a"}}} })},
		"takes others room": {append(append([]func(*scene){}, three...), service("api", 1, func(s *api.Service) { s.Spec.Containers[0].Resources.CPU = 1500 })), replicas(9)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newScene(tt.have...)
			for i := range c.Pods {
				c.Pods[i].Metadata.UID = api.UID(c.Pods[i].Metadata.Name)
			}
			before, err := json.Marshal(c.Pods)
			if err != nil {
				t.Fatal(err)
			}
			golden.Equal(t, "forecast-"+strings.ReplaceAll(name, " ", "-")+".txt", []byte(foretold(c, tt.change)))
			if after, _ := json.Marshal(c.Pods); string(after) != string(before) {
				t.Error("the forecast has changed the snapshot")
			}
		})
	}
}

// A forecast that may not go on says so.
func TestForecastIsCut(t *testing.T) {
	c := newScene(service("web", 3))
	left := 1
	f := control.Foresee(c.Snapshot, c.newUID, func() bool { left--; return left >= 0 })
	if f.Rest || len(f.Actions) != 3 {
		t.Errorf("rest %t after %d actions", f.Rest, len(f.Actions))
	}
}

package control_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gearmesh.dev/api"
	"gearmesh.dev/master/control"
)

func silent(hosts ...api.Name) func(*scene) {
	return func(c *scene) {
		for _, h := range hosts {
			c.Health[h] = control.Health{}
		}
	}
}

func TestHostStatus(t *testing.T) {
	tests := map[string]struct {
		scene  *scene
		state  api.HostState
		reason api.Reason
		words  string // of the message
	}{
		"ready":           {newScene(), api.HostReady, "", ""},
		"lease ran out":   {newScene(silent("h1")), api.HostSuspect, api.ReasonHostSilent, "for 1s, though other hosts reach it"},
		"mesh alone":      {newScene(func(c *scene) { c.Health["h1"] = control.Health{LeaseGood: true, MeshDown: true} }), api.HostSuspect, api.ReasonHostSilent, "port 7946"},
		"lost":            {newScene(lose("h1")), api.HostLost, api.ReasonHostLost, "delete the host"},
		"brake":           {newScene(lose("h1"), silent("h2")), api.HostLost, api.ReasonBrake, "2 of 3 hosts"},
		"never reported":  {newScene(silent("h1"), hosts(func(h *api.Host) { h.Status.Seen = time.Time{} }, "h1")), api.HostJoining, api.ReasonHostSilent, "never reported"},
		"being deleted":   {newScene(service("web", 1), pod("web", "web-1", "h1"), hosts(removed, "h1")), api.HostReady, api.ReasonProgressing, "1 pods move"},
		"condition stays": {newScene(hosts(func(h *api.Host) { h.Status.Reason = api.ReasonEngineDown }, "h1")), api.HostReady, api.ReasonEngineDown, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := control.NewView(tt.scene.Snapshot).HostStatus(&tt.scene.Hosts[0])
			if got.State != tt.state || got.Reason != tt.reason || !strings.Contains(got.Message, tt.words) {
				t.Errorf("got %+v; want %s %s with %q", got, tt.state, tt.reason, tt.words)
			}
		})
	}
}

func TestPodStatus(t *testing.T) {
	unscheduled := func(p *api.Pod) {
		p.Spec.Placement = &api.Decision{Rejected: map[api.Reason]int{api.ReasonMemory: 3, api.ReasonCordoned: 2}}
	}
	tests := map[string]struct {
		scene  *scene
		phase  api.Phase
		reason api.Reason
		words  string
	}{
		"running":       {newScene(service("web", 1), pod("web", "web-1", "h1")), api.PhaseRunning, "", ""},
		"not placed":    {newScene(service("web", 1), pod("web", "web-1", "")), api.PhasePending, api.ReasonProgressing, "placement"},
		"unschedulable": {newScene(service("web", 1), pod("web", "web-1", "", unscheduled)), api.PhasePending, api.ReasonUnschedulable, "none of 5 hosts fits: 2 cordoned, 3 without enough memory; ask for less memory"},
		"not offered": {newScene(service("web", 1, func(s *api.Service) {
			s.Spec.Containers[0].Privileged, s.Spec.Volumes = true, []api.Volume{{Name: "a", Class: "fast"}, {Name: "b"}, {Name: "c", Class: "bulk"}}
		}), pod("web", "web-1", "", func(p *api.Pod) {
			p.Spec.Placement = &api.Decision{Rejected: map[api.Reason]int{api.ReasonPolicyCeiling: 3, api.ReasonVolumeClass: 2}}
		})), api.PhasePending, api.ReasonUnschedulable, "none of 5 hosts fits: 3 that do not allow policy privileged, 2 without volume class bulk or fast; give a host the class with --volume-class"},
		"no hosts":       {newScene(service("web", 1), pod("web", "web-1", "", func(p *api.Pod) { p.Spec.Placement = &api.Decision{} })), api.PhasePending, api.ReasonUnschedulable, "gear join"},
		"not taken up":   {newScene(service("web", 1), pod("web", "web-1", "h1", func(p *api.Pod) { p.Status = api.PodStatus{} })), api.PhasePending, api.ReasonWaitingForHost, "h1"},
		"host unknown":   {newScene(service("web", 1), pod("web", "web-1", "h9")), api.PhaseUnknown, api.ReasonHostLost, "h9 was deleted"},
		"silent":         {newScene(service("web", 1), pod("web", "web-1", "h1"), silent("h1")), api.PhaseUnknown, api.ReasonHostSilent, "for 1s"},
		"lost":           {newScene(service("web", 1), pod("web", "web-1", "h1"), lose("h1")), api.PhaseUnknown, api.ReasonHostLost, "another host has room"},
		"lost, replaced": {newScene(service("web", 1), pod("web", "web-1", "h1", deleting), lose("h1")), api.PhaseUnknown, api.ReasonHostLost, "was replaced"},
		"lost, volumes":  {newScene(service("db", 1, volumes), pod("db", "db-1", "h1"), lose("h1")), api.PhaseUnknown, api.ReasonHostLost, "not started elsewhere"},
		"brake":          {newScene(service("web", 1), pod("web", "web-1", "h1"), lose("h1", "h2")), api.PhaseUnknown, api.ReasonBrake, "2 of 3"},
		"stopping":       {newScene(service("web", 1), pod("web", "web-1", "h1", deleting)), api.PhaseStopping, "", ""},
		"gone":           {newScene(service("web", 1), pod("web", "web-1", "h1", gone)), api.PhaseGone, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := control.NewView(tt.scene.Snapshot).PodStatus(&tt.scene.Pods[0])
			if got.Phase != tt.phase || got.Reason != tt.reason || !strings.Contains(got.Message, tt.words) {
				t.Errorf("got %+v; want %s %s with %q", got, tt.phase, tt.reason, tt.words)
			}
			if got.Ready != (tt.phase == api.PhaseRunning) {
				t.Errorf("ready: %t", got.Ready)
			}
		})
	}
}

// TestWorstPodSpeaksForItsService checks that the reason to look at first travels up.
func TestWorstPodSpeaksForItsService(t *testing.T) {
	says := func(r api.Reason) func(*api.Pod) {
		return func(p *api.Pod) {
			p.Status = api.PodStatus{Phase: api.PhaseBackOff, Reason: r, Message: "it says " + string(r)}
		}
	}
	c := newScene(service("web", 3), pod("web", "web-1", "h1", says(api.ReasonNotReady)),
		pod("web", "web-2", "h2", says(api.ReasonImagePull)), pod("web", "web-3", "h3"))
	want := api.ServiceStatus{Pods: 3, Ready: 1, Reason: api.ReasonImagePull, Message: "pod web-2: it says ImagePull"}
	if diff := cmp.Diff(want, control.NewView(c.Snapshot).ServiceStatus(&c.Services[0])); diff != "" {
		t.Error(diff)
	}
}

// alias adds an alias that was made some minutes ago.
func alias(project, name api.Name, spec api.AliasSpec, minutes int) func(*scene) {
	return func(c *scene) {
		a := api.Alias{Header: head(api.KindAlias, project, name), Spec: spec}
		a.Metadata.Created, a.Metadata.UID = noon.Add(time.Duration(-minutes)*time.Minute), api.UID(name)
		c.Aliases = append(c.Aliases, a)
	}
}

func TestAliasStatus(t *testing.T) {
	web := api.AliasSpec{Host: "shop.example.com", Service: "web"}
	tests := map[string]struct {
		others []func(*scene)
		spec   api.AliasSpec
		reason api.Reason
		words  string
	}{
		"in force":            {nil, web, "", ""},
		"no service":          {nil, api.AliasSpec{Host: "x.example.com", Service: "wep"}, api.ReasonNoService, "no service wep"},
		"no such port":        {nil, api.AliasSpec{Host: "x.example.com", Service: "web", Port: "admin"}, api.ReasonNoService, "no port admin"},
		"no port at all":      {nil, api.AliasSpec{Host: "x.example.com", Service: "job"}, api.ReasonNoService, "has no port"},
		"taken":               {[]func(*scene){alias("shop", "older", web, 20)}, web, api.ReasonHostnameTaken, "alias older had"},
		"taken elsewhere":     {[]func(*scene){alias("secret", "older", web, 20)}, web, api.ReasonHostnameTaken, "another project had"},
		"a younger one":       {[]func(*scene){alias("shop", "younger", web, 5)}, web, "", ""},
		"equally old, by uid": {[]func(*scene){alias("shop", "a", web, 10)}, web, api.ReasonHostnameTaken, "alias a had"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newScene(service("web", 1), service("job", 1, func(s *api.Service) { s.Spec.Ports = nil }), alias("shop", "mine", tt.spec, 10))
			for _, f := range tt.others {
				f(c)
			}
			got := control.NewView(c.Snapshot).AliasStatus(&c.Aliases[0])
			if got.Active != (tt.reason == "") || got.Reason != tt.reason || !strings.Contains(got.Message, tt.words) || strings.Contains(got.Message, "secret") {
				t.Errorf("got %+v; want %s with %q", got, tt.reason, tt.words)
			}
		})
	}
}

// TestAliasesOfServices checks that services' aliases follow them, and that people's are left alone.
func TestAliasesOfServices(t *testing.T) {
	c := newScene(service("web", 0, aliases("keep.example.com", "drop.example.com")))
	for _, a := range control.Plan(c.Snapshot, c.newUID) {
		c.Aliases = append(c.Aliases, *a.Object.(*api.Alias))
	}
	alias("shop", "by-hand", api.AliasSpec{Host: "hand.example.com", Service: "web"}, 1)(c)
	if acts := control.Plan(c.Snapshot, c.newUID); len(acts) != 0 {
		t.Fatalf("not at rest: %s", show(acts))
	}
	c.Services[0].Spec.Aliases = c.Services[0].Spec.Aliases[:1]
	for i := range c.Aliases {
		if c.Aliases[i].Spec.Host == "keep.example.com" {
			c.Aliases[i].Spec.Service = "tampered"
		}
	}
	acts := control.Plan(c.Snapshot, c.newUID)
	if len(acts) != 2 || acts[0].Op != control.Delete || acts[0].Object.(*api.Alias).Spec.Host != "drop.example.com" ||
		acts[1].Op != control.Put || acts[1].Object.(*api.Alias).Spec.Service != "web" {
		t.Fatalf("want one deleted and one put right: %s", show(acts))
	}
	c.Services[0].Metadata.Deleting = true
	if acts := control.Plan(c.Snapshot, c.newUID); len(acts) != 3 {
		t.Fatalf("want both aliases and the service deleted: %s", show(acts))
	}
}

func TestDirectory(t *testing.T) {
	at := netip.MustParseAddrPort("192.0.2.1:20000")
	end := func(pod api.Name) api.Endpoint {
		return api.Endpoint{Project: "shop", Service: "web", Pod: pod, Port: "main", Protocol: api.TCP, Address: at, Ready: true}
	}
	c := newScene(service("web", 2), pod("web", "web-1", "h1"), pod("web", "web-2", "h1", deleting),
		hosts(func(h *api.Host) { h.Metadata.Labels[api.RouterLabel] = "true" }, "h2"),
		alias("shop", "mine", api.AliasSpec{Host: "shop.example.com", Service: "web"}, 10),
		alias("shop", "later", api.AliasSpec{Host: "shop.example.com", Service: "web"}, 1),
		alias("shop", "void", api.AliasSpec{Host: "void.example.com", Service: "none"}, 1))
	given := []api.HostEndpoints{{Host: "h9", Seq: 1, Endpoints: []api.Endpoint{end("web-9")}}, {Host: "h1", Seq: 4, Endpoints: []api.Endpoint{end("web-1"), end("web-2")}}}
	want := api.Directory{
		Services:  []api.ServiceEntry{{Project: "shop", Name: "web", Ports: []api.Port{{Name: "main", Port: 80, Protocol: api.TCP}}}},
		Hosts:     []api.HostEntry{{Name: "h1", Zone: "a"}, {Name: "h2", Router: true, Zone: "a"}, {Name: "h3", Zone: "b"}},
		Aliases:   []api.AliasEntry{{Host: "shop.example.com", Project: "shop", Service: "web", Port: "main"}},
		Endpoints: []api.HostEndpoints{{Host: "h1", Seq: 4, Endpoints: []api.Endpoint{end("web-1")}}},
	}
	if diff := cmp.Diff(want, control.NewView(c.Snapshot).Directory(given), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
		t.Error(diff)
	}
	if len(given[1].Endpoints) != 2 {
		t.Error("the endpoints given were changed")
	}
}

package control_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/golden"
	"gearmesh.dev/master/control"
)

// scene is a snapshot that tests put together, with h1 to h3 that are ready.
type scene struct {
	control.Snapshot
	uids int
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func newScene(change ...func(*scene)) *scene {
	c := &scene{Snapshot: control.Snapshot{Now: noon, Term: 7, Health: map[api.Name]control.Health{}}}
	c.Projects = []api.Project{{Header: head(api.KindProject, "", "shop")}}
	for i, zone := range []string{"a", "a", "b"} {
		h := api.Host{Header: head(api.KindHost, "", api.Name(fmt.Sprint("h", i+1)))}
		h.Metadata.Labels = map[string]string{"zone": zone}
		h.Status = api.HostStatus{Seen: noon.Add(-time.Second), Version: "1", Capacity: api.Resources{CPU: 2000, Memory: 1 << 30}}
		c.Hosts = append(c.Hosts, h)
		c.Health[h.Metadata.Name] = control.Health{LeaseGood: true}
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func (c *scene) newUID() api.UID {
	c.uids++
	return api.UID(fmt.Sprintf("n%cxyzaaaaaaaaaaa", 'a'+c.uids-1))
}

// service adds a service of project shop with n replicas.
func service(name api.Name, n int, change ...func(*api.Service)) func(*scene) {
	return func(c *scene) {
		s := api.Service{Header: head(api.KindService, "shop", name)}
		s.Metadata.Labels = map[string]string{"team": "blue", control.LabelPrefix + "x": "not copied"}
		s.Spec.Replicas = &n
		s.Spec.Containers = []api.Container{{Image: "web:1", Resources: api.Resources{CPU: 500}}}
		s.Spec.Ports = []api.Port{{Port: 80}}
		for _, f := range change {
			f(&s)
		}
		s.Default()
		c.Services = append(c.Services, s)
	}
}

func volumes(s *api.Service) { s.Spec.Volumes = []api.Volume{{Name: "data"}} }

// pod adds a ready pod of a service; the template is the service's as it is then.
func pod(service, name, on api.Name, change ...func(*api.Pod)) func(*scene) {
	return func(c *scene) {
		p := api.Pod{Header: head(api.KindPod, "shop", name)}
		p.Metadata.Revision, p.Metadata.Created = 5, noon.Add(-time.Hour)
		for _, s := range c.Services {
			if s.Metadata.Name == service {
				p.Spec = api.PodSpec{Service: service, Hash: control.TemplateHash(&s.Spec.PodTemplate), Template: s.Spec.PodTemplate, Host: on}
			}
		}
		if on != "" {
			p.Status = api.PodStatus{Phase: api.PhaseRunning, Ready: true}
		}
		for _, f := range change {
			f(&p)
		}
		c.Pods = append(c.Pods, p)
	}
}

func old(p *api.Pod) {
	p.Spec.Hash = "old"
	p.Spec.Template.Containers = []api.Container{{Name: "main", Image: "web:0", Resources: api.Resources{CPU: 500}}}
}

func dataOf(service api.Name) []api.Link {
	return []api.Link{{Name: "data", Service: service, LocalPort: 5432, Protocol: api.TCP, Retarget: api.Drain}}
}

// linked gives a service a link by the name data, to the service.
func linked(to api.Name) func(*api.Service) {
	return func(s *api.Service) { s.Spec.Links = dataOf(to) }
}

// linksTo is linked for a pod, whose template was another one then.
func linksTo(to api.Name) func(*api.Pod) {
	return func(p *api.Pod) {
		p.Spec.Template.Links = dataOf(to)
		p.Spec.Hash = control.TemplateHash(&p.Spec.Template)
	}
}

func unready(p *api.Pod)  { p.Status.Ready = false }
func deleting(p *api.Pod) { p.Metadata.Deleting = true }
func gone(p *api.Pod)     { p.Metadata.Deleting, p.Status = true, api.PodStatus{Phase: api.PhaseGone} }

func lose(hosts ...api.Name) func(*scene) {
	return func(c *scene) {
		for _, h := range hosts {
			c.Health[h] = control.Health{MeshDown: true}
		}
	}
}

func hosts(change func(*api.Host), names ...api.Name) func(*scene) {
	return func(c *scene) {
		for i := range c.Hosts {
			for _, n := range names {
				if c.Hosts[i].Metadata.Name == n {
					change(&c.Hosts[i])
				}
			}
		}
	}
}

func removed(h *api.Host)  { h.Metadata.Deleting = true }
func banned(h *api.Host)   { h.Metadata.Deleting, h.Spec.Expelled = true, true }
func cordoned(h *api.Host) { h.Spec.Cordoned = true }
func drained(h *api.Host)  { h.Spec.Drain = true }

func deletingService(s *api.Service) { s.Metadata.Deleting = true }
func deletingProject(c *scene)       { c.Projects[0].Metadata.Deleting = true }

func notInZone(z string) func(*api.Service) {
	return func(s *api.Service) {
		s.Spec.Placement.Require = []api.Requirement{{Label: "zone", NotIn: []string{z}}}
	}
}

func global(s *api.Service) { s.Spec.Global, s.Spec.Replicas = true, nil }

func cpu(n api.CPU) func(*api.Service) {
	return func(s *api.Service) { s.Spec.Containers[0].Resources.CPU = n }
}

func priority(n int) func(*api.Service) {
	return func(s *api.Service) { s.Spec.Placement.Priority = n }
}

func keeps(n int) func(*api.Service) { return func(s *api.Service) { s.Spec.MinReady = n } }

// full puts a pod of web on each host.
func full(c *scene) {
	for i, h := range []api.Name{"h1", "h2", "h3"} {
		pod("web", api.Name(fmt.Sprint("web-", i+1)), h, func(p *api.Pod) { p.Metadata.UID = api.UID(fmt.Sprint("uid-", i+1)) })(c)
	}
}

// ending lets pods have been marked for deletion.
func ending(names ...api.Name) func(*scene) {
	return func(c *scene) {
		for i := range c.Pods {
			if slices.Contains(names, c.Pods[i].Metadata.Name) {
				deleting(&c.Pods[i])
			}
		}
	}
}

// only is the mark of a pod of a global service.
func only(host string) func(*api.Pod) {
	return func(p *api.Pod) { p.Metadata.Labels = map[string]string{control.OnlyLabel: host} }
}

// waits lets others have ended for a pod that waits.
func waits(host api.Name) func(*api.Pod) {
	return func(p *api.Pod) {
		p.Spec.Placement = &api.Decision{Waits: host, Reasons: []string{"its room is that of shop/web-1"}, Rejected: map[api.Reason]int{api.ReasonCPU: 3}}
	}
}

func oneAHost(s *api.Service) { s.Spec.Placement.MaxPerHost = 1 }

// refused lets a pod have waited for a host already.
func refused(r api.Reason, n int) func(*api.Pod) {
	return func(p *api.Pod) { p.Spec.Placement = &api.Decision{Rejected: map[api.Reason]int{r: n}} }
}

func aliases(names ...api.Hostname) func(*api.Service) {
	return func(s *api.Service) { s.Spec.Aliases = names }
}

// TestPlans holds the plans of typical scenes to golden files: read them as documentation.
func TestPlans(t *testing.T) {
	scenes := map[string]*scene{
		"new-service":         newScene(service("web", 3)),
		"new-service-volumes": newScene(service("db", 1, volumes)),
		"at-rest":             newScene(service("web", 1), pod("web", "web-1", "h1")),
		"no-host-fits":        newScene(service("web", 1, notInZone("a")), hosts(cordoned, "h3")),
		"scale-down":          newScene(service("web", 1), pod("web", "web-1", "h1"), pod("web", "web-2", "h2", unready), pod("web", "web-3", "")),
		"scale-to-none":       newScene(service("web", 0), pod("web", "web-1", "h1")),
		"roll-starts":         newScene(service("web", 2), pod("web", "web-1", "h1", old), pod("web", "web-2", "h2", old)),
		"roll-waits":          newScene(service("web", 2), pod("web", "web-1", "h1", old), pod("web", "web-2", "h2", old), pod("web", "web-3", "h3", unready)),
		"roll-goes-on":        newScene(service("web", 2), pod("web", "web-1", "h1", old), pod("web", "web-2", "h2", old), pod("web", "web-3", "h3")),
		"roll-ends":           newScene(service("web", 1), pod("web", "web-1", "h1", old), pod("web", "web-3", "h3")),
		"roll-one-a-host": newScene(service("web", 3, oneAHost), pod("web", "web-1", "h1", old), pod("web", "web-2", "h2", old), pod("web", "web-3", "h3", old),
			pod("web", "web-4", "", refused(api.ReasonHostMaximum, 3))),
		"roll-no-room": newScene(service("web", 3), pod("web", "web-1", "h1", old), pod("web", "web-2", "h2", old), pod("web", "web-3", "h3", old),
			pod("web", "web-4", "", refused(api.ReasonCordoned, 3)), hosts(cordoned, "h1", "h2", "h3")),
		"live-change":          newScene(service("web", 3, linked("db2")), pod("web", "web-1", "h1", linksTo("db")), pod("web", "web-2", "h2"), pod("web", "web-3", "", linksTo("db"))),
		"live-change-and-roll": newScene(service("web", 2, linked("db2")), pod("web", "web-1", "h1", linksTo("db")), pod("web", "web-2", "h2", linksTo("db"), old)),
		"live-change-volumes":  newScene(service("db", 1, volumes, linked("b")), pod("db", "db-1", "h1", linksTo("a"))),
		"global-new":           newScene(service("log", 0, global, notInZone("b")), hosts(cordoned, "h2")),
		"global-volumes":       newScene(service("log", 0, global, volumes)),
		"global-at-rest":       newScene(service("log", 0, global), pod("log", "log-1", "h1"), pod("log", "log-2", "h2"), pod("log", "log-3", "h3")),
		"global-no-room":       newScene(service("log", 0, global), service("web", 1, cpu(2000)), pod("web", "web-1", "h1"), pod("log", "log-2", "h2"), pod("log", "log-3", "h3")),
		"global-rolls":         newScene(service("log", 0, global), pod("log", "log-1", "h1", old), pod("log", "log-2", "h2", old), pod("log", "log-3", "h3", old), lose("h3")),
		"global-roll-waits":    newScene(service("log", 0, global), pod("log", "log-1", "h1", unready), pod("log", "log-2", "h2", old), pod("log", "log-3", "h3", old)),
		"global-one-more":      newScene(service("log", 0, global), pod("log", "log-1", "h1"), pod("log", "log-2", "h2"), pod("log", "log-3", "h3"), pod("log", "log-4", "h3")),
		"global-host-leaves": newScene(service("log", 0, global), pod("log", "log-1", "h1"), pod("log", "log-2", "h2"), pod("log", "log-3", "h3"), hosts(removed, "h3"),
			pod("log", "log-4", "", only("h3"))),
		"preempt":        newScene(service("pay", 1, cpu(1500), priority(10)), service("web", 3, cpu(1000)), full),
		"preempt-budget": newScene(service("pay", 1, cpu(1500), priority(10)), service("web", 3, cpu(1000), keeps(3)), full),
		"preempt-equal":  newScene(service("pay", 1, cpu(1500), priority(10)), service("web", 3, cpu(1000), priority(10)), full),
		"preempt-waits":  newScene(service("pay", 1, cpu(1500), priority(10)), service("web", 3, cpu(1000)), pod("pay", "pay-1", "", waits("h1")), pod("web", "web-0", ""), full, ending("web-1")),
		"preempt-then-room": newScene(service("pay", 1, cpu(1500), priority(10)), service("web", 3, cpu(1000)), pod("pay", "pay-1", "", waits("h1")), pod("web", "web-0", ""),
			pod("web", "web-1", "h1", gone), pod("web", "web-2", "h2"), pod("web", "web-3", "h3")),
		"preempt-host-lost":      newScene(service("pay", 1, cpu(1500), priority(10)), service("web", 2, cpu(1000)), pod("pay", "pay-1", "h1"), pod("web", "web-2", "h2"), pod("web", "web-3", "h3"), lose("h1")),
		"roll-volumes-starts":    newScene(service("db", 1, volumes), pod("db", "db-1", "h2", old)),
		"roll-volumes-waits":     newScene(service("db", 1, volumes), pod("db", "db-1", "h2", old, deleting)),
		"roll-volumes-gone":      newScene(service("db", 1, volumes), pod("db", "db-1", "h2", old, gone)),
		"volumes-host-cordoned":  newScene(service("db", 1, volumes), pod("db", "db-1", "h2", old, gone), hosts(cordoned, "h2")),
		"volumes-host-forbidden": newScene(service("db", 1, volumes, notInZone("a")), pod("db", "db-1", "h2", gone)),
		"placement-changed":      newScene(service("web", 1, notInZone("a")), pod("web", "web-1", "h1")),
		"host-lost":              newScene(service("web", 2), pod("web", "web-1", "h1"), pod("web", "web-2", "h2"), lose("h1")),
		"host-lost-volumes":      newScene(service("db", 1, volumes), pod("db", "db-1", "h1"), lose("h1")),
		"host-lost-no-room":      newScene(service("web", 1, notInZone("b")), pod("web", "web-1", "h1"), lose("h1"), hosts(cordoned, "h2")),
		"host-returns":           newScene(service("web", 1), pod("web", "web-1", "h1", gone), pod("web", "web-2", "h2")),
		"brake":                  newScene(service("web", 2), pod("web", "web-1", "h1"), pod("web", "web-2", "h2"), lose("h1", "h2")),
		"drain-starts":           newScene(service("web", 2), pod("web", "web-1", "h1"), pod("web", "web-2", "h1"), hosts(drained, "h1")),
		"drain-goes-on":          newScene(service("web", 2), pod("web", "web-1", "h1"), pod("web", "web-2", "h1"), pod("web", "web-3", "h2"), hosts(drained, "h1")),
		"drain-no-room":          newScene(service("web", 1, notInZone("b")), pod("web", "web-1", "h1"), hosts(drained, "h1"), hosts(cordoned, "h2")),
		"drain-volumes":          newScene(service("db", 1, volumes), pod("db", "db-1", "h1"), hosts(drained, "h1")),
		"host-deleted-drains":    newScene(service("web", 1), pod("web", "web-1", "h1"), hosts(removed, "h1")),
		"host-deleted-lost":      newScene(service("db", 1, volumes), pod("db", "db-1", "h1"), lose("h1"), hosts(removed, "h1")),
		"host-deleted-silent":    newScene(service("db", 1, volumes), pod("db", "db-1", "h1"), silent("h1"), hosts(removed, "h1")),
		"host-deleted-last":      newScene(service("db", 1, volumes), pod("db", "db-1", "h1"), silent("h1", "h2", "h3"), hosts(removed, "h1")),
		"host-deleted-empty":     newScene(hosts(removed, "h1")),
		"host-expelled":          newScene(service("web", 2), service("db", 1, volumes), pod("web", "web-1", "h1"), pod("web", "web-2", "h2"), pod("db", "db-1", "h1"), hosts(banned, "h1")),
		"host-expelled-brake":    newScene(service("web", 2), pod("web", "web-1", "h1"), pod("web", "web-2", "h2"), hosts(banned, "h1"), lose("h2")),
		"host-unknown":           newScene(service("web", 1), pod("web", "web-1", "h9")),
		"service-deleted":        newScene(service("web", 2, deletingService), pod("web", "web-1", "h1"), pod("web", "web-2", ""), pod("web", "web-3", "h2", gone)),
		"service-deleted-last":   newScene(service("web", 1, deletingService)),
		"orphan":                 newScene(pod("web", "web-1", "h1", func(p *api.Pod) { p.Spec.Service = "web" })),
		"project-deleted":        newScene(service("web", 1), pod("web", "web-1", "h1"), deletingProject),
		"project-deleted-last":   newScene(deletingProject),
		"pod-deleted":            newScene(service("web", 1), pod("web", "web-1", "h1", deleting)),
		"aliases-new":            newScene(service("web", 0, aliases("shop.example.com", "www.example.com"))),
	}
	for name, c := range scenes {
		t.Run(name, func(t *testing.T) {
			golden.Equal(t, name+".txt", []byte(c.tell()))
		})
	}
}

// tell writes down the plan of a scene, and the statuses that say why.
func (c *scene) tell() string {
	text := show(control.Plan(c.Snapshot, c.newUID))
	if text == "" {
		text = "nothing to do\n"
	}
	for i := range c.Services {
		if st := control.NewView(c.Snapshot).ServiceStatus(&c.Services[i]); st.Reason != "" {
			text += fmt.Sprintf("status %s: %d of %d ready, %s: %s\n", c.Services[i].Key(), st.Ready, st.Pods, st.Reason, st.Message)
		}
	}
	for i := range c.Hosts {
		if st := control.NewView(c.Snapshot).HostStatus(&c.Hosts[i]); c.Hosts[i].Spec.Drain {
			text += fmt.Sprintf("status %s: %s: %s\n", c.Hosts[i].Key(), st.Reason, st.Message)
		}
	}
	return text
}

// TestMadePod checks every field of a pod that is made.
func TestMadePod(t *testing.T) {
	c := newScene(service("web", 1))
	got := control.Plan(c.Snapshot, c.newUID)[0].Object.(*api.Pod)
	s := &c.Services[0]
	if got.Metadata.Name != "web-naxyz" || got.Metadata.UID != "naxyzaaaaaaaaaaa" || got.Metadata.Project != "shop" ||
		got.Metadata.Revision != 0 || !got.Metadata.Created.Equal(noon) {
		t.Errorf("metadata %+v", got.Metadata)
	}
	if len(got.Metadata.Labels) != 1 || got.Metadata.Labels["team"] != "blue" {
		t.Errorf("labels %v; want the service's own without %s", got.Metadata.Labels, control.LabelPrefix)
	}
	if p := got.Spec; p.Host != "h1" || p.Term != 7 || p.Cause != api.ReasonScaleUp || p.Hash != control.TemplateHash(&s.Spec.PodTemplate) ||
		p.Placement == nil || p.Placement.Host != "h1" {
		t.Errorf("spec %+v", p)
	}
}

// TestUnitNamesAreUnique checks that names of units never meet, whichever project, service and
// container they are made of.
func TestUnitNamesAreUnique(t *testing.T) {
	tests := map[string]func(*scene){
		"same name":                  pod("web", "web-naxyz", "h1", func(p *api.Pod) { p.Spec.Service = "web" }),
		"project takes a part":       func(c *scene) { c.Pods = append(c.Pods, foreign("shop-web", "naxyz", "main")) },
		"a container of another pod": func(c *scene) { c.Pods = append(c.Pods, foreign("shop", "web", "main", "naxyz")) },
		"own container": func(c *scene) {
			c.Pods = append(c.Pods, foreign("shop", "web-naxyz-side", "main"))
			c.Services[0].Spec.Containers = append(c.Services[0].Spec.Containers, api.Container{Name: "side", Image: "x"})
		},
	}
	for name, add := range tests {
		t.Run(name, func(t *testing.T) {
			c := newScene(service("web", 1), add)
			for _, a := range control.Plan(c.Snapshot, c.newUID) {
				if key := a.Object.Head().Key(); a.Op == control.Put && key.Name == "web-naxyz" {
					t.Errorf("%s meets the units of another pod", key)
				}
			}
		})
	}
}

func foreign(project, name api.Name, containers ...api.Name) api.Pod {
	p := api.Pod{Header: head(api.KindPod, project, name)}
	for _, c := range containers {
		p.Spec.Template.Containers = append(p.Spec.Template.Containers, api.Container{Name: c})
	}
	return p
}

func TestLongServiceNames(t *testing.T) {
	long := api.Name("a-very-long-name-of-a-service-that-fills-all-the-room-it-can---x")[:63]
	c := newScene(service(long, 1, aliases("x.example.com")))
	for _, a := range control.Plan(c.Snapshot, c.newUID) {
		if err := a.Object.Head().Metadata.Name.Validate(); err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkPlan plans for 5,000 hosts, 3,000 services and 150,000 pods: at rest, and when one host
// with its 30 pods is lost.
func BenchmarkPlan(b *testing.B) {
	for _, bad := range []int{0, 1} {
		b.Run(fmt.Sprintf("lost=%d", bad), func(b *testing.B) {
			c := bigScene()
			for i := range bad {
				lose(api.Name(fmt.Sprint("h", i)))(c)
			}
			for b.Loop() {
				if n := len(control.Plan(c.Snapshot, benchUID())); n != bad*60 {
					b.Fatalf("%d actions", n)
				}
			}
		})
	}
}

// BenchmarkRebalance looks for moves in a cluster where all services are to be rebalanced, with loads that are even and with an empty host.
func BenchmarkRebalance(b *testing.B) {
	for _, empty := range []bool{false, true} {
		b.Run(fmt.Sprintf("empty=%v", empty), func(b *testing.B) {
			c := bigScene()
			for i := range c.Services {
				c.Services[i].Spec.Placement.Rebalance = true
			}
			if empty {
				c.Hosts = append(c.Hosts, c.Hosts[0])
				c.Hosts[5000].Metadata.Name = "h9999"
				c.Health["h9999"] = control.Health{LeaseGood: true}
			}
			rests := control.NewRests(noon.Add(-time.Hour))
			before := c.Snapshot
			before.Now = noon.Add(-time.Hour)
			rests.Look(control.NewView(before))
			v := control.NewView(c.Snapshot)
			for b.Loop() {
				v.Rebalance(rests, benchUID())
			}
		})
	}
}

func benchUID() func() api.UID {
	n := 0
	return func() api.UID {
		n++
		return api.UID(fmt.Sprintf("%05daaaaaaaaaaa", n))
	}
}

func bigScene() *scene {
	c := newScene()
	c.Hosts, c.Health = nil, map[api.Name]control.Health{}
	for i := range 5000 {
		h := api.Host{Header: head(api.KindHost, "", api.Name(fmt.Sprint("h", i)))}
		h.Status = api.HostStatus{Seen: noon, Capacity: api.Resources{CPU: 64000, Memory: 1 << 40}}
		c.Hosts = append(c.Hosts, h)
		c.Health[h.Metadata.Name] = control.Health{LeaseGood: true}
	}
	for i := range 3000 {
		service(api.Name(fmt.Sprint("s", i)), 50)(c)
	}
	hash := control.TemplateHash(&c.Services[0].Spec.PodTemplate)
	for i := range 150_000 {
		s := &c.Services[i%3000]
		p := api.Pod{Header: head(api.KindPod, "shop", api.Name(fmt.Sprintf("%s-%05d", s.Metadata.Name, i)))}
		p.Spec = api.PodSpec{Service: s.Metadata.Name, Hash: hash, Template: s.Spec.PodTemplate, Host: c.Hosts[i/30].Metadata.Name}
		p.Status = api.PodStatus{Phase: api.PhaseRunning, Ready: true}
		c.Pods = append(c.Pods, p)
	}
	return c
}

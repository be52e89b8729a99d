package control_test

import (
	"fmt"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/golden"
	"gearmesh.dev/master/control"
)

func identity(order api.PodIdentity) func(*api.Service) {
	return func(s *api.Service) { s.Spec.Identity = order }
}

// member adds a ready pod n of service db; one that runs by a lease has a fencing token.
func member(n int, on api.Name, change ...func(*api.Pod)) func(*scene) {
	return func(c *scene) {
		pod("db", api.OrdinalName("db", n), on, func(p *api.Pod) {
			p.Spec.Ordinal = &n
			p.Metadata.UID = api.UID(fmt.Sprintf("%sbbbbbbbbbbb%c", on+"aaa", 'a'+n))
			if c.Services[0].Spec.Leased() {
				p.Spec.Fence = 41
			}
		})(c)
		for _, f := range change {
			f(&c.Pods[len(c.Pods)-1])
		}
	}
}

// heirless lets a pod have left its name to another that does not exist yet.
func heirless(p *api.Pod) {
	p.Metadata.Deleting, p.Spec.Ending = true, api.ReasonHostLost
	p.Metadata.Name += "-" + api.Name(p.Metadata.UID[:8])
}

func scaledDown(p *api.Pod) { gone(p); p.Spec.Ending = api.ReasonScaleDown }

// TestIdentityPlans holds what becomes of services with identity to golden files: read them as documentation.
func TestIdentityPlans(t *testing.T) {
	one := func(n int, change ...func(*api.Service)) func(*scene) {
		return service("db", n, append(change, identity(api.IdentityOrdered))...)
	}
	all := func(n int, change ...func(*api.Service)) func(*scene) {
		return service("db", n, append(change, identity(api.IdentityParallel))...)
	}
	for name, c := range map[string]*scene{
		"ordered-first":        newScene(one(3)),
		"ordered-waits":        newScene(one(3), member(0, "h1", unready)),
		"ordered-next":         newScene(one(3), member(0, "h1"), member(1, "h2")),
		"ordered-gap-waits":    newScene(one(3), member(0, "h1", unready), member(2, "h3")),
		"ordered-down":         newScene(one(1), member(0, "h1"), member(1, "h2"), member(2, "h3")),
		"ordered-down-waits":   newScene(one(1), member(0, "h1"), member(1, "h2"), member(2, "h3", deleting)),
		"ordered-roll":         newScene(one(3), member(0, "h1", old), member(1, "h2", old), member(2, "h3", old)),
		"ordered-roll-goes-on": newScene(one(3), member(0, "h1", old), member(1, "h2", old), member(2, "h3")),
		"ordered-roll-waits":   newScene(one(3), member(0, "h1", old), member(1, "h2", old), member(2, "h3", unready)),
		"ordered-roll-mends":   newScene(one(3), member(0, "h1", old, unready), member(1, "h2", old)),
		"parallel-first":       newScene(all(3)),
		"parallel-gap":         newScene(all(3), member(0, "h1", unready), member(2, "h3")),
		"parallel-down":        newScene(all(1), member(0, "h1"), member(1, "h2"), member(2, "h3", unready)),
		"parallel-roll":        newScene(all(2), member(0, "h1", old), member(1, "h2", old, unready)),
		"parallel-waiting-old": newScene(all(1), member(0, "", old)),
		"replaced":             newScene(all(2), member(0, "h1"), member(1, "h2", gone, old)),
		"silent":               newScene(all(1), member(0, "h1"), silentHost("h1", false)),
		"lapsed":               newScene(all(2), member(0, "h1"), member(1, "h2"), silentHost("h1", true)),
		"lapsed-marked":        newScene(all(1), member(0, "h1", deleting), silentHost("h1", true)),
		"lapsed-no-room":       newScene(all(1), member(0, "h1"), silentHost("h1", true), hosts(cordoned, "h2", "h3")),
		"lapsed-then":          newScene(all(1), member(0, "h1", heirless), silentHost("h1", true)),
		"lapsed-only-its-host": newScene(all(1), member(0, "h1", heirless), silentHost("h1", true), hosts(cordoned, "h2", "h3")),
		"lapsed-host-back":     newScene(all(1), member(0, "h1", heirless)),
		"lapsed-host-cleaned":  newScene(all(1), member(0, "h2"), member(0, "h1", heirless, gone)),
		"volumes-first":        newScene(one(3, volumes)),
		"volumes-lost":         newScene(all(2, volumes), member(0, "h1"), member(1, "h2"), lose("h2")),
		"volumes-replaced":     newScene(all(2, volumes), member(0, "h1"), member(1, "h2", gone)),
		"volumes-kept":         newScene(all(1, volumes), member(0, "h1"), member(1, "h2", scaledDown)),
		"volumes-found-again":  newScene(all(2, volumes), member(0, "h1"), member(1, "h2", scaledDown)),
		"volumes-given-up":     newScene(all(1, volumes), member(0, "h1"), member(1, "h2", scaledDown), hosts(removed, "h2")),
		"volumes-deleted":      newScene(all(1, volumes, deletingService), member(0, "h1"), member(1, "h2", scaledDown)),
		"volumes-drained":      newScene(all(1, volumes), member(0, "h1"), hosts(drained, "h1")),
		"had-none":             newScene(one(2), pod("db", "db-aaaaa", "h1"), pod("db", "db-bbbbb", "h2")),
		"had-none-goes-on":     newScene(one(2), pod("db", "db-aaaaa", "h1")),
		"has-none-any-more":    newScene(service("db", 1), member(0, "h1")),
		"unit-names-meet": newScene(all(2), func(c *scene) {
			c.Pods = append(c.Pods, foreign("shop-db", "0", "main"))
		}, func(c *scene) {
			c.Services = append(c.Services, api.Service{Header: head(api.KindService, "shop-db", "x")})
		}),
	} {
		t.Run(name, func(t *testing.T) { golden.Equal(t, "identity-"+name+".txt", []byte(c.tell())) })
	}
}

func TestIdentityForecasts(t *testing.T) {
	change := func(f func(*api.Service)) func(*scene) { return func(c *scene) { f(&c.Services[0]) } }
	image := change(func(s *api.Service) {
		s.Spec.Containers = []api.Container{{Name: "main", Image: "web:2", Resources: api.Resources{CPU: 500}, StopGrace: api.Duration(api.SingletonGrace)}}
	})
	replicas := func(n int) func(*scene) { return change(func(s *api.Service) { s.Spec.Replicas = &n }) }
	two := []func(*scene){service("db", 2, volumes, identity(api.IdentityOrdered)), member(0, "h1"), member(1, "h2")}
	for name, change := range map[string]func(*scene){"image": image, "up": replicas(4), "down": replicas(1)} {
		golden.Equal(t, "identity-forecast-"+name+".txt", []byte(foretold(newScene(two...), change)))
	}
}

// TestAPodThatHasEndedIsARecord: it says where its volumes are, and is no pod to wait for.
func TestAPodThatHasEndedIsARecord(t *testing.T) {
	c := newScene(service("db", 1, volumes, identity(api.IdentityParallel)), member(0, "h1"), member(1, "h2", scaledDown))
	want := api.PodStatus{Phase: api.PhaseGone, Message: "nothing runs of it; its volumes are kept on host h2, for when its service wants db-1 again"}
	if got := control.NewView(c.Snapshot).PodStatus(&c.Pods[1]); got.Phase != want.Phase || got.Message != want.Message {
		t.Errorf("%+v", got)
	}
	if got := control.NewView(c.Snapshot).HostStatus(&c.Hosts[1]); got.Pods != 0 {
		t.Errorf("its host has %d pods", got.Pods)
	}
	if got := control.NewView(c.Snapshot).ServiceStatus(&c.Services[0]); got.Pods != 1 || got.Reason != "" {
		t.Errorf("%+v", got)
	}
}

// TestEndpointsFollowANameThatMoved: what its old host still says of it counts for nothing.
func TestEndpointsFollowANameThatMoved(t *testing.T) {
	c := newScene(service("db", 1, identity(api.IdentityParallel)), member(0, "h2"), member(0, "h1", heirless))
	said := func(host api.Name) api.HostEndpoints {
		return api.HostEndpoints{Host: host, Endpoints: []api.Endpoint{{Project: "shop", Service: "db", Pod: "db-0", Port: "main"}, {Project: "shop", Service: "web", Pod: "web-x"}}}
	}
	d := control.NewView(c.Snapshot).Directory([]api.HostEndpoints{said("h1"), said("h2")})
	if h1, h2 := d.Endpoints[0].Endpoints, d.Endpoints[1].Endpoints; len(h1) != 1 || h1[0].Pod != "web-x" || len(h2) != 2 {
		t.Errorf("h1 has %+v, h2 has %+v", h1, h2)
	}
}

// forgetVolumes takes it that the volumes of a service's identities may be anywhere: their records go where its pods may not
// run any more.
func (w *world) forgetVolumes(s *api.Service) {
	for v := range w.data {
		if strings.HasPrefix(v, string(s.Metadata.UID)+".") {
			delete(w.data, v)
		}
	}
}

// checkIdentity checks that a new pod has the identity that its service gives it: no other pod of that may run, and those
// before it are ready when the service is ordered.
func (w *world) checkIdentity(s *api.Service, pod *api.Pod, acts []control.Action) {
	w.t.Helper()
	if (pod.Spec.Ordinal != nil) != (s.Spec.Identity != "") {
		w.t.Fatalf("a pod of %s with identity %q has ordinal %v", s.Key(), s.Spec.Identity, pod.Spec.Ordinal)
	}
	if pod.Spec.Ordinal == nil {
		return
	}
	if n := *pod.Spec.Ordinal; n >= *s.Spec.Replicas || pod.Metadata.Name != api.OrdinalName(s.Metadata.Name, n) {
		w.t.Fatalf("%s is made for %d replicas as ordinal %d: %s", pod.Key(), *s.Spec.Replicas, n, show(acts))
	}
	var before []api.Pod
	for _, r := range w.store {
		o, ok := r.(*api.Pod)
		if !ok || o.Spec.Service != s.Metadata.Name {
			continue
		}
		if o.Spec.Ordinal != nil && *o.Spec.Ordinal == *pod.Spec.Ordinal && !w.gone(o) {
			w.t.Fatalf("%s is made while %s on %q is not gone: %s", pod.Key(), o.Key(), o.Spec.Host, show(acts))
		}
		if a := w.agents[o.Spec.Host]; a != nil && a.up && a.reachable {
			before = append(before, *o)
		}
	}
	if ready := readyBelow(before, *pod.Spec.Ordinal); s.Spec.Identity == api.IdentityOrdered && ready != *pod.Spec.Ordinal {
		w.t.Fatalf("%s is made while %d before it are ready: %s", pod.Key(), ready, show(acts))
	}
}

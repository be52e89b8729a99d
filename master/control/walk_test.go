package control_test

import (
	"fmt"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/control"
)

// TestWalk lets random things happen to a cluster and checks after each that every promise holds,
// then that the cluster comes to rest as wanted.
func TestWalk(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			w := newWorld(t, seed, 3+int(seed%4))
			for range 60 {
				event := w.happen()
				w.settle()
				w.checkWorld(event)
				if w.rand.IntN(3) > 0 {
					w.tick()
					w.settle()
					w.checkWorld("tick after " + event)
				}
			}
			w.calm()
		})
	}
}

// happen makes one thing happen and names it.
func (w *world) happen() string {
	events := []func() string{w.editService, w.editService, w.createService, w.deleteService, w.deletePod, w.exitPod, w.exitPod,
		w.hostDies, w.hostCutOff, w.hostReturns, w.hostReturns, w.hostReturns, w.deleteHost, w.cordon, w.drain, w.label, w.rebalance}
	return events[w.rand.IntN(len(events))]()
}

func (w *world) one(k api.Kind) api.Resource {
	names := w.names(k)
	if len(names) == 0 {
		return nil
	}
	key := api.Key{Kind: k, Name: names[w.rand.IntN(len(names))]}
	if k.InProject() {
		key.Project = "p"
	}
	return w.store[key]
}

func (w *world) createService() string {
	s := &api.Service{Header: head(api.KindService, "p", api.Name(fmt.Sprint("s", w.rand.IntN(4))))}
	if w.store[s.Key()] != nil {
		return "nothing"
	}
	s.Spec.Containers = []api.Container{{Image: "registry.example.com/good:1", Resources: api.Resources{CPU: api.CPU(w.rand.IntN(600))}}}
	s.Spec.Ports = []api.Port{{Port: 80}}
	s.Spec.Aliases = []api.Hostname{"a.example.com", api.Hostname(s.Metadata.Name) + ".example.com"}[w.rand.IntN(2):]
	if w.rand.IntN(2) == 0 {
		s.Spec.Volumes = []api.Volume{{Name: "data"}}
	}
	s.Spec.Identity = []api.PodIdentity{"", "", api.IdentityOrdered, api.IdentityParallel}[w.rand.IntN(4)]
	s.Spec.Placement.Priority = w.rand.IntN(3)
	s.Spec.Placement.Rebalance = !s.Spec.Stateful() && s.Spec.Identity == "" && w.rand.IntN(2) == 0
	s.Default()
	if w.rand.IntN(2) == 0 {
		*s.Spec.Replicas = w.rand.IntN(4)
	}
	w.put(s)
	return "create " + s.Key().String()
}

func (w *world) editService() string {
	old, ok := w.one(api.KindService).(*api.Service)
	if !ok || old.Metadata.Deleting {
		return w.createService()
	}
	s := *old
	switch w.rand.IntN(4) {
	case 0:
		n := w.rand.IntN(4)
		s.Spec.Replicas = &n
		delete(w.data, string(s.Metadata.UID)) // scaling to none forgets where volumes are, but those of an identity
	case 1:
		w.forgetVolumes(&s)
		s.Spec.Placement.Require = []api.Requirement{{Label: "zone", NotIn: []string{fmt.Sprint("z", w.rand.IntN(3))}}}
	default:
		image := []string{badImage, "registry.example.com/good:1", "registry.example.com/good:2"}[w.rand.IntN(3)]
		s.Spec.Containers = append([]api.Container(nil), s.Spec.Containers...)
		s.Spec.Containers[0].Image = image
	}
	w.put(&s)
	return "edit " + s.Key().String()
}

// markDeleting does what the API does on DELETE.
func (w *world) markDeleting(r api.Resource) {
	switch v := r.(type) {
	case *api.Service:
		c := *v
		c.Metadata.Deleting = true
		w.put(&c)
	case *api.Pod:
		c := *v
		c.Metadata.Deleting = true
		w.put(&c)
	case *api.Host:
		c := *v
		c.Metadata.Deleting = true
		w.put(&c)
	}
}

func (w *world) deleteService() string {
	if w.rand.IntN(3) > 0 {
		return "nothing"
	}
	s := w.one(api.KindService)
	w.markDeleting(s)
	return "delete a service"
}

func (w *world) deletePod() string {
	pod := w.one(api.KindPod)
	w.markDeleting(pod)
	return "delete a pod"
}

func (w *world) exitPod() string {
	pod, ok := w.one(api.KindPod).(*api.Pod)
	if !ok {
		return "nothing"
	}
	if a := w.agents[pod.Spec.Host]; a != nil && a.pods[pod.Metadata.UID] != nil {
		a.pods[pod.Metadata.UID].broken = 1 + w.rand.IntN(3)
	}
	return "exit of " + pod.Key().String()
}

func (w *world) anAgent() (api.Name, *agent) {
	h, ok := w.one(api.KindHost).(*api.Host)
	if !ok {
		w.t.Fatal("no hosts are left")
	}
	return h.Metadata.Name, w.agents[h.Metadata.Name]
}

func (w *world) hostDies() string {
	name, a := w.anAgent()
	a.up = false
	return "death of " + string(name)
}

// hostCutOff cuts a host off from the master, and often from the mesh; its pods run on.
func (w *world) hostCutOff() string {
	name, a := w.anAgent()
	a.reachable, a.gossip = false, w.rand.IntN(2) == 0
	return "cut off " + string(name)
}

func (w *world) hostReturns() string {
	name, a := w.anAgent()
	a.up, a.reachable, a.gossip = true, true, true
	return "return of " + string(name)
}

// deleteHost deletes a host that does not answer, or now and then one that does, and adds another.
func (w *world) deleteHost() string {
	h := w.one(api.KindHost).(*api.Host)
	if a := w.agents[h.Metadata.Name]; a.up && w.rand.IntN(3) > 0 || h.Metadata.Deleting {
		return "nothing"
	} else if a.up {
		w.markDeleting(h)
	} else {
		w.rev++
		delete(w.store, h.Key())
	}
	w.addHost(100 + w.uids)
	return "delete " + h.Key().String()
}

func (w *world) drain() string {
	h := *w.one(api.KindHost).(*api.Host)
	h.Spec.Drain = !h.Spec.Drain
	w.put(&h)
	return fmt.Sprint(h.Key(), " drained: ", h.Spec.Drain)
}

func (w *world) cordon() string {
	h := *w.one(api.KindHost).(*api.Host)
	h.Spec.Cordoned = !h.Spec.Cordoned
	w.put(&h)
	return fmt.Sprint(h.Key(), " cordoned: ", h.Spec.Cordoned)
}

func (w *world) label() string {
	h := *w.one(api.KindHost).(*api.Host)
	h.Metadata.Labels = map[string]string{"zone": fmt.Sprint("z", w.rand.IntN(3))}
	w.put(&h)
	return "label " + h.Key().String()
}

// rebalance begins moves, as if all had rested.
func (w *world) rebalance() string {
	s, before := w.snapshot(), w.snapshot()
	before.Now = w.now.Add(-time.Hour)
	rests := control.NewRests(before.Now)
	rests.Look(control.NewView(before))
	acts := control.NewView(s).Rebalance(rests, w.newUID)
	for _, a := range acts {
		w.apply(a)
	}
	return fmt.Sprintf("%d moves: %s", len(acts), show(acts))
}

// count is what there is of a service.
type count struct{ live, ready, notGone, leaving int }

func (w *world) countOf(s *api.Service) count {
	var c count
	for _, r := range w.store {
		pod, ok := r.(*api.Pod)
		if !ok || pod.Spec.Service != s.Metadata.Name {
			continue
		}
		if !w.gone(pod) {
			c.notGone++
		}
		if pod.Metadata.Deleting {
			if pod.Spec.Ordinal == nil || !w.gone(pod) { // otherwise it is the record of volumes
				c.leaving++
			}
			continue
		}
		c.live++
		if a := w.agents[pod.Spec.Host]; pod.Status.Ready && a.up && a.reachable {
			c.ready++
		}
	}
	return c
}

// gone tells whether nothing of the pod can run, as far as operators and hosts have said.
func (w *world) gone(pod *api.Pod) bool {
	h, _ := w.store[api.Key{Kind: api.KindHost, Name: pod.Spec.Host}].(*api.Host)
	switch {
	case pod.Spec.Host == "":
		return pod.Metadata.Deleting
	case h == nil:
		return true
	case h.Metadata.Deleting && (w.lost(pod.Spec.Host) || !w.agents[pod.Spec.Host].reachable && !w.anyReady()):
		return true
	}
	return pod.Metadata.Deleting && pod.Status.Phase == api.PhaseGone
}

func (w *world) anyReady() bool {
	for _, name := range w.names(api.KindHost) {
		if a := w.agents[name]; a.up && a.reachable {
			return true
		}
	}
	return false
}

func (w *world) lost(host api.Name) bool {
	a := w.agents[host]
	return !a.up || !a.reachable && !a.gossip
}

// checkPlan checks what single actions may do.
func (w *world) checkPlan(acts []control.Action) {
	w.t.Helper()
	down, hosts := 0, w.names(api.KindHost)
	for _, h := range hosts {
		if a := w.agents[h]; !a.up || !a.reachable {
			down++
		}
	}
	for _, a := range acts {
		pod, ok := a.Object.(*api.Pod)
		if !ok {
			continue
		}
		if a.Reason == api.ReasonHostLost && a.Op == control.Put && len(hosts) >= 3 && 2*down > len(hosts) {
			w.t.Fatalf("%d of %d hosts are down, and yet a pod is moved: %s", down, len(hosts), show(acts))
		}
		w.checkPod(a, pod, acts)
	}
}

func (w *world) checkPod(a control.Action, pod *api.Pod, acts []control.Action) {
	w.t.Helper()
	old, _ := w.store[pod.Key()].(*api.Pod)
	if a.Op == control.Rename {
		old, _ = w.store[a.From].(*api.Pod)
	}
	if old != nil && old.Metadata.UID != pod.Metadata.UID {
		if !w.gone(old) {
			w.t.Fatalf("a pod that is not gone is replaced: %s", show(acts))
		}
		old = nil
	}
	s, _ := w.store[api.Key{Kind: api.KindService, Project: "p", Name: pod.Spec.Service}].(*api.Service)
	switch {
	case a.Op == control.Put && old != nil && old.Spec.Host != "" && old.Spec.Host != pod.Spec.Host:
		w.t.Fatalf("a pod changes its host: %s", show(acts))
	case a.Op == control.Delete && !w.gone(old) && old.Spec.Host != "":
		w.t.Fatalf("a pod that is not gone is deleted: %s", show(acts))
	case a.Op == control.Put && old != nil && old.Metadata.Deleting && !pod.Metadata.Deleting:
		w.t.Fatalf("a deletion is taken back: %s", show(acts))
	}
	if a.Op == control.Put && old == nil && s != nil {
		w.checkIdentity(s, pod, acts)
	}
	rolled := a.Reason == api.ReasonTemplateChange || a.Reason == api.ReasonPlacement || a.Reason == api.ReasonRebalanced
	if s != nil && rolled && pod.Metadata.Deleting && pod.Status.Ready && len(s.Spec.Volumes) == 0 && s.Spec.Identity == "" && w.agents[pod.Spec.Host].up && w.agents[pod.Spec.Host].reachable {
		if c := w.countOf(s); c.ready <= *s.Spec.Replicas {
			w.t.Fatalf("a ready pod is rolled while %d of %d are ready: %s", c.ready, *s.Spec.Replicas, show(acts))
		}
	}
}

// stateful counts the pods that may use the volumes of each service with volumes and one replica.
func (w *world) stateful() map[api.Name]int {
	out := map[api.Name]int{}
	for _, r := range w.store {
		if s, ok := r.(*api.Service); ok && len(s.Spec.Volumes) > 0 && s.Spec.Identity == "" && *s.Spec.Replicas == 1 {
			out[s.Metadata.Name] = w.countOf(s).notGone
		}
	}
	return out
}

// checkStateful checks that no single action lets a second pod use a service's volumes. More than
// one can be left over from a time when more were wanted.
func (w *world) checkStateful(before map[api.Name]int) {
	w.t.Helper()
	for name, n := range w.stateful() {
		if n > max(1, before[name]) {
			w.t.Fatalf("%d pods of %s, which has volumes", n, name)
		}
	}
}

// checkWorld checks what must hold after the plans have settled.
func (w *world) checkWorld(event string) {
	w.t.Helper()
	for _, r := range w.store {
		s, ok := r.(*api.Service)
		if !ok {
			continue
		}
		if c := w.countOf(s); c.live > *s.Spec.Replicas+1 && s.Spec.Identity != api.IdentityOrdered { // whose pods end one by one
			w.t.Fatalf("after %s: %d pods of %s, %d are wanted", event, c.live, s.Key(), *s.Spec.Replicas)
		}
		w.checkOnce(event, s)
	}
}

// checkOnce checks that the volumes of a service are in use on no more hosts than it has had
// replicas, counting what really runs, on hosts that no operator has given up.
func (w *world) checkOnce(event string, s *api.Service) {
	w.t.Helper()
	if len(s.Spec.Volumes) == 0 || s.Spec.Identity != "" || *s.Spec.Replicas != 1 {
		return
	}
	var on []string
	wanted := 0
	for _, name := range w.names(api.KindHost) {
		for _, r := range w.agents[name].pods {
			if r.pod.Spec.Service != s.Metadata.Name || !w.agents[name].up {
				continue
			}
			stored, _ := w.store[r.pod.Key()].(*api.Pod)
			if stored != nil && !stored.Metadata.Deleting {
				wanted++
			}
			on = append(on, fmt.Sprintf("%s on %s", r.pod.Metadata.Name, name))
		}
	}
	if wanted > 1 {
		w.t.Fatalf("after %s: %v run of %s", event, on, s.Key())
	}
}

// calm brings every host back, lets templates be good, and checks that all comes out as wanted.
func (w *world) calm() {
	w.t.Helper()
	for _, a := range w.agents {
		a.up, a.reachable, a.gossip = true, true, true
	}
	for _, r := range w.store {
		switch v := r.(type) {
		case *api.Service:
			s := *v
			s.Spec.Containers = []api.Container{{Name: "main", Image: "registry.example.com/good:9"}}
			s.Spec.Placement.Require = nil
			w.put(&s)
		case *api.Host:
			h := *v
			h.Spec.Cordoned, h.Spec.Drain = false, false
			w.put(&h)
		}
	}
	for range 60 {
		w.tick()
		w.settle()
	}
	w.checkRest()
}

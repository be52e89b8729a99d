package control_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gearmesh.dev/api"
	"gearmesh.dev/master/control"
	"gearmesh.dev/master/schedule"
)

// world is a cluster as far as the controllers can tell: a store with compare-and-set, and hosts
// whose agents start and end what they are told, when they are reachable.
type world struct {
	t      *testing.T
	rand   *rand.Rand
	now    time.Time
	rev    int64
	uids   int
	store  map[api.Key]api.Resource
	agents map[api.Name]*agent
	data   map[string]api.Name // host of the volumes: by uid of a service while it has always had one replica, or by that and a number
}

// agent is one host's real state.
type agent struct {
	up        bool // powered on
	reachable bool // by master and mesh
	gossip    bool // by the mesh, when not reachable by the master
	pods      map[api.UID]*running
}

// running is what really runs of a pod.
type running struct {
	pod    *api.Pod
	broken int // ticks until it works again
}

const badImage = "registry.example.com/bad:1"

func newWorld(t *testing.T, seed uint64, hosts int) *world {
	w := &world{t: t, rand: rand.New(rand.NewPCG(seed, 0)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		store: map[api.Key]api.Resource{}, agents: map[api.Name]*agent{}, data: map[string]api.Name{}}
	w.put(&api.Project{Header: head(api.KindProject, "", "p")})
	for i := range hosts {
		w.addHost(i)
	}
	return w
}

func head(k api.Kind, project, name api.Name) api.Header {
	return api.Header{Kind: k, Version: api.Version, Metadata: api.Metadata{Project: project, Name: name}}
}

func (w *world) addHost(i int) {
	h := &api.Host{Header: head(api.KindHost, "", api.Name(fmt.Sprint("h", i)))}
	h.Metadata.Labels = map[string]string{"zone": fmt.Sprint("z", i%3)}
	h.Status.Seen, h.Status.Capacity = w.now, api.Resources{CPU: 2000, Memory: 1 << 30}
	w.put(h)
	w.agents[h.Metadata.Name] = &agent{up: true, reachable: true, gossip: true, pods: map[api.UID]*running{}}
}

func (w *world) newUID() api.UID {
	w.uids++
	n, b := w.uids, []byte("aaaaaaaaaaaaaaaa")
	for i := range 5 {
		b[i] = "abcdefghijklmnopqrstuvwxyz234567"[n%32]
		n /= 32
	}
	return api.UID(b)
}

// put writes an object as the API does.
func (w *world) put(r api.Resource) {
	w.rev++
	m := &r.Head().Metadata
	m.Revision = w.rev
	if m.UID == "" {
		m.UID, m.Created = w.newUID(), w.now
	}
	w.store[r.Head().Key()] = r
}

// apply carries out an action with compare-and-set.
func (w *world) apply(a control.Action) {
	w.t.Helper()
	h, stored := a.Object.Head(), int64(0)
	at := h.Key()
	if a.Op == control.Rename {
		if w.store[at] != nil {
			w.t.Fatalf("%s is there already", at)
		}
		at = a.From
	}
	if old := w.store[at]; old != nil {
		stored = old.Head().Metadata.Revision
	}
	if stored != h.Metadata.Revision {
		w.t.Fatalf("%s %s on revision %d, stored is %d", a.Op, h.Key(), h.Metadata.Revision, stored)
	}
	if faults := a.Object.Validate(); a.Op != control.Delete && len(faults) > 0 {
		w.t.Fatalf("%s %s: %v", a.Op, h.Key(), faults)
	}
	if a.Op == control.Delete {
		w.rev++
		delete(w.store, h.Key())
		return
	}
	if a.Op == control.Rename {
		delete(w.store, at)
	}
	w.put(a.Object)
	w.checkVolumes(a.Object)
}

// checkVolumes checks that a new pod goes where its service's volumes are, unless it must not.
func (w *world) checkVolumes(r api.Resource) {
	w.t.Helper()
	pod, ok := r.(*api.Pod)
	if !ok || pod.Spec.Host == "" || pod.Metadata.Deleting || len(pod.Spec.Template.Volumes) == 0 {
		return
	}
	s, _ := w.store[api.Key{Kind: api.KindService, Project: "p", Name: pod.Spec.Service}].(*api.Service)
	volumes := string(s.Metadata.UID)
	if pod.Spec.Ordinal != nil {
		volumes += fmt.Sprint(".", *pod.Spec.Ordinal)
	} else if *s.Spec.Replicas != 1 {
		delete(w.data, volumes)
		return
	}
	was := w.data[volumes]
	h, _ := w.store[api.Key{Kind: api.KindHost, Name: was}].(*api.Host)
	if h != nil && !h.Metadata.Deleting && schedule.Meets(h, s.Spec.Placement.Require) && was != pod.Spec.Host {
		w.t.Fatalf("the volumes of %s are on %s, its pod is on %s", s.Key(), was, pod.Spec.Host)
	}
	w.data[volumes] = pod.Spec.Host
}

func list[T any, P interface {
	*T
	api.Resource
}](w *world) []T {
	var out []T
	for _, r := range w.store {
		if v, ok := r.(P); ok {
			out = append(out, *v)
		}
	}
	return out
}

// snapshot gives the lists in an order of chance.
func (w *world) snapshot() control.Snapshot {
	s := control.Snapshot{Now: w.now, Term: 1, Projects: list[api.Project](w), Services: list[api.Service](w),
		Pods: list[api.Pod](w), Hosts: list[api.Host](w), Aliases: list[api.Alias](w), Health: map[api.Name]control.Health{}}
	for name, a := range w.agents {
		s.Health[name] = control.Health{LeaseGood: a.up && a.reachable, MeshDown: !a.up || !a.reachable && !a.gossip}
	}
	return s
}

// tick lets every reachable agent take up what is desired and report.
func (w *world) tick() {
	w.now = w.now.Add(2 * time.Second)
	for _, name := range w.names(api.KindPod) {
		key := api.Key{Kind: api.KindPod, Project: "p", Name: name}
		if pod := w.store[key].(*api.Pod); pod.Spec.Host != "" {
			w.store[key] = w.reported(pod)
		}
	}
	for _, name := range w.names(api.KindHost) {
		if a := w.agents[name]; a.up && a.reachable {
			h := *w.store[api.Key{Kind: api.KindHost, Name: name}].(*api.Host)
			h.Status.Seen = w.now
			w.store[h.Key()] = &h
		}
	}
}

// reported gives the pod after its agent has seen to it.
func (w *world) reported(pod *api.Pod) *api.Pod {
	a := w.agents[pod.Spec.Host]
	if a == nil || !a.up || !a.reachable {
		return pod
	}
	out := *pod
	out.Status.Seen = w.now
	if pod.Metadata.Deleting {
		delete(a.pods, pod.Metadata.UID)
		out.Status = api.PodStatus{Phase: api.PhaseGone}
		return &out
	}
	r := a.pods[pod.Metadata.UID]
	if r == nil {
		r = &running{pod: pod, broken: w.rand.IntN(2)}
		a.pods[pod.Metadata.UID] = r
	}
	out.Status.Phase, out.Status.Ready = api.PhaseRunning, r.broken == 0 && pod.Spec.Template.Containers[0].Image != badImage
	r.broken = max(0, r.broken-1)
	return &out
}

// names lists the names of a kind, sorted, so that a seed gives the same walk each time.
func (w *world) names(k api.Kind) []api.Name {
	var out []api.Name
	for key := range w.store {
		if key.Kind == k {
			out = append(out, key.Name)
		}
	}
	slices.Sort(out)
	return out
}

// plan plans, checks the plan's form, and checks that the snapshot is left alone and that chance
// plays no part.
func (w *world) plan() []control.Action {
	w.t.Helper()
	s := w.snapshot()
	before, _ := json.Marshal(s)
	uids := w.uids
	acts := control.Plan(s, w.newUID)
	if after, _ := json.Marshal(s); string(before) != string(after) {
		w.t.Fatalf("the plan changed the snapshot:\n%s", cmp.Diff(string(before), string(after)))
	}
	w.uids = uids
	if diff := cmp.Diff(acts, control.Plan(w.snapshot(), w.newUID), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		w.t.Fatalf("the order of lists matters:\n%s", diff)
	}
	seen := map[api.Key]bool{}
	for _, a := range acts {
		key := a.Object.Head().Key()
		if seen[key] || a.Reason == "" || a.Why == "" {
			w.t.Fatalf("%s %s is planned twice, or without a reason: %+v", a.Op, key, a)
		}
		seen[key] = true
	}
	return acts
}

// settle plans and applies until nothing is left to do while the hosts stand still.
func (w *world) settle() {
	w.t.Helper()
	for range 30 {
		acts := w.plan()
		if len(acts) == 0 {
			return
		}
		w.checkPlan(acts)
		if w.rand.IntN(4) == 0 { // the master dies within
			acts = acts[:w.rand.IntN(len(acts)+1)]
		}
		for _, a := range acts {
			before := w.stateful()
			w.apply(a)
			w.checkStateful(before)
		}
	}
	w.t.Fatalf("the plans do not come to an end; the last one: %s", show(w.plan()))
}

func (w *world) checkRest() {
	w.t.Helper()
	s := w.snapshot()
	for i := range s.Services {
		svc := &s.Services[i]
		c, st := w.countOf(svc), control.NewView(s).ServiceStatus(svc)
		if want := *svc.Spec.Replicas; c.live != want || c.ready != want || c.leaving != 0 || st.Reason != "" || st.Ready != want {
			w.t.Errorf("%s rests with %+v, %d are wanted; status %+v", svc.Key(), c, want, st)
		}
		if svc.Metadata.Deleting {
			w.t.Errorf("%s is still there", svc.Key())
		}
	}
	for i := range s.Hosts {
		if st := control.NewView(s).HostStatus(&s.Hosts[i]); st.State != api.HostReady || s.Hosts[i].Metadata.Deleting {
			w.t.Errorf("%s rests as %+v", s.Hosts[i].Key(), st)
		}
	}
}

func show(acts []control.Action) string {
	var out string
	for _, a := range acts {
		m := a.Object.Head().Metadata
		out += fmt.Sprintf("%-6s %s", a.Op, a.Object.Head().Key())
		if m.Deleting {
			out += " deleting"
		}
		if a.Op == control.Rename {
			out += fmt.Sprintf(", which was %s,", a.From)
		}
		if pod, ok := a.Object.(*api.Pod); ok && a.Op != control.Delete {
			out += fmt.Sprintf(" on %q", pod.Spec.Host)
			if m.Labels[control.PinLabel] != "" {
				out += " pinned to " + m.Labels[control.PinLabel]
			}
		}
		out += fmt.Sprintf("\n       %s: %s\n", a.Reason, a.Why)
	}
	return out
}

package control_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gearmesh.dev/api"
	"gearmesh.dev/master/control"
	"gearmesh.dev/master/schedule"
)

// calmly gives a snapshot of hosts that are all ready, with nothing on them.
func calmly(hosts ...api.Host) control.Snapshot {
	s := control.Snapshot{Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), Term: 1, Hosts: hosts, Health: map[api.Name]control.Health{}}
	s.Projects = []api.Project{{Header: head(api.KindProject, "", "p")}}
	for i := range hosts {
		hosts[i].Status.Seen = s.Now
		s.Health[hosts[i].Metadata.Name] = control.Health{LeaseGood: true}
	}
	return s
}

func bigHost(name api.Name, zone string) api.Host {
	h := api.Host{Header: head(api.KindHost, "", name)}
	h.Metadata.Labels = map[string]string{"zone": zone}
	h.Status.Capacity = api.Resources{CPU: 4000, Memory: 1 << 30}
	return h
}

func movable(name api.Name, replicas int, cpu api.CPU) api.Service {
	s := api.Service{Header: head(api.KindService, "p", name)}
	s.Spec.Replicas, s.Spec.Placement.Rebalance = &replicas, true
	s.Spec.Containers = []api.Container{{Image: "registry.example.com/good:1", Resources: api.Resources{CPU: cpu}}}
	s.Default()
	return s
}

// balance is a cluster whose hosts do at once as they are told, and the leader's memory.
type balance struct {
	s     control.Snapshot
	rests *control.Rests
	uids  int
}

func newBalance(s control.Snapshot) *balance {
	b := &balance{s: s, rests: control.NewRests(s.Now)}
	b.rests.Look(control.NewView(b.s))
	b.rest()
	return b
}

func (b *balance) newUID() api.UID {
	b.uids++
	n, out := b.uids, []byte("baaaaaaaaaaaaaaa")
	for i := 1; i < 5; i++ {
		out[i] = "abcdefghijklmnopqrstuvwxyz234567"[n%32]
		n /= 32
	}
	return api.UID(out)
}

// rest lets the controllers come to rest.
func (b *balance) rest() {
	rounds := 0
	f := control.Foresee(b.s, b.newUID, func() bool { rounds++; return rounds < 500 })
	b.rests.Note(b.s.Now, f.Actions)
	b.s.Pods = f.End.Pods
}

// wait lets time pass.
func (b *balance) wait(d time.Duration) {
	b.s.Now = b.s.Now.Add(d)
	b.rests.Look(control.NewView(b.s))
}

// moves begins what moves are to begin, and gives the new pods.
func (b *balance) moves() []*api.Pod {
	var out []*api.Pod
	actions := control.NewView(b.s).Rebalance(b.rests, b.newUID)
	b.rests.Note(b.s.Now, actions)
	for _, a := range actions {
		p := *a.Object.(*api.Pod)
		p.Metadata.Revision = 1
		b.s.Pods = append(b.s.Pods, p)
		out = append(out, &p)
	}
	return out
}

func (b *balance) on(service api.Name) map[api.Name]int {
	out := map[api.Name]int{}
	for i := range b.s.Pods {
		if p := &b.s.Pods[i]; p.Spec.Service == service && !p.Metadata.Deleting {
			out[p.Spec.Host]++
		}
	}
	return out
}

func TestAHostThatComesIsFilled(t *testing.T) {
	b := newBalance(calmly(bigHost("h1", ""), bigHost("h2", "")))
	b.s.Services = []api.Service{movable("web", 3, 100)}
	b.rest()
	h3 := bigHost("h3", "")
	h3.Status.Seen = b.s.Now
	b.s.Hosts = append(b.s.Hosts, h3)
	b.s.Health["h3"] = control.Health{LeaseGood: true}
	b.wait(59 * time.Second)
	if list := b.moves(); len(list) != 0 {
		t.Fatalf("moved before the host had been ready for a minute: %+v", list[0].Spec)
	}
	b.wait(61 * time.Second)
	list := b.moves()
	if len(list) != 1 || list[0].Spec.Host != "h3" || list[0].Spec.Cause != api.ReasonRebalanced || list[0].Spec.Replaces == "" {
		t.Fatalf("moves: %+v", list)
	}
	if n := b.on("web"); n["h1"]+n["h2"] != 3 || n["h3"] != 1 {
		t.Fatalf("the old pod has ended before the new one is ready: %v", n)
	}
	b.wait(2 * time.Minute)
	if again := b.moves(); len(again) != 0 {
		t.Fatalf("a second move of a service whose first has not ended: %+v", again[0].Spec)
	}
	b.rest()
	if n := b.on("web"); n["h1"] != 1 || n["h2"] != 1 || n["h3"] != 1 {
		t.Fatalf("in the end: %v", n)
	}
	b.wait(2 * time.Minute)
	if again := b.moves(); len(again) != 0 {
		t.Fatalf("moved on: %+v", again[0].Spec)
	}
}

// TestWhatIsNotMoved takes a cluster in which a pod of web moves, and changes one thing each.
func TestWhatIsNotMoved(t *testing.T) {
	web := func(b *balance) *api.Service { return &b.s.Services[0] }
	for name, tc := range map[string]struct {
		change func(*balance)
		moves  int
	}{
		"nothing":   {func(*balance) {}, 1},
		"not asked": {func(b *balance) { web(b).Spec.Placement.Rebalance = false }, 0},
		"suspect":   {func(b *balance) { b.s.Health["h1"] = control.Health{LeaseGood: true, MeshDown: true} }, 0},
		"cordoned":  {func(b *balance) { b.s.Hosts[2].Spec.Cordoned = true }, 0},
		"not ready": {func(b *balance) { b.s.Pods[0].Status.Ready = false }, 0},
		"rolling":   {func(b *balance) { web(b).Spec.Env = map[string]string{"A": "1"} }, 0},
		"scaled":    {func(b *balance) { *web(b).Spec.Replicas = 4 }, 0},
		"volumes":   {func(b *balance) { web(b).Spec.Volumes = []api.Volume{{Name: "data"}} }, 0},
		"lost host": {func(b *balance) { b.s.Health["h3"] = control.Health{MeshDown: true} }, 0},
		"waits": {func(b *balance) {
			b.s.Pods = append(b.s.Pods, api.Pod{Spec: api.PodSpec{Placement: &api.Decision{Waits: "h1"}}})
		}, 0},
		"moved just now": {func(b *balance) {
			moved := b.s.Pods[0]
			moved.Spec.Cause = api.ReasonRebalanced
			b.rests.Note(b.s.Now.Add(-59*time.Second), []control.Action{{Op: control.Put, Object: &moved, Reason: api.ReasonRebalanced}})
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBalance(calmly(bigHost("h1", ""), bigHost("h2", ""), bigHost("h3", "")))
			b.s.Services = []api.Service{movable("web", 3, 100)}
			b.s.Hosts[2].Spec.Cordoned = true
			b.rest()
			b.s.Hosts[2].Spec.Cordoned = false
			b.wait(2 * time.Minute)
			tc.change(b)
			if list := b.moves(); len(list) != tc.moves {
				t.Errorf("%d moves, want %d", len(list), tc.moves)
			}
		})
	}
}

// TestAMoveThatFailsIsGivenUp has a new pod that does not become ready: it ends, the old one goes on, and the next try comes later.
func TestAMoveThatFailsIsGivenUp(t *testing.T) {
	b := newBalance(calmly(bigHost("h1", ""), bigHost("h2", "")))
	b.s.Services = []api.Service{movable("web", 2, 100)}
	b.s.Hosts[1].Spec.Cordoned = true
	b.rest()
	b.s.Hosts[1].Spec.Cordoned = false
	b.wait(2 * time.Minute)
	if len(b.moves()) != 1 {
		t.Fatal("nothing is moved")
	}
	b.wait(6 * time.Minute)
	actions := control.NewView(b.s).Rebalance(b.rests, b.newUID)
	if len(actions) != 1 || actions[0].Reason != api.ReasonMoveFailed || !actions[0].Object.Head().Metadata.Deleting || actions[0].Object.(*api.Pod).Spec.Host != "h2" {
		t.Fatalf("after the time of a move: %s", show(actions))
	}
	b.rests.Note(b.s.Now, actions)
	b.s.Pods[len(b.s.Pods)-1] = *actions[0].Object.(*api.Pod)
	b.rest()
	if n := b.on("web"); n["h1"] != 2 {
		t.Fatalf("the old pods do not go on: %v", n)
	}
	b.wait(90 * time.Second)
	if len(b.moves()) != 0 {
		t.Error("the next try comes as soon as if the first had not failed")
	}
	b.wait(60 * time.Second)
	if len(b.moves()) != 1 {
		t.Error("there is no next try")
	}
}

// TestMovesInTheClusterAreFew has many services that would all move.
func TestMovesInTheClusterAreFew(t *testing.T) {
	b := newBalance(calmly(bigHost("h1", ""), bigHost("h2", "")))
	for i := range 20 {
		b.s.Services = append(b.s.Services, movable(api.Name(fmt.Sprint("s", i)), 2, 50))
	}
	b.s.Hosts[1].Spec.Cordoned = true
	b.rest()
	b.s.Hosts[1].Spec.Cordoned = false
	b.wait(2 * time.Minute)
	if n := len(b.moves()); n != 4 {
		t.Errorf("%d moves begin at once, want 4", n)
	}
	if n := len(b.moves()); n != 0 {
		t.Errorf("%d more begin while those go on", n)
	}
}

// TestRebalancing checks on clusters of chance that each move makes the whole cluster better by one measure, breaks nothing that must be,
// leaves time between two moves of a service, and that moves come to an end.
func TestRebalancing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBalance(calmly(drawBigHosts(t)...))
		closed := rapid.IntRange(0, len(b.s.Hosts)-1).Draw(t, "closed")
		for i := range b.s.Hosts {
			b.s.Hosts[i].Spec.Cordoned = i < closed
		}
		b.s.Services = drawMovables(t)
		b.rest()
		for i := range b.s.Hosts {
			b.s.Hosts[i].Spec.Cordoned = false
		}
		for i := range b.s.Services { // deletions
			b.s.Services[i].Spec.Replicas = new(int)
			*b.s.Services[i].Spec.Replicas = rapid.IntRange(0, 6).Draw(t, "replicas then")
		}
		b.rest()
		b.untilRest(t)
	})
}

func (b *balance) untilRest(t *rapid.T) {
	last := map[api.Name]time.Time{}
	worth, broken := b.worth(), b.broken()
	for round := range 200 {
		b.wait(time.Duration(rapid.IntRange(5, 90).Draw(t, "seconds")) * time.Second)
		pods, placed := len(b.s.Pods), b.placed()
		list := b.moves()
		for _, p := range list {
			if was := last[p.Spec.Service]; b.s.Now.Sub(was) < time.Minute {
				t.Fatalf("%s is moved %s after its last move", p.Spec.Service, b.s.Now.Sub(was))
			}
			last[p.Spec.Service] = b.s.Now
		}
		if b.broken() > broken {
			t.Fatalf("%d rules are broken while both pods are there, %d were before", b.broken(), broken)
		}
		b.rest()
		if len(b.s.Pods) != pods {
			t.Fatalf("%d pods, %d were there before", len(b.s.Pods), pods)
		}
		next := b.worth()
		if b.placed() != placed { // a pod that waited has found room: nothing of that can be compared
			broken, worth = b.broken(), next
			continue
		}
		if b.broken() > broken {
			t.Fatalf("%d rules are broken after a move, %d were before", b.broken(), broken)
		}
		broken = b.broken()
		if d := compareWorth(next, worth); len(list) > 0 && d <= 0 {
			t.Fatalf("moves, of which the last is %+v, make the cluster no better: %+v, %+v before", list[len(list)-1].Spec.Placement.Reasons, next, worth)
		} else if len(list) == 0 && d != 0 {
			t.Fatalf("nothing moves, and yet %+v becomes %+v", worth, next)
		}
		worth = next
		if len(list) == 0 && round > 0 && b.idle(last) {
			return
		}
	}
	t.Fatal("the moves do not come to an end")
}

// placed counts the pods that have a host.
func (b *balance) placed() (n int) {
	for i := range b.s.Pods {
		if b.s.Pods[i].Spec.Host != "" {
			n++
		}
	}
	return n
}

// idle tells whether every service has rested.
func (b *balance) idle(last map[api.Name]time.Time) bool {
	for _, at := range last {
		if b.s.Now.Sub(at) < time.Minute {
			return false
		}
	}
	return b.s.Now.Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)) > 2*time.Minute
}

func drawBigHosts(t *rapid.T) []api.Host {
	out := make([]api.Host, rapid.IntRange(2, 6).Draw(t, "hosts"))
	for i := range out {
		out[i] = bigHost(api.Name(fmt.Sprint("h", i)), rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "zone"))
		out[i].Status.Capacity.CPU = api.CPU(rapid.IntRange(4, 40).Draw(t, "cpu") * 100)
	}
	return out
}

func drawMovables(t *rapid.T) []api.Service {
	names := []api.Name{"a", "b", "c", "d"}
	var out []api.Service
	for _, name := range names {
		s := movable(name, rapid.IntRange(0, 6).Draw(t, "replicas"), api.CPU(rapid.SampledFrom([]int{0, 0, 100, 300, 700}).Draw(t, "need")))
		s.Spec.Containers[0].Resources.Memory = api.Bytes(rapid.SampledFrom([]int{0, 0, 1 << 28}).Draw(t, "memory"))
		p := &s.Spec.Placement
		p.Rebalance = rapid.IntRange(0, 3).Draw(t, "rebalance") > 0
		p.Spread = rapid.SampledFrom([]string{"host", "zone"}).Draw(t, "spread")
		p.Pack = rapid.IntRange(0, 4).Draw(t, "pack") == 0
		p.MaxSkew = rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "skew")
		p.MaxPerHost = rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "most")
		p.Near, p.Apart = drawSome(t, names), drawSome(t, names)
		out = append(out, s)
	}
	return out
}

func drawSome(t *rapid.T, names []api.Name) []api.Neighbour {
	var out []api.Neighbour
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 2, rapid.ID).Draw(t, "neighbours") {
		out = append(out, api.Neighbour{Service: name, Within: rapid.SampledFrom([]string{"", "zone"}).Draw(t, "within"), Prefer: rapid.IntRange(0, 2).Draw(t, "prefer") > 0})
	}
	return out
}

// worth is what is good about a cluster as a whole, counted from its pods anew; larger is better.
type worth struct {
	met, spread, same int
	load              []int // of the hosts, the fullest first, negative
	pods              int
}

func compareWorth(a, b worth) int {
	return cmp.Or(cmp.Compare(a.met, b.met), cmp.Compare(a.spread, b.spread), cmp.Compare(a.same, b.same), slices.Compare(a.load, b.load), cmp.Compare(a.pods, b.pods))
}

func (b *balance) worth() (w worth) {
	for i := range b.s.Pods {
		p := &b.s.Pods[i]
		if p.Spec.Host == "" {
			continue
		}
		place := b.service(p.Spec.Service).Spec.Placement
		for _, n := range place.Near {
			if n.Prefer && b.others(p, n.Service, n.Label()) > 0 {
				w.met++
			}
		}
		for _, n := range place.Apart {
			if n.Prefer && b.others(p, n.Service, n.Label()) == 0 {
				w.met++
			}
		}
		if !place.Pack || place.Spread != api.HostLabel {
			w.spread -= b.others(p, p.Spec.Service, place.Spread)
		}
		if !place.Pack {
			w.same -= b.others(p, p.Spec.Service, api.HostLabel)
		}
	}
	for i := range b.s.Hosts {
		h, pods := &b.s.Hosts[i], 0
		var used api.Resources
		for j := range b.s.Pods {
			if p := &b.s.Pods[j]; p.Spec.Host == h.Metadata.Name {
				need := schedule.NeedOf(&p.Spec.Template)
				used.CPU, used.Memory = used.CPU+need.CPU, used.Memory+need.Memory
				pods++
			}
		}
		w.load = append(w.load, -max(int(used.CPU)*1000/int(h.Status.Capacity.CPU), int(used.Memory)*1000/int(h.Status.Capacity.Memory)))
		w.pods -= pods * pods
	}
	slices.Sort(w.load)
	return w
}

func (b *balance) service(name api.Name) *api.Service {
	return &b.s.Services[slices.IndexFunc(b.s.Services, func(s api.Service) bool { return s.Metadata.Name == name })]
}

func (b *balance) host(name api.Name) *api.Host {
	return &b.s.Hosts[slices.IndexFunc(b.s.Hosts, func(h api.Host) bool { return h.Metadata.Name == name })]
}

// others counts the pods of a service, but for p, that share a label with p.
func (b *balance) others(p *api.Pod, service api.Name, label string) int {
	n := 0
	for i := range b.s.Pods {
		o := &b.s.Pods[i]
		if o.Spec.Service == service && o.Metadata.UID != p.Metadata.UID && o.Spec.Host != "" &&
			schedule.LabelOf(b.host(o.Spec.Host), label) == schedule.LabelOf(b.host(p.Spec.Host), label) {
			n++
		}
	}
	return n
}

// broken counts what must be and is not.
func (b *balance) broken() (n int) {
	for i := range b.s.Pods {
		p := &b.s.Pods[i]
		if p.Spec.Host == "" {
			continue
		}
		place := b.service(p.Spec.Service).Spec.Placement
		for _, near := range place.Near {
			if !near.Prefer && b.others(p, near.Service, near.Label()) == 0 && near.Service != p.Spec.Service {
				n++
			}
		}
		for _, apart := range place.Apart {
			if !apart.Prefer && b.others(p, apart.Service, apart.Label()) > 0 {
				n++
			}
		}
		if place.MaxPerHost > 0 && b.others(p, p.Spec.Service, api.HostLabel) >= place.MaxPerHost {
			n++
		}
	}
	return n + b.skewed()
}

// skewed counts the values of labels that have more pods of a service than its bound allows.
func (b *balance) skewed() (n int) {
	for i := range b.s.Services {
		s := &b.s.Services[i]
		counts := map[string]int{}
		for j := range b.s.Hosts {
			counts[schedule.LabelOf(&b.s.Hosts[j], s.Spec.Placement.Spread)] += 0
		}
		for j := range b.s.Pods {
			if p := &b.s.Pods[j]; p.Spec.Service == s.Metadata.Name && p.Spec.Host != "" {
				counts[schedule.LabelOf(b.host(p.Spec.Host), s.Spec.Placement.Spread)]++
			}
		}
		least := 1 << 30
		for _, c := range counts {
			least = min(least, c)
		}
		for _, c := range counts {
			if s.Spec.Placement.MaxSkew > 0 && c-least > s.Spec.Placement.MaxSkew {
				n++
			}
		}
	}
	return n
}

// TestALargeClusterIsLookedThroughInParts has so many hosts that the service whose pod is to move is not looked at first.
func TestALargeClusterIsLookedThroughInParts(t *testing.T) {
	var list []api.Host
	for i := range 5000 {
		list = append(list, bigHost(api.Name(fmt.Sprint("h", i)), ""))
	}
	b := newBalance(calmly(list...))
	for i := range 50 {
		b.s.Services = append(b.s.Services, movable(api.Name(fmt.Sprint("s", 10+i)), 50, 0))
	}
	for i := range 50 * 50 {
		s := &b.s.Services[i%50]
		p := api.Pod{Header: head(api.KindPod, "p", api.Name(fmt.Sprint(s.Metadata.Name, "-", i)))}
		p.Metadata.UID = b.newUID()
		p.Spec = api.PodSpec{Service: s.Metadata.Name, Hash: control.TemplateHash(&s.Spec.PodTemplate), Template: s.Spec.PodTemplate, Host: list[i].Metadata.Name}
		p.Status = api.PodStatus{Phase: api.PhaseRunning, Ready: true}
		b.s.Pods = append(b.s.Pods, p)
	}
	last := b.on("s59")
	for i := range b.s.Pods { // two of the last service on one host
		if p := &b.s.Pods[i]; p.Spec.Service == "s59" && i > 50 {
			p.Spec.Host = b.s.Pods[49].Spec.Host
			break
		}
	}
	if len(last) != 50 || len(b.on("s59")) != 49 {
		t.Fatalf("the scene is wrong: %v", b.on("s59"))
	}
	b.wait(2 * time.Minute)
	for range 4 {
		if list := b.moves(); len(list) > 0 {
			if list[0].Spec.Service != "s59" || len(list) > 1 {
				t.Fatalf("%d moves, the first of %s", len(list), list[0].Spec.Service)
			}
			return
		}
	}
	t.Error("the last service is never looked at")
}

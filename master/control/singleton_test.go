package control_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/control"
)

func singleton(s *api.Service) { s.Spec.Singleton = true }

func fenced(p *api.Pod) { p.Spec.Fence = 41 }

func doomed(p *api.Pod) { p.Metadata.Deleting = true }

// silentHost makes a host one that has not reported for its lease, and lapsed when no singleton can run there any more.
func silentHost(name api.Name, lapsed bool) func(*scene) {
	return func(c *scene) { c.Health[name] = control.Health{Lapsed: lapsed} }
}

func (c *scene) plan() []control.Action { return control.Plan(c.Snapshot, c.newUID) }

// made gives the pods that a plan makes, and marked those that it marks.
func sorted(acts []control.Action) (made, marked []*api.Pod) {
	for _, a := range acts {
		if p, ok := a.Object.(*api.Pod); ok && a.Op == control.Put {
			if p.Metadata.Deleting {
				marked = append(marked, p)
			} else if p.Metadata.Revision == 0 {
				made = append(made, p)
			}
		}
	}
	return made, marked
}

func TestSingletons(t *testing.T) {
	one := service("mail", 1, singleton)
	for name, tc := range map[string]struct {
		scene        *scene
		made, marked int
	}{
		"the first":                          {newScene(one), 1, 0},
		"as wanted":                          {newScene(one, pod("mail", "mail-1", "h1", fenced)), 0, 0},
		"its host is silent":                 {newScene(one, pod("mail", "mail-1", "h1", fenced), silentHost("h1", false)), 0, 0},
		"lost by the mesh too":               {newScene(one, pod("mail", "mail-1", "h1", fenced), func(c *scene) { c.Health["h1"] = control.Health{MeshDown: true} }), 0, 0},
		"silent for long enough":             {newScene(one, pod("mail", "mail-1", "h1", fenced), silentHost("h1", true)), 0, 1},
		"and marked":                         {newScene(one, pod("mail", "mail-1", "h1", fenced, doomed), silentHost("h1", true)), 1, 0},
		"marked, and its host is back":       {newScene(one, pod("mail", "mail-1", "h1", fenced, doomed)), 0, 0},
		"deleted by hand, its host silent":   {newScene(one, pod("mail", "mail-1", "h1", fenced, doomed), silentHost("h1", false)), 0, 0},
		"gone":                               {newScene(one, pod("mail", "mail-1", "h1", fenced, doomed, func(p *api.Pod) { p.Status = api.PodStatus{Phase: api.PhaseGone} })), 1, 0},
		"its host expelled":                  {newScene(one, pod("mail", "mail-1", "h1", fenced), hosts(banned, "h1"), silentHost("h1", false)), 0, 0},
		"expelled for long enough":           {newScene(one, pod("mail", "mail-1", "h1", fenced), hosts(banned, "h1"), silentHost("h1", true)), 1, 0},
		"its host deleted":                   {newScene(one, pod("mail", "mail-1", "h9", fenced)), 1, 0},
		"one without a token is never given": {newScene(one, pod("mail", "mail-1", "h1", doomed), silentHost("h1", true)), 0, 0},
		"no other host has room": {newScene(one, pod("mail", "mail-1", "h1", fenced), silentHost("h1", true), func(c *scene) {
			c.Hosts[1].Spec.Cordoned, c.Hosts[2].Spec.Cordoned = true, true
		}), 0, 0},
		"most hosts vanished": {newScene(one, pod("mail", "mail-1", "h1", fenced), silentHost("h1", true), silentHost("h2", true)), 0, 0},
		"a new template": {newScene(one, pod("mail", "mail-1", "h1", fenced), func(c *scene) {
			c.Services[0].Spec.Containers = []api.Container{{Name: "main", Image: "web:2"}}
		}), 0, 1},
		"drained":               {newScene(one, pod("mail", "mail-1", "h1", fenced), func(c *scene) { c.Hosts[0].Spec.Drain = true }), 0, 1},
		"was none until now":    {newScene(one, pod("mail", "mail-1", "h1")), 0, 1},
		"stopped by replicas 0": {newScene(service("mail", 0, singleton), pod("mail", "mail-1", "h1", fenced)), 0, 1},
	} {
		made, marked := sorted(tc.scene.plan())
		if len(made) != tc.made || len(marked) != tc.marked {
			t.Errorf("%s: %d made and %d marked, want %d and %d:\n%s", name, len(made), len(marked), tc.made, tc.marked, show(tc.scene.plan()))
		}
		for _, p := range made {
			if !p.Singleton() {
				t.Errorf("%s: %s has no fencing token", name, p.Metadata.Name)
			}
		}
	}
}

func TestFencingTokensGrow(t *testing.T) {
	for _, now := range []int64{0, 41, 42, 1000} {
		c := newScene(service("mail", 1, singleton), pod("mail", "mail-1", "h1", fenced, doomed), silentHost("h1", true))
		c.Fence = now
		made, _ := sorted(c.plan())
		if len(made) != 1 || made[0].Spec.Fence <= 41 || made[0].Spec.Fence < now {
			t.Errorf("after 41, at %d: %+v", now, made)
		}
	}
}

func TestSingletonsSayWhatTheyWaitFor(t *testing.T) {
	for name, tc := range map[string]struct {
		scene *scene
		want  string
	}{
		"silent": {newScene(service("mail", 1, singleton), pod("mail", "mail-1", "h1", fenced), silentHost("h1", false)),
			"its host h1 has not reported for 1s; its timer ends it there, and it is started elsewhere 18s after the host was last heard of"},
		"lapsed": {newScene(service("mail", 1, singleton), pod("mail", "mail-1", "h1", fenced), silentHost("h1", true)),
			"its host h1 has not reported for 1s; its timer has ended it there, and it is started elsewhere as soon as another host has room"},
	} {
		if got := control.NewView(tc.scene.Snapshot).PodStatus(&tc.scene.Pods[0]); got.Message != tc.want {
			t.Errorf("%s: %q", name, got.Message)
		}
	}
	c := newScene(service("mail", 1, singleton), pod("mail", "mail-1", "h1", fenced, doomed))
	if got := control.NewView(c.Snapshot).ServiceStatus(&c.Services[0]); got.Message != "pod mail-1 must end on host h1 first, since there is never a second one" {
		t.Errorf("%q", got.Message)
	}
}

// life is one host of TestNeverTwo: its agent, and systemd with the dead-man timers. Its clock runs at a rate of its own.
type life struct {
	rate     float64               // of its clock
	link     bool                  // master and host hear each other
	asleep   time.Time             // its agent stands still until then
	timers   map[api.UID]time.Time // when they elapse, by the world's clock
	ends     map[api.UID]time.Time // when what runs is killed; zero: it is not asked to end
	sent     time.Time
	answered []api.UID
	arrives  time.Time // the answer; zero: there is none under way
}

// TestNeverTwo lets chance cut hosts off, stop agents, delay answers and change leaders, plays agents, timers and the
// master's bookkeeping by the times of package api, and sees at each step of 100 ms that at most one pod of each identity runs,
// and that none is made before.
func TestNeverTwo(t *testing.T) {
	for kind, c := range map[string]struct {
		of    func(*scene)
		seeds uint64
	}{
		"singleton": {service("mail", 1, singleton), 60},
		"parallel":  {service("mail", 3, identity(api.IdentityParallel)), 30},
		"ordered":   {service("mail", 3, identity(api.IdentityOrdered)), 30},
	} {
		failovers := 0
		for seed := range c.seeds {
			t.Run(fmt.Sprint(kind, ",seed=", seed), func(t *testing.T) { failovers += neverTwo(t, seed, c.of) })
		}
		if failovers < 100 {
			t.Errorf("%s: only %d pods were replaced; this test shows little", kind, failovers)
		}
	}
}

func neverTwo(t *testing.T, seed uint64, of func(*scene)) (failovers int) {
	w := newLives(t, seed, of)
	for range 6000 { // ten minutes
		w.happen()
		w.plan()
		for _, h := range w.names() {
			w.live(h)
		}
		for who, n := range w.running() {
			if n > 1 {
				t.Fatalf("at %s %d pods run of %s", w.now.Sub(noon), n, who)
			}
		}
		w.now = w.now.Add(100 * time.Millisecond)
	}
	return w.failovers
}

// lives is a cluster of one service whose pods run by leases.
type lives struct {
	t *testing.T
	*scene
	rand      *rand.Rand
	now       time.Time
	rev       int64
	hosts     map[api.Name]*life
	noted     map[api.Name]time.Time // the last report of each host that this leader has noted
	since     time.Time              // it leads
	failovers int
	who       map[api.UID]api.Name // whose place each pod has: its identity, or its service
}

func newLives(t *testing.T, seed uint64, of func(*scene)) *lives {
	w := &lives{t: t, scene: newScene(of), rand: rand.New(rand.NewPCG(seed, 1)), now: noon, since: noon, rev: 100,
		hosts: map[api.Name]*life{}, noted: map[api.Name]time.Time{}, who: map[api.UID]api.Name{}}
	for i := range w.Hosts {
		// Clocks are wrong by up to 1 %, far more than any crystal is.
		w.hosts[w.Hosts[i].Metadata.Name] = &life{rate: 0.99 + 0.02*w.rand.Float64(), link: true, timers: map[api.UID]time.Time{}, ends: map[api.UID]time.Time{}}
	}
	return w
}

func (w *lives) names() []api.Name { return []api.Name{"h1", "h2", "h3"} }

func (w *lives) happen() {
	h := w.hosts[w.names()[w.rand.IntN(3)]]
	switch n := w.rand.IntN(2000); {
	case n < 4:
		h.link = false
	case n < 20:
		h.link = true
	case n < 24:
		h.asleep = w.now.Add(time.Duration(w.rand.Int64N(int64(40 * time.Second))))
	case n < 26: // another leads, and has heard nobody yet
		w.noted, w.since = map[api.Name]time.Time{}, w.now
	case n < 28 && len(w.Pods) > 0: // by hand
		w.Pods[w.rand.IntN(len(w.Pods))].Metadata.Deleting = true
	case n < 30: // a new template
		w.Services[0].Spec.Containers = []api.Container{{Name: "main", Image: fmt.Sprint("mail:", w.rand.IntN(9)), StopGrace: api.Duration(api.SingletonGrace)}}
	}
}

// plan is a pass of the controllers, now and then cut short.
func (w *lives) plan() {
	w.Now, w.Fence = w.now, w.rev
	for _, h := range w.names() {
		from := w.since
		if at := w.noted[h]; at.After(from) {
			from = at
		}
		silent := w.now.Sub(from)
		w.Health[h] = control.Health{LeaseGood: silent < 8*time.Second, Lapsed: silent >= api.SingletonSilence}
	}
	acts := w.scene.plan()
	if len(acts) > 0 && w.rand.IntN(4) == 0 {
		acts = acts[:w.rand.IntN(len(acts))]
	}
	w.returnNow(acts)
	for _, a := range acts {
		w.write(a)
	}
}

// returnNow lets a host report again, now and then, when its pod has been given up but the mark is not in the store yet: it is
// then answered with a lease.
func (w *lives) returnNow(acts []control.Action) {
	for _, a := range acts {
		p, ok := a.Object.(*api.Pod)
		if !ok || !p.Metadata.Deleting || p.Spec.Ending != api.ReasonHostLost || w.rand.IntN(4) > 0 {
			continue
		}
		if h := w.hosts[p.Spec.Host]; h.arrives.IsZero() && !w.now.Before(h.asleep) {
			h.link = true
			w.report(p.Spec.Host, h)
		}
	}
}

func (w *lives) write(a control.Action) {
	p, ok := a.Object.(*api.Pod)
	if !ok {
		return
	}
	w.rev++
	key, known := p.Key(), w.who[p.Metadata.UID] != ""
	if a.Op == control.Rename {
		key = a.From
	}
	if !known {
		w.born(p)
	}
	i := slices.IndexFunc(w.Pods, func(o api.Pod) bool { return o.Key() == key })
	if a.Op == control.Delete {
		w.Pods = slices.Delete(slices.Clone(w.Pods), i, i+1)
		return
	}
	next := *p
	if next.Metadata.Revision = w.rev; i >= 0 {
		w.Pods[i] = next
		return
	}
	w.Pods = append(w.Pods, next)
}

// born checks that a pod is made when no other one of its identity may run, and, in an ordered service, all before it are ready.
func (w *lives) born(p *api.Pod) {
	who := p.Spec.Service
	if p.Spec.Ordinal != nil {
		who = p.HeldName()
	}
	if n := w.running()[who]; n > 0 {
		w.t.Fatalf("at %s a pod is made while %d of %s may run", w.now.Sub(noon), n, who)
	}
	if p.Spec.Cause == api.ReasonHostLost {
		w.failovers++
	}
	if w.Services[0].Spec.Identity == api.IdentityOrdered {
		if ready := readyBelow(w.Pods, *p.Spec.Ordinal); ready != *p.Spec.Ordinal {
			w.t.Fatalf("at %s %s is made while %d before it are ready", w.now.Sub(noon), who, ready)
		}
	}
	w.who[p.Metadata.UID] = who
}

// readyBelow counts the pods with lower numbers that are ready.
func readyBelow(pods []api.Pod, ordinal int) int {
	n := 0
	for _, p := range pods {
		if !p.Metadata.Deleting && p.Spec.Ordinal != nil && *p.Spec.Ordinal < ordinal && p.Status.Ready {
			n++
		}
	}
	return n
}

// live is one step of a host: first systemd, which never stands still, then its agent.
func (w *lives) live(name api.Name) {
	h := w.hosts[name]
	for uid, at := range h.timers {
		if !w.now.Before(at) {
			delete(h.timers, uid)
			h.end(uid, w.now, api.SingletonStop)
		}
	}
	for uid, at := range h.ends {
		if !at.IsZero() && !w.now.Before(at) {
			delete(h.ends, uid)
		}
	}
	if w.now.Before(h.asleep) {
		return
	}
	w.answer(name, h)
	if h.arrives.IsZero() && w.now.Sub(h.sent) >= 2*time.Second {
		w.report(name, h)
	}
}

func (h *life) end(uid api.UID, now time.Time, within time.Duration) {
	if at, runs := h.ends[uid]; runs && at.IsZero() {
		h.ends[uid] = now.Add(within)
	}
}

// report sends a report. The master may note it and its answer be lost, or arrive late.
func (w *lives) report(name api.Name, h *life) {
	h.sent, h.answered = w.now, nil
	if h.link {
		w.noted[name] = w.now
		for i := range w.Pods {
			switch p := &w.Pods[i]; {
			case p.Spec.Host != name:
			case !p.Metadata.Deleting:
				at, runs := h.ends[p.Metadata.UID]
				p.Status.Phase, p.Status.Ready = api.PhaseRunning, runs && at.IsZero()
				h.answered = append(h.answered, p.Metadata.UID)
			default: // the stream tells it
				h.end(p.Metadata.UID, w.now, api.SingletonGrace)
				if _, runs := h.ends[p.Metadata.UID]; !runs {
					p.Status.Phase = api.PhaseGone
				}
			}
		}
	}
	h.arrives = w.now.Add(time.Duration(w.rand.Int64N(int64(3 * time.Second))))
}

// answer takes in the answer to the last report: timers are set anew, and what does not run is started.
func (w *lives) answer(_ api.Name, h *life) {
	if h.arrives.IsZero() || w.now.Before(h.arrives) {
		return
	}
	h.arrives = time.Time{}
	if w.now.Sub(h.sent) > api.SingletonAnswer {
		return
	}
	for _, uid := range h.answered {
		h.timers[uid] = w.now.Add(time.Duration(float64(api.SingletonLease)/h.rate) + 100*time.Millisecond)
		if at, runs := h.ends[uid]; !runs || at.IsZero() {
			h.ends[uid] = time.Time{}
		}
	}
}

// running counts the pods of each identity that have not been killed.
func (w *lives) running() map[api.Name]int {
	out := map[api.Name]int{}
	for _, h := range w.hosts {
		for uid := range h.ends {
			out[w.who[uid]]++
		}
	}
	return out
}

package master

import (
	"math/rand/v2"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/control"
)

// beat sends a heartbeat.
func (u *user) beat(mark api.Name) answer {
	u.c.t.Helper()
	return u.do("PUT", "/v1/hosts/"+string(u.name)+"/heartbeat/"+string(mark), nil)
}

// mark reports, and gives what stands for the report.
func (u *user) mark(r api.HostReport) api.Name {
	u.c.t.Helper()
	return read[api.ReportAnswer](u.c.t, u.must("PUT", "/v1/hosts/"+string(u.name)+"/report", r, http.StatusOK)).Mark
}

// TestAHeartbeatStandsForAReport: as long as the report holds, as far as this master knows, and for this host alone.
func TestAHeartbeatStandsForAReport(t *testing.T) {
	c := startCluster(t)
	h1, h2 := c.join("h1", "10.0.0.1"), c.join("h2", "10.0.0.2")
	mark := h1.mark(h1.report())
	want := func(u *user, mark api.Name, status int) answer {
		t.Helper()
		a := u.beat(mark)
		if a.status != status {
			t.Errorf("a heartbeat of %s with the mark %q: %d %s, want %d", u.name, mark, a.status, a.body, status)
		}
		return a
	}
	seen := c.m.pulses.seen("h1")
	want(h1, mark, http.StatusNoContent)
	if !c.m.pulses.seen("h1").After(seen) {
		t.Error("the host was not heard of")
	}
	want(h2, mark, http.StatusConflict) // it has not reported
	h2.tell(h2.report())
	want(h2, mark, http.StatusConflict)
	for _, bad := range []api.Name{"0", "no-mark", mark + "0"} {
		want(h1, bad, http.StatusConflict)
	}
	if h1.mark(h1.report()) != mark {
		t.Error("the same report has another mark")
	}
	r := h1.report()
	r.MeshDown = []api.Name{"h2"}
	if h1.mark(r) == mark {
		t.Error("another report has the same mark")
	}
	want(h1, mark, http.StatusConflict)

	mark = h1.mark(h1.report())
	pod := c.mail() // on one of the two: from here on its report is read anew
	on, other := h1, h2
	if pod.Spec.Host == "h2" {
		on, other = h2, h1
	}
	marks := map[*user]api.Name{h1: mark, h2: h2.mark(h2.report())}
	want(other, marks[other], http.StatusNoContent)
	if on == h1 {
		want(h1, mark, http.StatusConflict)
	}
	a := want(on, on.mark(on.report()), http.StatusOK)
	if got := read[api.ReportAnswer](t, a); len(got.Leases) != 1 || got.Leases[0] != pod.Metadata.UID {
		t.Errorf("a heartbeat is answered with %+v; its host has the singleton %s", got, pod.Metadata.UID)
	}
}

// TestHostsOfALargeClusterReportRarely: unless they have singletons, and the master asks for what it must know.
func TestHostsOfALargeClusterReportRarely(t *testing.T) {
	c := startCluster(t)
	h1, h2 := c.join("h1", "10.0.0.1"), c.join("h2", "10.0.0.2")
	old, paced := h1.stream("/v1/hosts/h1/desired"), h1.streamWith(http.Header{api.PacedHeader: {"1"}}, "/v1/hosts/h1/desired")
	for _, s := range []*lines{old, paced} {
		if p := (api.Patch{}); !s.next(&p) || p.Every != 0 || p.Report {
			t.Errorf("the stream of a small cluster begins with %+v", p)
		}
	}
	h1.tell(h1.report())
	c.m.pulses.mu.Lock() // as if there were 5,000 hosts; health says otherwise each second
	c.m.pulses.last["h1"] = pulse{at: time.Now(), every: api.ReportEveryMost}
	c.m.pulses.mu.Unlock()
	c.until("the stream to say that it may be silent", func() bool {
		c.m.pulses.every.Store(int64(api.ReportEveryMost))
		h1.tell(h1.report())
		c.m.cache.signals.wake("h1")
		var p api.Patch
		return paced.next(&p) && p.Every.Std() == rareAlive*api.ReportEveryMost
	})
	r := h2.report()
	r.MeshDown = []api.Name{"h1"}
	c.until("the host to be asked", func() bool {
		c.m.pulses.mu.Lock()
		c.m.pulses.last["h1"] = pulse{at: time.Now(), every: api.ReportEveryMost}
		c.m.pulses.mu.Unlock()
		h2.tell(h2.report())
		h2.tell(r)
		var p api.Patch
		return old.next(&p) && p.Report
	})
	if a := read[api.ReportAnswer](t, h1.must("PUT", "/v1/hosts/h1/report", h1.report(), http.StatusOK)); a.Every.Std() != api.ReportEvery {
		t.Errorf("a host of which others say that it is down may wait %s", a.Every)
	}
}

func TestReportEvery(t *testing.T) {
	last := time.Duration(0)
	for n := range 20_000 {
		every := reportEvery(n)
		switch {
		case every < last || every < api.ReportEvery || every > api.ReportEveryMost:
			t.Fatalf("%d hosts report every %s, and fewer every %s", n, every, last)
		case n < 480 && every != api.ReportEvery, n == 5000 && every != api.ReportEveryMost:
			t.Fatalf("%d hosts report every %s", n, every)
		}
		last = every
	}
}

// model is hosts and the one or other leader, with a network that loses what it likes.
type model struct {
	t      *testing.T
	rand   *rand.Rand
	p      *pulses
	names  []api.Host // as many as the cluster may have; the first few are alive
	size   int
	led    time.Time // when the leader began
	sized  time.Time // when the cluster grew or shrank
	agents map[api.Name]*modelHost
}

// modelHost is a host as it really is.
type modelHost struct {
	dead      time.Time  // since when; zero while it is alive
	next      time.Time  // when it reports
	lossy     time.Time  // until when its reports and their answers may get lost
	singleton bool       // the master has assigned one to it
	assigned  time.Time  // when
	runs      time.Time  // until when its timer lets the singleton run
	heard     time.Time  // when the leader noted a report
	unseen    bool       // the mesh does not notice that it is dead: only its reports do not come
	calls     []api.Name // whom it called down in that report
	good      bool       // the leader counts on it
	accused   time.Time  // since when one that the leader counts on calls it down; zero when none does
	asked     time.Time  // when it was asked last
}

const modelHosts = 5

func newModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, rand: rand.New(rand.NewPCG(seed, 0)), p: &pulses{}, size: 5000, agents: map[api.Name]*modelHost{}}
	for i := range 5000 {
		m.names = append(m.names, hostsNamed(numbered("h", i))...)
	}
	for _, h := range m.names[:modelHosts] {
		m.agents[h.Metadata.Name] = &modelHost{next: time.Now()}
	}
	m.lead()
	return m
}

// lead lets another leader begin: nobody has been heard of.
func (m *model) lead() {
	m.p.restart()
	m.led = time.Now()
	for _, a := range m.agents {
		a.calls = nil
		a.next = time.Now().Add(m.upTo(2 * time.Second)) // its stream ends, and it reports when it has another
	}
}

func (m *model) upTo(d time.Duration) time.Duration { return time.Duration(m.rand.Int64N(int64(d))) }

func (m *model) sometimes(in int) bool { return m.rand.IntN(in) == 0 }

// report lets a host report, with what becomes of it on the way.
func (m *model) report(name api.Name, a *modelHost, down []api.Name) {
	now := time.Now()
	lossy := now.Before(a.lossy)
	a.next = now.Add(2*api.ReportEvery + api.ReportEvery) // no answer comes in time: it tries again
	if lossy && m.sometimes(2) {
		return
	}
	m.p.note(name, down, stamp{})
	a.heard, a.calls = now, down
	every, _ := m.p.tell(name, a.singleton)
	if lossy && m.sometimes(2) {
		return
	}
	a.next = now.Add(api.ReportWait(every, a.singleton))
	if a.singleton {
		a.runs = now.Add(api.SingletonAnswer + api.SingletonLease + api.SingletonStop)
	}
}

// change does something to the world.
func (m *model) change() {
	now := time.Now()
	name := m.names[m.rand.IntN(modelHosts)].Metadata.Name
	a := m.agents[name]
	switch m.rand.IntN(9) {
	case 0:
		m.lead()
	case 1:
		m.size, m.sized = []int{modelHosts, 700, 2000, 5000}[m.rand.IntN(4)], now
	case 2, 3:
		a.lossy = now.Add(m.upTo(30 * time.Second))
	case 4:
		if a.singleton = !a.singleton; a.singleton {
			a.assigned = now
			a.next = now // it hears of the pod, and asks for its lease
		}
	case 5, 6, 7:
		if a.dead.IsZero() {
			a.dead, a.unseen = now, m.sometimes(3)
		} else {
			a.dead, a.next = time.Time{}, now
		}
	}
}

// downFor gives whom a host calls down: those of which the mesh of the living has noticed that they are dead, and now and then one that lives.
func (m *model) downFor(host api.Name) (down []api.Name) {
	for _, h := range m.names[:modelHosts] {
		name := h.Metadata.Name
		a := m.agents[name]
		found := !a.dead.IsZero() && !a.unseen && time.Since(a.dead) > 9*time.Second
		if name != host && (found || m.sometimes(50)) {
			down = append(down, name)
		}
	}
	return down
}

// step is a moment of the world and of the leader.
func (m *model) step() {
	for _, h := range m.names[:modelHosts] {
		name := h.Metadata.Name
		a := m.agents[name]
		asked := m.p.askedOf(name)
		if a.dead.IsZero() && (!time.Now().Before(a.next) || asked != a.asked && !asked.IsZero()) {
			a.asked = asked
			m.report(name, a, m.downFor(name))
		}
	}
	leased := map[api.Name]bool{}
	for name, a := range m.agents {
		leased[name] = a.singleton
	}
	m.accuse()
	m.p.overdue(leased)
	m.judge(m.p.health(m.names[:m.size], time.Now()))
}

// accuse notes who is called down.
func (m *model) accuse() {
	accused := map[api.Name]bool{}
	for _, a := range m.agents {
		for _, down := range a.calls {
			accused[down] = accused[down] || a.good
		}
	}
	for name, a := range m.agents {
		switch {
		case !accused[name]:
			a.accused = time.Time{}
		case a.accused.IsZero():
			a.accused = time.Now()
		}
	}
}

// tick is the time between two steps.
const tick = 250 * time.Millisecond

// judge compares what the leader believes with what is.
func (m *model) judge(health map[api.Name]control.Health) {
	now := time.Now()
	late := func(from, other time.Time, time time.Duration) bool {
		return now.Sub(newer(newer(from, other), m.sized)) > time+2*tick
	}
	for name, a := range m.agents {
		h := health[name]
		a.good = h.LeaseGood
		heard := newer(a.heard, m.led)
		switch {
		case h.Lapsed && now.Before(a.runs):
			m.t.Fatalf("%s is taken for lapsed, and its singleton may run for another %s", name, a.runs.Sub(now))
		case h.Lapsed && h.LeaseGood:
			m.t.Fatalf("%s is lapsed, and its lease is good", name)
		case !h.LeaseGood && now.Sub(heard) < leaseTime:
			m.t.Fatalf("the lease of %s has run out %s after its report", name, now.Sub(heard))
		case !h.LeaseGood && a.dead.IsZero() && now.After(a.lossy.Add(api.ReportEveryMost)) && now.Sub(m.led) > leaseTime:
			m.t.Fatalf("the lease of %s has run out, though it reports as it was told, and nothing gets lost", name)
		case h.LeaseGood && now.Sub(heard) > api.ReportEveryMost+leaseSlack:
			m.t.Fatalf("the lease of %s is good %s after its report", name, now.Sub(heard))
		case h.LeaseGood && !a.accused.IsZero() && now.Sub(heard) > leaseTime && late(a.accused, heard, askTime):
			m.t.Fatalf("the lease of %s is good %s after others called it down, and %s after its report", name, now.Sub(a.accused), now.Sub(heard))
		case h.LeaseGood && a.singleton && now.Sub(heard) > leaseTime && late(a.assigned, heard, askTime):
			m.t.Fatalf("the lease of %s is good %s after its report, and it has a singleton", name, now.Sub(heard))
		}
	}
}

func newer(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// TestLeasesOfRareReports goes at random through losses, deaths, changes of the leader and of the size of the cluster: a singleton is never
// taken for ended while its timer may let it run, who does as it is told keeps its lease, and who does not loses it in time.
func TestLeasesOfRareReports(t *testing.T) {
	for range 6 {
		seed := rand.Uint64()
		synctest.Test(t, func(t *testing.T) {
			t.Logf("seed %d", seed)
			m := newModel(t, seed)
			for range 500 {
				if m.sometimes(25) {
					m.change()
				}
				m.step()
				time.Sleep(tick)
			}
		})
	}
}

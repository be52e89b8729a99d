package master

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/control"
	"gearmesh.dev/master/store"
)

func hostsNamed(names ...api.Name) []api.Host {
	var out []api.Host
	for _, n := range names {
		h := api.New(api.KindHost).(*api.Host)
		h.Metadata.Name, h.Status.Seen = n, time.Unix(1, 0)
		out = append(out, *h)
	}
	return out
}

func TestLeasesRunOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pulses{}
		p.restart()
		hosts := hostsNamed("a", "b")
		good := func(a, b bool) {
			t.Helper()
			got := p.health(hosts, time.Now())
			if got["a"].LeaseGood != a || got["b"].LeaseGood != b {
				t.Errorf("got %+v", got)
			}
		}
		good(true, true) // a new leader has heard nobody yet
		if p.health(append(hosts, *api.New(api.KindHost).(*api.Host)), time.Now())[""].LeaseGood {
			t.Error("a host that has never reported has a lease")
		}
		time.Sleep(leaseTime - time.Second)
		p.note("a", nil, stamp{})
		good(true, true)
		time.Sleep(time.Second)
		good(true, false)
		time.Sleep(leaseTime)
		good(false, false)
		for _, want := range []bool{true, false} {
			if news, _ := p.note("b", nil, stamp{}); news != want {
				t.Errorf("coming back is news, a heartbeat is none; got %v", news)
			}
		}
		good(false, true)
		p.restart()
		good(true, true)
	})
}

func TestTheMeshIsAMajority(t *testing.T) {
	p := &pulses{}
	p.restart()
	hosts := hostsNamed("a", "b", "c", "d")
	for _, test := range []struct {
		voter api.Name
		down  []api.Name
		want  map[api.Name]bool
	}{
		{"a", []api.Name{"d", "a"}, map[api.Name]bool{"d": true}}, // alone with its view; never of itself
		{"b", nil, map[api.Name]bool{}},                           // one of two is no majority
		{"c", []api.Name{"d"}, map[api.Name]bool{"d": true}},
		{"d", []api.Name{"a", "b", "c"}, map[api.Name]bool{"d": true}}, // cut off: it sees all others down
	} {
		p.note(test.voter, test.down, stamp{})
		got := p.health(hosts, time.Now())
		for _, h := range hosts {
			if n := h.Metadata.Name; got[n].MeshDown != test.want[n] {
				t.Errorf("after %s: %s is %+v", test.voter, n, got[n])
			}
		}
	}
}

// TestALostHostIsToldToWatches takes a host from ready to lost by time alone.
func TestALostHostIsToldToWatches(t *testing.T) {
	c := startCluster(t)
	h1, h2 := c.join("h1", "10.0.0.1"), c.join("h2", "10.0.0.2")
	h1.tell(h1.report())
	h2.tell(h2.report())
	w := c.ann().stream("/v1/watch?kinds=hosts")
	w.await(func(l line) bool { return l.Type == api.EventSync })
	c.m.pulses.mu.Lock() // as if the time had passed
	c.m.pulses.since = time.Now().Add(-time.Hour)
	c.m.pulses.last["h2"] = pulse{at: time.Now().Add(-time.Hour)}
	c.m.pulses.mu.Unlock()
	w.await(func(l line) bool { return l.Object.Metadata.Name == "h2" && l.Object.Status.State == api.HostSuspect })
	r := h1.report()
	r.MeshDown = []api.Name{"h2"}
	h1.tell(r)
	w.await(func(l line) bool { return l.Object.Metadata.Name == "h2" && l.Object.Status.State == api.HostLost })
	h2.tell(h2.report())
	h1.tell(h1.report())
	w.await(func(l line) bool { return l.Object.Metadata.Name == "h2" && l.Object.Status.State == api.HostReady })
}

// TestAWatchIsToldWhatChangedBeforeIt: nobody looks for changed statuses while nobody watches; who watches from a revision on is told of
// those that changed after it.
func TestAWatchIsToldWhatChangedBeforeIt(t *testing.T) {
	c := startCluster(t)
	h1, h2 := c.join("h1", "10.0.0.1"), c.join("h2", "10.0.0.2")
	h1.tell(h1.report())
	h2.tell(h2.report())
	c.until("the host to be ready", func() bool {
		return read[api.Host](t, c.ann().must("GET", "/v1/hosts/h2", nil, http.StatusOK)).Status.State == api.HostReady
	})
	seen := read[api.List[api.Host]](t, c.ann().must("GET", "/v1/hosts", nil, http.StatusOK)).Revision
	c.m.pulses.mu.Lock() // as if the time had passed
	c.m.pulses.since = time.Now().Add(-time.Hour)
	c.m.pulses.last["h2"] = pulse{at: time.Now().Add(-time.Hour)}
	c.m.pulses.mu.Unlock()
	w := c.ann().stream(fmt.Sprintf("/v1/watch?kinds=hosts&revision=%d", seen))
	w.await(func(l line) bool { return l.Object.Metadata.Name == "h2" && l.Object.Status.State == api.HostSuspect })
}

// TestAMasterThatDoesNotLead reads and writes for people, but leaves hosts and controllers to the leader.
func TestAMasterThatDoesNotLead(t *testing.T) {
	first := startCluster(t)
	h1 := first.join("h1", "10.0.0.1")
	lead := *first.m.lead.Load()
	first.m.lead.Store(nil)
	h1.must("PUT", "/v1/hosts/h1/report", h1.report(), http.StatusServiceUnavailable)
	h1.must("GET", "/v1/hosts/h1/desired", nil, http.StatusServiceUnavailable)
	first.ann().must("GET", "/v1/hosts/h1", nil, http.StatusOK)
	first.m.lead.Store(&lead)
	h1.tell(h1.report())
}

func TestBatchesKeepTheirOrder(t *testing.T) {
	var actions []control.Action
	for i := range maxBatch + 5 {
		p := api.New(api.KindPod).(*api.Pod)
		p.Metadata.Name, p.Metadata.Project = numbered("web", i+2), "shop"
		actions = append(actions, control.Action{Op: control.Delete, Object: p})
	}
	record := func(a control.Action) store.Op {
		return store.Op{Key: "event/" + string(a.Object.Head().Metadata.Name)}
	}
	ops, n := batchOf(actions, record)
	if n != maxBatch || len(ops) != 3*maxBatch {
		t.Errorf("%d operations of %d actions", len(ops), n)
	}
	actions[3] = actions[1]
	if _, n := batchOf(actions, record); n != 3 {
		t.Errorf("a key stands twice in a batch of %d", n)
	}
}

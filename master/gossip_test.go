package master

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store/memory"
)

// has reports that a host has taken keys.
func (u *user) has(seq int64) {
	u.c.t.Helper()
	r := u.report()
	r.Gossip = seq
	u.tell(r)
}

func (c *cluster) mesh() api.MeshKeys {
	c.t.Helper()
	return read[api.MeshKeys](c.t, c.ann().must("GET", "/v1/mesh", nil, http.StatusOK))
}

// TestRotation changes the key of the mesh over two hosts, with a change of the leader in the middle.
func TestRotation(t *testing.T) {
	s := memory.New()
	c := startOver(t, s)
	h1, h2 := c.join("h1", "10.0.0.1"), c.join("h2", "10.0.0.2")
	h1.has(1)
	h2.has(1)
	d := h1.desire()
	d.until("the key", func(d api.Desired) bool { return d.Gossip != nil && len(d.Gossip.Keys) == 1 })
	old := d.Gossip.Keys[0]
	if m := c.mesh(); m.Step != api.MeshSteady || m.Seq != 1 || len(m.Waits) != 0 {
		t.Errorf("at rest: %+v", m)
	}
	begun := read[api.MeshKeys](t, c.ann().must("POST", "/v1/mesh/rotate", nil, http.StatusOK))
	if begun.Step != api.MeshInstall || !slices.Equal(begun.Waits, []api.Name{"h1", "h2"}) {
		t.Errorf("begun: %+v", begun)
	}
	d.until("the new key", func(d api.Desired) bool { return d.Gossip.Seq == 2 })
	if string(d.Gossip.Keys[0]) != string(old) || len(d.Gossip.Keys) != 2 {
		t.Fatal("the new key is used before all accept it")
	}
	made := d.Gossip.Keys[1]
	h1.has(2)
	if m := c.mesh(); m.Step != api.MeshInstall || !slices.Equal(m.Waits, []api.Name{"h2"}) {
		t.Errorf("with one host to come: %+v", m)
	}
	if e := c.ann().must("POST", "/v1/mesh/rotate", nil, http.StatusConflict).problem(t); !strings.Contains(e.Detail, "h2") {
		t.Errorf("a second one: %q", e.Detail)
	}
	other := c.another("m2", s)
	other.until("the other to lead", func() bool {
		if lead := c.m.lead.Load(); lead != nil { // it stands again, and may be quicker
			lead.Resign()
		}
		return other.m.term() != 0
	})
	on := func(u *user) *user {
		v := other.user("", u.shown(t))
		v.name = u.name
		return v
	}
	h1, h2 = on(h1), on(h2)
	h1.has(2)
	h2.has(2)
	d = h1.desire()
	d.until("the new key in use", func(d api.Desired) bool { return d.Gossip != nil && d.Gossip.Seq == 3 })
	if string(d.Gossip.Keys[0]) != string(made) || len(d.Gossip.Keys) != 2 || string(d.Gossip.Keys[1]) != string(old) {
		t.Fatal("the old key is not accepted while it may be in use")
	}
	h1.has(3)
	if m := other.mesh(); m.Step != api.MeshUse || !slices.Equal(m.Waits, []api.Name{"h2"}) {
		t.Errorf("before the end: %+v", m)
	}
	h2.has(3)
	d.until("the end of the old key", func(d api.Desired) bool { return d.Gossip.Seq == 4 })
	if len(d.Gossip.Keys) != 1 || string(d.Gossip.Keys[0]) != string(made) {
		t.Error("other keys are left than the new one")
	}
	if m := other.mesh(); m.Step != api.MeshSteady {
		t.Errorf("at the end: %+v", m)
	}
	if text := c.log.String() + other.log.String(); strings.Contains(text, string(made)) {
		t.Error("a key is in the log")
	}
	bad := h1.report()
	bad.Gossip = -1
	h1.must("PUT", "/v1/hosts/h1/report", bad, http.StatusUnprocessableEntity)
}

// Lost hosts are not waited for, and those that are only suspected are.
func TestWhoIsWaitedFor(t *testing.T) {
	states := map[api.Name]api.HostState{"had": api.HostReady, "ready": api.HostReady, "suspect": api.HostSuspect, "lost": api.HostLost, "back": api.HostLost, "joining": api.HostJoining}
	var hosts []api.Host
	for _, name := range []api.Name{"back", "had", "joining", "lost", "ready", "suspect"} {
		h := api.Host{}
		h.Metadata.Name = name
		hosts = append(hosts, h)
	}
	r := newRing([]byte("a"), time.Now()).rotate([]byte("b"), time.Now())
	behind, gone := r.waits(hosts, func(h *api.Host) api.HostState { return states[h.Metadata.Name] }, map[api.Name]int64{"had": 2, "ready": 1, "back": 2})
	if !slices.Equal(behind, []api.Name{"ready", "suspect"}) || !slices.Equal(gone, []api.Name{"lost"}) {
		t.Errorf("waits for %v, not for %v", behind, gone)
	}
}

func TestStepsOfARing(t *testing.T) {
	now := time.Now()
	r := newRing([]byte("a"), now)
	if same := r.next(now); same.Seq != 1 {
		t.Errorf("a ring at rest moves: %+v", same)
	}
	var got []string
	for r = r.rotate([]byte("b"), now); r.Step != api.MeshSteady; r = r.next(now) {
		got = append(got, string(r.Step)+" "+string(r.Keys[0])+string(r.Keys[1]))
	}
	if want := []string{"install ab", "use ba"}; !slices.Equal(got, want) || len(r.Keys) != 1 || string(r.Keys[0]) != "b" || r.Seq != 4 {
		t.Errorf("steps %v, then %+v", got, r)
	}
}

// A host that is off is not waited for, and gets the new key from the master when it is back.
func TestRotationWithAHostDown(t *testing.T) {
	c := startCluster(t)
	hosts := []*user{c.join("h1", "10.0.0.1"), c.join("h2", "10.0.0.2"), c.join("h3", "10.0.0.3")}
	for _, h := range hosts {
		h.has(1)
	}
	c.m.pulses.mu.Lock() // as if the time had passed
	c.m.pulses.since = time.Now().Add(-time.Hour)
	c.m.pulses.last["h3"] = pulse{at: time.Now().Add(-time.Hour)}
	c.m.pulses.mu.Unlock()
	report := func(seq int64) {
		for _, h := range hosts[:2] {
			r := h.report()
			r.Gossip, r.MeshDown = seq, []api.Name{"h3"}
			h.tell(r)
		}
	}
	report(1)
	c.until("h3 to be lost", func() bool { return c.hostState("h3") == api.HostLost })
	c.ann().must("POST", "/v1/mesh/rotate", nil, http.StatusOK)
	for seq := int64(2); seq <= 4; seq++ {
		c.until("the step", func() bool { return c.mesh().Seq == seq })
		report(seq)
	}
	if m := c.mesh(); m.Step != api.MeshSteady || !slices.Equal(m.Gone, []api.Name{"h3"}) || len(m.Waits) != 0 {
		t.Errorf("at the end: %+v", m)
	}
	d := hosts[2].desire()
	d.until("the key for the one that is back", func(d api.Desired) bool { return d.Gossip != nil && d.Gossip.Seq == 4 && len(d.Gossip.Keys) == 1 })
	hosts[2].has(4)
	if m := c.mesh(); len(m.Gone)+len(m.Waits) != 0 {
		t.Errorf("with all of them: %+v", m)
	}
}

func (c *cluster) hostState(name string) api.HostState {
	c.t.Helper()
	return read[api.Host](c.t, c.ann().must("GET", "/v1/hosts/"+name, nil, http.StatusOK)).Status.State
}

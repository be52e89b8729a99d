package geard_test

import (
	"net/http"
	"net/netip"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/geard"
)

// Links keep leading to a host whose agent was taken off, though the mesh reports it as failed.
func TestLinksToADetachedHostStay(t *testing.T) {
	r := linked(t)
	h2 := netip.MustParseAddr("10.0.0.2")
	r.mesh.set(func() { r.mesh.down["h2"] = true })
	r.untilHost("web-aaaaa up started=1 db:6379→[]\n")
	word := api.HostEndpoints{Host: "h2", Seq: 2, Detached: true, Endpoints: []api.Endpoint{{Project: "shop", Service: "db", Port: "sql", Protocol: api.TCP,
		Address: netip.AddrPortFrom(h2, 20001), Ready: true}}}
	r.master.patches <- api.Patch{Term: 1, Endpoints: []api.HostEndpoints{word}}
	r.untilHost("web-aaaaa up started=1 db:6379→[10.0.0.2:20001]\n")
	word.Seq, word.Detached = 3, false // its next agent is back, and dies
	r.master.patches <- api.Patch{Term: 1, Endpoints: []api.HostEndpoints{word}}
	r.untilHost("web-aaaaa up started=1 db:6379→[]\n")
}

// The last word of an agent that is taken off says so, and the first of the next one takes it back.
func TestDetach(t *testing.T) {
	r := linked(t)
	r.until("the endpoint", func() bool { e := r.agent.Endpoints().Endpoints; return len(e) == 1 && e[0].Ready })
	before := r.agent.Endpoints()
	if w := r.operator("POST", "/v1/detach", geard.RoleMaster); w.Code != http.StatusNoContent {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	after := r.agent.Endpoints()
	if !after.Detached || after.Seq <= before.Seq || len(after.Endpoints) != 1 {
		t.Errorf("%+v", after)
	}
	if told := r.master.report().Endpoints; !told.Detached {
		t.Errorf("the master was told %+v", told)
	}
	r.stop()
	r.start()
	r.until("the word to be taken back", func() bool { e := r.agent.Endpoints(); return !e.Detached && e.Seq > after.Seq })
}

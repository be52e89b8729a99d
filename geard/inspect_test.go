package geard_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/geard"
)

// operator asks the agent as root does on the host's own socket, and as a certificate of a role does over the network.
func (r *rig) operator(method, path string, role geard.Role) *httptest.ResponseRecorder {
	w, req := httptest.NewRecorder(), httptest.NewRequest(method, path, nil)
	h := r.agent.SocketHandler()
	if role != geard.RoleMaster {
		h = r.agent.Handler(func(*http.Request) geard.Role { return role })
	}
	h.ServeHTTP(w, req.WithContext(r.t.Context()))
	return w
}

func answerOf[T any](t *testing.T, w *httptest.ResponseRecorder) (v T) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	return v
}

// linked is a rig with a running pod that has a link.
func linked(t *testing.T) *rig {
	r := newRig(t)
	h2 := netip.MustParseAddr("10.0.0.2")
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA, api.Link{Service: "db", LocalPort: 6379})},
		Hosts:    []api.HostEntry{{Name: "h1", Address: netip.MustParseAddr("10.0.0.1")}, {Name: "h2", Address: h2}},
		Services: []api.ServiceEntry{{Project: "shop", Name: "db", Ports: []api.Port{{Name: "sql", Port: 1}}}},
		Endpoints: []api.HostEndpoints{{Host: "h2", Seq: 1, Endpoints: []api.Endpoint{{Project: "shop", Service: "db", Port: "sql", Protocol: api.TCP,
			Address: netip.AddrPortFrom(h2, 20001), Ready: true}}}}}
	r.untilHost("web-aaaaa up started=1 db:6379→[10.0.0.2:20001]\n")
	r.until("the pod to be ready", func() bool { return r.status(uidA).Ready })
	return r
}

func TestPlanOfAHostThatIsAsItShouldBeIsEmpty(t *testing.T) {
	r := linked(t)
	if p := answerOf[api.HostPlan](t, r.operator("GET", "/v1/plan", geard.RoleMaster)); !p.Empty() || p.Host != "h1" {
		t.Errorf("%+v", p)
	}
}

func TestPlanTellsAndRepairMends(t *testing.T) {
	r := linked(t)
	r.stop() // an agent that runs mends by itself sooner or later
	r.host.Break(uidA)
	before := r.host.String()
	p := answerOf[api.HostPlan](t, r.operator("GET", "/v1/plan", geard.RoleMaster))
	if len(p.Tasks) != 1 || p.Tasks[0].Op != "install" || p.Tasks[0].Reason != "UnitsToCheck" || p.Tasks[0].Pod != "web-aaaaa" || len(p.Drift) != 2 {
		t.Errorf("%+v", p)
	}
	if after := r.host.String(); after != before {
		t.Errorf("a plan has changed the host from %s to %s", before, after)
	}
	got := answerOf[api.Repair](t, r.operator("POST", "/v1/repair", geard.RoleMaster))
	if got.Pods != 1 || len(got.Mended) != 2 || len(got.Left) != 0 || got.Error != "" {
		t.Errorf("%+v", got)
	}
	if want := "web-aaaaa up started=1 db:6379→[10.0.0.2:20001]\n"; r.host.String() != want {
		t.Errorf("the host is %s", r.host)
	}
	if again := answerOf[api.Repair](t, r.operator("POST", "/v1/repair", geard.RoleMaster)); len(again.Mended)+len(again.Left) != 0 {
		t.Errorf("a second repair found %+v", again)
	}
}

func TestRepairSaysWhatIsLeft(t *testing.T) {
	r := linked(t)
	r.stop()
	r.host.Break(uidA)
	r.host.Crash = "install"
	got := answerOf[api.Repair](t, r.operator("POST", "/v1/repair", geard.RoleMaster))
	if got.Error == "" || len(got.Left) == 0 {
		t.Errorf("%+v", got)
	}
}

func TestOperatorsRoutesAreNotForOtherHosts(t *testing.T) {
	r := linked(t)
	for _, route := range []string{"GET /v1/plan", "POST /v1/repair", "DELETE /v1/pods/" + string(uidA)} {
		method, path, _ := strings.Cut(route, " ")
		if w := r.operator(method, path, geard.RoleHost); w.Code != http.StatusForbidden {
			t.Errorf("%s answers another host with %d %s", route, w.Code, w.Body)
		}
	}
	r.untilHost("web-aaaaa up started=1 db:6379→[10.0.0.2:20001]\n")
}

func TestForgetRemovesOnlyWhatTheMasterDoesNotKnow(t *testing.T) {
	r := linked(t)
	refused := func(path string, status int, says string) {
		t.Helper()
		if w := r.operator("DELETE", path, geard.RoleMaster); w.Code != status || !strings.Contains(w.Body.String(), says) {
			t.Errorf("%d %s; want %d and %q", w.Code, w.Body, status, says)
		}
	}
	refused("/v1/pods/"+string(uidA), http.StatusConflict, "the master knows pod shop/web-aaaaa")
	refused("/v1/pods/"+string(uidB), http.StatusNotFound, "has no pod")
	refused("/v1/pods/x", http.StatusBadRequest, "16 characters")
	r.master.patches <- api.Patch{Full: true, Term: 2}
	r.until("the pod to be unknown", func() bool {
		return r.operator("DELETE", "/v1/pods/"+string(uidA), geard.RoleMaster).Code == http.StatusNoContent
	})
	r.untilHost("")
	if left, _ := r.dirs.Pods(); len(left) > 0 {
		t.Errorf("left on disk: %q", left)
	}
}

// A host whose directory is lost keeps the links that are on disk with each pod.
func TestLinksOutliveALostDirectory(t *testing.T) {
	r := linked(t)
	r.stop()
	if err := os.WriteFile(filepath.Join(r.dirs.State, "agent", "desired.json"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.until("the pod to be reported", func() bool { return r.status(uidA).Ready })
	if got := answerOf[api.Repair](t, r.operator("POST", "/v1/repair", geard.RoleMaster)); len(got.Mended)+len(got.Left) != 0 {
		t.Errorf("found %+v", got)
	}
	r.untilHost("web-aaaaa up started=1 db:6379→[10.0.0.2:20001]\n")
}

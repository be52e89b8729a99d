package master

import (
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/freeport"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/internal/seal"
	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/etcd"
	"gearmesh.dev/master/store/memory"
)

// TestAFollowerAnswersAsTheLeader: a master that does not lead serves people, with what the leader knows of the
// hosts, and sends hosts on.
func TestAFollowerAnswersAsTheLeader(t *testing.T) {
	s := memory.New()
	leader := startOver(t, s)
	follower := leader.another("m2", s)
	h1 := leader.join("h1", "192.0.2.1")
	h1.must("PUT", "/v1/hosts/h1/report", h1.report(), http.StatusOK)
	ann := follower.ann()
	state := func() api.HostState {
		resp := ann.do("GET", "/v1/hosts/h1", nil)
		if resp.status != http.StatusOK {
			return ""
		}
		return read[api.Host](t, resp).Status.State
	}
	follower.until("the host to be ready there too", func() bool { return state() == api.HostReady })
	if _, err := s.Txn(t.Context(), store.Op{Key: healthKey, Value: mustJSON(healthRecord{Silent: map[api.Name]bool{"h1": true}}), If: store.Any}); err != nil {
		t.Fatal(err)
	}
	follower.until("the host to be silent there too", func() bool { return state() == api.HostSuspect })
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	leader.ann().must("GET", "/v1/projects/shop?fresh=1", nil, http.StatusOK)
	leader.ann().must("GET", "/v1/projects?fresh=yes", nil, http.StatusBadRequest)
	there := &user{c: follower, http: h1.http}
	if a := there.do("PUT", "/v1/hosts/h1/report", h1.report()); a.status != http.StatusServiceUnavailable || !strings.Contains(string(a.body), "ask another") {
		t.Errorf("a report to it gives %d %s", a.status, a.body)
	}
}

// TestGrowing: a token for a master makes a host one, once; what it gets is enough to start.
func TestGrowing(t *testing.T) {
	ca, err := pki.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	port := freeport.Row(t, 1)
	first := startMember(t, ca, etcd.Config{Name: "m1", Address: netip.MustParseAddr("127.9.0.1"), PeerPort: port})
	kit := func() (api.MasterKit, error) { return api.MasterKit{CA: string(ca.PEM()), CAKey: "the key"}, nil }
	c := startNamed(t, first, ca, seal.NewKey(), "m1", pki.NewSecret(), kit)
	c.until("a leader", func() bool { return c.m.term() != 0 })
	ann := c.ann()
	plain := read[api.JoinToken](t, ann.must("POST", "/v1/tokens", nil, http.StatusCreated))
	req := api.MasterJoin{Token: plain.Token, Name: "m2", Address: netip.MustParseAddr("127.9.0.2")}
	nobody := c.user("", nil)
	nobody.must("POST", "/v1/masters", req, http.StatusForbidden)
	good := read[api.JoinToken](t, ann.must("POST", "/v1/tokens", api.TokenRequest{Master: true}, http.StatusCreated))
	req.Token = good.Token
	got := read[api.MasterKit](t, nobody.must("POST", "/v1/masters", req, http.StatusCreated))
	if got.CAKey != "the key" || strings.Count(got.Seat, "https://127.9.0.") != 2 {
		t.Fatalf("got %+v", got)
	}
	nobody.must("POST", "/v1/masters", req, http.StatusUnauthorized) // used up
	second := startMember(t, ca, etcd.Config{Name: "m2", Address: req.Address, PeerPort: port, Seat: got.Seat})
	other := c.another("m2", second)
	other.until("its vote", second.Voter)
	other.ann().must("GET", "/readyz", nil, http.StatusOK)
	other.ann().must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	ann.must("GET", "/v1/projects/shop?fresh=1", nil, http.StatusOK)
	list := read[api.MasterList](t, other.ann().must("GET", "/v1/masters", nil, http.StatusOK))
	if len(list.Items) != 2 || !list.Items[0].Leads || list.Items[1].State != api.MasterVoter || !list.Items[1].Answers {
		t.Errorf("masters: %+v", list)
	}
	ann.must("DELETE", "/v1/masters/nosuch", nil, http.StatusNotFound)
}

// TestATokenForAMasterLetsOneHostJoin: it is not used up by that, and lets no second one in.
func TestATokenForAMasterLetsOneHostJoin(t *testing.T) {
	c := startCluster(t)
	token := read[api.JoinToken](t, c.ann().must("POST", "/v1/tokens", api.TokenRequest{Master: true}, http.StatusCreated)).Token
	_, csr := newRequest(t)
	host := api.JoinRequest{Token: token, Name: "h1", Address: netip.MustParseAddr("192.0.2.1"), CSR: csr}
	c.user("", nil).must("POST", "/v1/join", host, http.StatusCreated)
	host.Name = "h2"
	c.user("", nil).must("POST", "/v1/join", host, http.StatusUnauthorized)
	req := api.MasterJoin{Token: token, Name: "m2", Address: netip.MustParseAddr("192.0.2.1")}
	// It is good for this still, but a store in memory has no members.
	if a := c.user("", nil).do("POST", "/v1/masters", req); a.status != http.StatusUnprocessableEntity || !strings.Contains(string(a.body), "of your own") {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func startMember(t *testing.T, ca *pki.CA, cfg etcd.Config) *etcd.Embedded {
	t.Helper()
	dir := t.TempDir()
	cfg.Dir = filepath.Join(dir, "etcd")
	cfg.Peers = &etcd.Peers{CA: ca.Cert, Source: ca.Master(nil, []netip.Addr{cfg.Address}), Dir: filepath.Join(dir, "peer")}
	e, err := etcd.Start(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

package master

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/memory"
)

// applicant is a host that asks to join by a token whose joins wait.
type applicant struct {
	*user
	req api.JoinRequest
}

func (c *cluster) applicant(name, token string) *applicant {
	c.t.Helper()
	u := c.user("", nil)
	key, csr := newRequest(c.t)
	u.key = key
	return &applicant{u, api.JoinRequest{Token: token, Name: api.Name(name), Address: netip.MustParseAddr("10.0.0.4"), CSR: csr, Labels: map[string]string{"zone": "a"}}}
}

func (a *applicant) ask(status int) api.Identity {
	a.c.t.Helper()
	return read[api.Identity](a.c.t, a.must("POST", "/v1/join", a.req, status))
}

func (a *applicant) refused(status int, says string) {
	a.c.t.Helper()
	if e := a.must("POST", "/v1/join", a.req, status).problem(a.c.t); !strings.Contains(e.Detail, says) {
		a.c.t.Errorf("refused with %q, want %q", e.Detail, says)
	}
}

func (c *cluster) approve(name, fingerprint string) {
	c.t.Helper()
	c.ann().must("POST", "/v1/pending/"+name, api.Verdict{State: api.PendingApproved, Fingerprint: fingerprint}, http.StatusOK)
}

func (c *cluster) pending() []api.PendingHost {
	c.t.Helper()
	return read[api.PendingList](c.t, c.ann().must("GET", "/v1/pending", nil, http.StatusOK)).Items
}

var approveToken = &api.TokenRequest{Approve: true}

// TestApproval follows a host that waits over a restart of the master, until it reports with its certificate.
func TestApproval(t *testing.T) {
	s := memory.New()
	c := startOver(t, s)
	a := c.applicant("h4", c.newToken(approveToken))
	first := a.ask(http.StatusAccepted)
	if first.Pending == nil || first.Certificate != "" || first.GossipKey != nil || first.CA != "" || first.Peers != nil {
		t.Fatalf("a pending host gets %+v", first)
	}
	list := c.pending()
	if len(list) != 1 || list[0].Name != "h4" || list[0].State != api.PendingWaiting || list[0].Fingerprint != first.Pending.Fingerprint || list[0].From.String() != "127.0.0.1" {
		t.Fatalf("pending are %+v", list)
	}
	if left := c.stored(); strings.Contains(left, "host/h4") || strings.Contains(left, "hostkey/h4") {
		t.Errorf("a pending host is a host:\n%s", left)
	}
	from := len(c.log.String())
	a.ask(http.StatusAccepted)
	if more := c.log.String()[from:]; strings.Contains(more, "log=audit") {
		t.Errorf("asking again is recorded: %s", more)
	}
	c = c.another("m2", s) // what waits is in the store
	a.c = c
	c.ann().must("POST", "/v1/pending/h4", api.Verdict{State: api.PendingApproved, Fingerprint: "ab"}, http.StatusUnprocessableEntity)
	c.approve("h4", first.Pending.Fingerprint)
	a.req.Labels, a.req.Address = map[string]string{"zone": "b", "router": "true"}, netip.MustParseAddr("10.0.0.5") // not what was approved
	id := a.ask(http.StatusCreated)
	h := read[api.Host](t, c.ann().must("GET", "/v1/hosts/h4", nil, http.StatusOK))
	if id.Name != "h4" || len(id.GossipKey) != 32 || h.Spec.Address.String() != "10.0.0.4" || h.Metadata.Labels["zone"] != "a" || h.Metadata.Labels["router"] != "" {
		t.Errorf("joined as %+v, the host is %+v", id, h)
	}
	again := a.ask(http.StatusCreated) // the first answer may have been lost
	if again.Certificate == "" || again.Name != "h4" || len(c.pending()) != 0 {
		t.Errorf("asked again: %+v", again)
	}
	c.applicant("h4", a.req.Token).refused(http.StatusUnauthorized, "used already") // another key
	c.user("", certificate(t, again.Certificate, a.key)).must("GET", "/v1/version", nil, http.StatusOK)
}

func TestRejectedAndLate(t *testing.T) {
	c := startCluster(t)
	bad := c.applicant("h4", c.newToken(approveToken))
	bad.ask(http.StatusAccepted)
	c.ann().must("POST", "/v1/pending/h4", api.Verdict{State: api.PendingRejected}, http.StatusOK)
	bad.refused(http.StatusForbidden, "rejected this host")
	if len(c.pending()) != 0 {
		t.Errorf("a rejected host waits: %+v", c.pending())
	}
	next := c.applicant("h4", c.newToken(approveToken)) // the name is free again
	if got := next.ask(http.StatusAccepted); got.Name != "h4" {
		t.Errorf("the next one is %s", got.Name)
	}
	bad.refused(http.StatusForbidden, "rejected this host")
	if got := c.applicant("h4", c.newToken(approveToken)).ask(http.StatusAccepted); got.Name != "h4-2" {
		t.Errorf("a second h4 waits as %s", got.Name)
	}
	if u := c.join("h4", "10.0.0.6"); u.name != "h4-3" { // and nobody takes a name from those who wait
		t.Errorf("a third one joined as %s", u.name)
	}
	c.expire(next.req.Token)
	next.refused(http.StatusUnauthorized, "waited for approval")
	c.ann().must("POST", "/v1/pending/nosuch", api.Verdict{State: api.PendingApproved}, http.StatusNotFound)
	c.ann().must("POST", "/v1/pending/h4", api.Verdict{State: "maybe"}, http.StatusUnprocessableEntity)
	c.ann().must("POST", "/v1/tokens", api.TokenRequest{Approve: true, Master: true}, http.StatusUnprocessableEntity)
	worse := c.applicant("h7", c.newToken(approveToken))
	worse.req.CSR = "x"
	worse.must("POST", "/v1/join", worse.req, http.StatusUnprocessableEntity)
}

// Those that waited too long are swept, and a host that was removed gets nothing by its old token.
func TestEndsOfApproval(t *testing.T) {
	c := startCluster(t)
	old := pendingRecord{Token: "aaaaaaaa", PendingHost: api.PendingHost{Name: "old", Until: time.Now().Add(-2 * tokenKept)}}
	if _, err := c.store.Txn(t.Context(), store.Op{Key: pendingPrefix + "old", Value: mustJSON(old), If: store.Absent}); err != nil {
		t.Fatal(err)
	}
	c.ann().must("POST", "/v1/pending/old", api.Verdict{State: api.PendingApproved}, http.StatusNotFound)
	a := c.applicant("h4", c.newToken(approveToken))
	a.ask(http.StatusAccepted)
	c.m.sweepPending(t.Context())
	if left := c.stored(); strings.Contains(left, "pending/old") || !strings.Contains(left, "pending/h4") {
		t.Errorf("left:\n%s", left)
	}
	c.approve("h4", "")
	a.ask(http.StatusCreated)
	c.ann().must("DELETE", "/v1/hosts/h4", nil, http.StatusOK)
	c.until("the end of h4", func() bool { return !strings.Contains(c.stored(), "hostkey/h4") })
	a.refused(http.StatusUnauthorized, "used already")
}

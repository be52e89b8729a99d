package master

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/master/store"
)

// token makes a join token.
func (c *cluster) newToken(req *api.TokenRequest) string {
	c.t.Helper()
	return read[api.JoinToken](c.t, c.ann().must("POST", "/v1/tokens", req, http.StatusCreated)).Token
}

// expire puts the end of a token into the past.
func (c *cluster) expire(text string) {
	c.t.Helper()
	tok, err := pki.ParseToken(text)
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := c.m.tokenNow(c.t.Context(), tok.ID)
	if err != nil {
		c.t.Fatal(err)
	}
	r.record.Expires = time.Now().Add(-time.Second)
	if _, err := c.store.Txn(c.t.Context(), store.Op{Key: r.item.Key, Value: mustJSON(r.record), If: r.item.Revision}); err != nil {
		c.t.Fatal(err)
	}
}

// TestTokensThatAreNoGood shows every kind of wrong token, and looks at the answer, the store and the audit record.
func TestTokensThatAreNoGood(t *testing.T) {
	c := startCluster(t)
	_, csr := newRequest(t)
	nobody := c.user("", nil)
	ask := func(token string) api.JoinRequest {
		return api.JoinRequest{Token: token, Name: "evil", Address: netip.MustParseAddr("10.0.0.9"), CSR: csr}
	}
	used, usedUp, ranOut, good := c.newToken(nil), c.newToken(&api.TokenRequest{Master: true}), c.newToken(nil), c.newToken(nil)
	first := ask(used)
	first.Name = "h1"
	nobody.must("POST", "/v1/join", first, http.StatusCreated)
	first.Token, first.Name = usedUp, "h2"
	nobody.must("POST", "/v1/join", first, http.StatusCreated)
	c.expire(ranOut)
	parts := strings.Split(good, ".")
	other, err := pki.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	before := c.stored()
	for _, tc := range []struct{ name, token, says, why string }{
		{"replayed", used, "was used already", "used already by host h1"},
		{"a master's, replayed", usedUp, "was used already", "used already by host h2"},
		{"expired", ranOut, "ran out at", "it ran out at"},
		{"wrong pin", parts[0] + "." + parts[1] + "." + other.Pin(), "not this cluster's", "pins another CA"},
		{"wrong secret", parts[0] + "." + pki.NewSecret() + "." + parts[2], "is not known", "the secret is not the token's"},
		{"unknown", "aaaaaaaa." + parts[1] + "." + parts[2], "is not known", "there is no such token"},
		{"no token", "hello", "copied whole", "no token"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			from := len(c.log.String())
			e := nobody.must("POST", "/v1/join", ask(tc.token), http.StatusUnauthorized).problem(t)
			if !strings.Contains(e.Detail, tc.says) {
				t.Errorf("the answer is %q", e.Detail)
			}
			record := c.log.String()[from:]
			for _, want := range []string{"log=audit", "from=127.0.0.1", "host evil", "result=Unauthorized", tc.why} {
				if !strings.Contains(record, want) {
					t.Errorf("the record has no %q: %s", want, record)
				}
			}
			for _, part := range strings.Split(tc.token, ".")[1:] {
				if strings.Contains(record, part) {
					t.Errorf("the record has a secret: %s", record)
				}
			}
		})
	}
	e := nobody.must("POST", "/v1/masters", api.MasterJoin{Token: good, Name: "evil", Address: netip.MustParseAddr("10.0.0.9")}, http.StatusForbidden).problem(t)
	if !strings.Contains(e.Detail, "not a master") || !strings.Contains(c.log.String(), "it is for a host, not for a master") {
		t.Errorf("a host's token shown for a master: %q", e.Detail)
	}
	if after := c.stored(); after != before {
		t.Errorf("refusals changed the store from\n%sto\n%s", before, after)
	}
	nobody.must("POST", "/v1/join", ask(good), http.StatusCreated) // nothing of it was used up
}

// Refusals are recorded at a bounded rate, and what was left out is counted; the right token goes on.
func TestManyWrongTokens(t *testing.T) {
	c := startCluster(t)
	_, csr := newRequest(t)
	req := api.JoinRequest{Token: "hello", Name: "evil", Address: netip.MustParseAddr("10.0.0.9"), CSR: csr}
	from, limited := len(c.log.String()), 0
	for range 3 * recordsPerAddr {
		if c.user("", nil).do("POST", "/v1/join", req).status == http.StatusTooManyRequests {
			limited++
		}
	}
	if limited != 3*recordsPerAddr-failuresAllowed {
		t.Errorf("%d were told to wait", limited)
	}
	if n := strings.Count(c.log.String()[from:], "log=audit"); n != recordsPerAddr {
		t.Errorf("%d records, want %d", n, recordsPerAddr)
	}
	req.Token = c.newToken(nil)
	c.user("", nil).must("POST", "/v1/join", req, http.StatusCreated)
}

func TestRecordsOfStrangers(t *testing.T) {
	a := newAudits(slog.New(slog.NewTextHandler(io.Discard, nil)))
	now := time.Now()
	recorded := 0
	for i := range 2 * recordsBurst {
		if _, ok := a.stranger(netip.MustParseAddr(fmt.Sprintf("10.0.%d.%d", i/250, i%250)), now); ok {
			recorded++
		}
	}
	if recorded != recordsBurst {
		t.Errorf("%d records of many addresses, want %d", recorded, recordsBurst)
	}
	if left, ok := a.stranger(netip.MustParseAddr("10.9.9.9"), now.Add(failureWindow)); !ok || left != recordsBurst {
		t.Errorf("a minute later: %d left out, recorded: %v", left, ok)
	}
	if left, ok := a.stranger(netip.MustParseAddr("10.9.9.9"), now.Add(failureWindow)); !ok || left != 0 {
		t.Errorf("then: %d left out, recorded: %v", left, ok)
	}
}

// Tokens that ran out are known for a while, and then swept.
func TestSweptTokens(t *testing.T) {
	c := startCluster(t)
	put := func(id string, age time.Duration) {
		if _, err := c.store.Txn(t.Context(), store.Op{Key: tokenPrefix + id, Value: mustJSON(tokenRecord{Hash: "x", Expires: time.Now().Add(-age)}), If: store.Absent}); err != nil {
			t.Fatal(err)
		}
	}
	put("kept", tokenKept/2)
	put("swept", 2*tokenKept)
	c.m.sweepTokens(t.Context())
	if left := c.stored(); !strings.Contains(left, "token/kept") || strings.Contains(left, "token/swept") {
		t.Errorf("left:\n%s", left)
	}
}

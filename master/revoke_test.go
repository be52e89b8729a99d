package master

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
)

// TestRemovedHostsAreRefused removes a host whose certificate is good for days. The master and an agent's TCP port refuse it, on an
// open connection too, and take the next host of that name.
func TestRemovedHostsAreRefused(t *testing.T) {
	c := startCluster(t)
	h1, h2 := c.join("h1", "127.0.0.1"), c.join("h2", "10.0.0.2")
	told := h1.desire()
	var known atomic.Pointer[api.Directory]
	known.Store(&api.Directory{})
	refuses := func(host api.Name, issued time.Time) bool { return known.Load().Refuses(host, issued) }
	agent := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if pki.Withdrawn(r.TLS.VerifiedChains[0][0], refuses) {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	agent.Listener = tls.NewListener(agent.Listener, pki.Refusing(pki.AgentConfig(fixed{*h1.shown(t)}, c.ca.Cert), refuses))
	agent.Start() // httptest would show a certificate of its own
	t.Cleanup(agent.Close)
	url := "https://" + agent.Listener.Addr().String()
	ask := func(u *user) int {
		resp, err := u.http.Get(url)
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	fresh := c.user("", h2.shown(t))
	if ask(h2) != http.StatusOK {
		t.Fatal("a host of the cluster is refused")
	}
	c.ann().must("DELETE", "/v1/hosts/h2", nil, http.StatusOK)
	told.until("the withdrawal", func(d api.Desired) bool { return len(d.Directory.Revoked) == 1 && len(d.Directory.Hosts) == 1 })
	known.Store(&told.Directory)
	h2.must("PUT", "/v1/hosts/h2/report", h2.report(), http.StatusUnauthorized)
	if open, anew := ask(h2), ask(fresh); open != http.StatusForbidden || anew != 0 {
		t.Errorf("the removed host: %d on the open connection, %d on a new one", open, anew)
	}
	again := c.join("h2", "10.0.0.2")
	again.tell(again.report())
	if again.name != "h2" || ask(again) != http.StatusOK {
		t.Errorf("%s, the next host of that name, is refused", again.name)
	}
	key, csr := newRequest(t) // and what it gets when it renews
	got := read[renewed](t, again.must("POST", "/v1/hosts/h2/certificate", api.CertificateRequest{CSR: csr}, http.StatusOK))
	if ask(c.user("", certificate(t, got.Certificate, key))) != http.StatusOK {
		t.Error("its renewed certificate is refused")
	}
	if ask(h2) == http.StatusOK || ask(fresh) != 0 {
		t.Error("the removed host is back with its name")
	}
}

// The master does not take a removed host's certificate for that of the next one, when it asks an agent.
func TestMasterRefusesRemovedAgents(t *testing.T) {
	c := startCluster(t)
	old := c.join("h1", "127.0.0.1")
	c.ann().must("DELETE", "/v1/hosts/h1", nil, http.StatusOK)
	c.until("the withdrawal", func() bool { return c.m.cache.refuses("h1", time.Now()) })
	next := c.join("h1", "127.0.0.1")
	for _, tc := range []struct {
		u    *user
		good bool
	}{{old, false}, {next, true}} {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		s.TLS = pki.AgentConfig(fixed{*tc.u.shown(t)}, c.ca.Cert)
		s.StartTLS()
		defer s.Close()
		at := s.Listener.Addr().(*net.TCPAddr).AddrPort()
		c.m.cfg.AgentPort = at.Port()
		body, err := c.m.askAgent(t.Context(), "h1", "/v1/logs", nil)
		if tc.good != (err == nil) || !tc.good && !strings.Contains(err.Error(), "withdrawn") {
			t.Errorf("asking an agent with a good certificate: %v, it is %v", tc.good, err)
		}
		if err == nil {
			body.Close()
		}
	}
}

// shown gives the certificate that a host shows.
func (u *user) shown(t *testing.T) *tls.Certificate {
	t.Helper()
	return &u.http.Transport.(*http.Transport).TLSClientConfig.Certificates[0]
}

func TestSweptWithdrawals(t *testing.T) {
	c := startCluster(t)
	for host, age := range map[api.Name]time.Duration{"kept": pki.LeafLifetime, "swept": pki.LeafLifetime + 3*clockMargin} {
		if _, err := c.store.Txn(t.Context(), revoke(host, time.Now().Add(-age))); err != nil {
			t.Fatal(err)
		}
	}
	c.m.sweepRevoked(t.Context())
	if left := c.stored(); !strings.Contains(left, "revoked/kept") || strings.Contains(left, "revoked/swept") {
		t.Errorf("left:\n%s", left)
	}
}

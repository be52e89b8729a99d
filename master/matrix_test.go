package master

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
)

// caller of the matrix, and what is expected of it.
type matrixUser struct {
	name string
	*user
	kind    principal
	refused bool // shows an identity that is none
}

// TestMatrix asks every route as everyone for an object that is there, one that is another's and
// one that is missing.
func TestMatrix(t *testing.T) {
	c := startCluster(t)
	c.ann().must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	own, other := c.join("h1", "127.0.0.1"), c.join("h2", "127.0.0.2")
	users := []matrixUser{
		{name: "nobody", user: c.user("", nil)},
		{name: "person", user: c.ann(), kind: person},
		{name: "wrong token", user: c.user(pki.NewSecret(), nil), refused: true},
		{name: "empty token", user: c.user(" ", nil), refused: true},
		{name: "host", user: own, kind: host},
		{name: "other host", user: other, kind: host},
		{name: "host with a wrong token", user: &user{c: c, token: "x", http: own.http}, refused: true},
		{name: "host that was never admitted", user: c.forged("h1", time.Now()), refused: true},
		{name: "master's certificate", user: c.masterUser(), refused: true},
	}
	for _, rt := range c.m.routes() {
		if rt.path == "/v1/hosts/{name}" && rt.method == "DELETE" {
			continue // would withdraw the identities of the test
		}
		for _, u := range users {
			c.m.router.auth.failures.counts = nil // wrong identities are the point here
			own := u.ask(c, rt, "h1")
			foreign := u.ask(c, rt, "h2")
			missing := u.ask(c, rt, "nosuch")
			t.Run(rt.method+rt.path+"/"+u.name, func(t *testing.T) {
				u.judge(t, rt, own, foreign, missing)
			})
		}
	}
}

// ask calls a route with every {name} filled in. Bodies are no good documents: who may call is
// decided before anything is read of them.
func (u matrixUser) ask(c *cluster, rt route, name string) answer {
	c.t.Helper()
	path := strings.NewReplacer("{name}", name, "{project}", "shop", "{uid}", "aaaaaaaaaaaaaaaa", "{mark}", "r1").Replace(rt.path)
	var body []byte
	if rt.body != nil {
		body = []byte("[]")
	}
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	resp, err := u.request(ctx, nil, rt.method, path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	got := answer{status: resp.StatusCode, header: resp.Header, body: make([]byte, 300)}
	if resp.StatusCode != http.StatusOK { // streams have no end
		n, _ := resp.Body.Read(got.body)
		got.body = got.body[:n]
	}
	return got
}

func (u matrixUser) judge(t *testing.T, rt route, own, foreign, missing answer) {
	t.Helper()
	want := func(a answer, status int) {
		t.Helper()
		if a.status != status {
			t.Errorf("%d %s, want %d", a.status, a.body, status)
		}
	}
	admitted := func(a answer) {
		t.Helper()
		byDesign := strings.Contains(string(a.body), "made by the master") || strings.Contains(string(a.body), "comes by joining")
		if a.status == http.StatusUnauthorized || a.status == http.StatusForbidden && !byDesign {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	switch {
	case rt.path == "/v1/join", rt.path == "/v1/masters" && rt.method == "POST": // they go by their tokens
		want(own, http.StatusUnprocessableEntity)
	case rt.who == forAnybody:
		want(own, http.StatusOK)
	case u.refused || u.kind == nobody:
		for _, a := range []answer{own, foreign, missing} {
			want(a, http.StatusUnauthorized)
		}
	case rt.who == forPeople && u.kind == person:
		admitted(own)
		if strings.HasSuffix(rt.path, "{name}") && (rt.method == "GET" || rt.method == "DELETE") {
			want(missing, http.StatusNotFound)
		}
	case rt.who == forHost && u.kind == host:
		mine, theirs := own, foreign
		if u.user.name == "h2" {
			mine, theirs = foreign, own
		}
		admitted(mine)
		want(theirs, http.StatusNotFound)
		want(missing, http.StatusNotFound)
		sameBut(t, theirs, missing)
	default:
		want(own, http.StatusForbidden)
		if string(own.body) != string(foreign.body) || string(own.body) != string(missing.body) {
			t.Errorf("the answer tells what exists: %s, %s, %s", own.body, foreign.body, missing.body)
		}
	}
}

// sameBut holds two answers to be the same but for the name that was asked for.
func sameBut(t *testing.T, a, b answer) {
	t.Helper()
	one := strings.NewReplacer("h1", "NAME", "h2", "NAME").Replace(string(a.body))
	if two := strings.ReplaceAll(string(b.body), "nosuch", "NAME"); one != two {
		t.Errorf("foreign differs from missing: %s, %s", one, two)
	}
}

// forged is a host whose certificate the CA has signed, but whose key was never admitted.
func (c *cluster) forged(name string, at time.Time) *user {
	key, csr := newRequest(c.t)
	cert, err := c.ca.SignHost([]byte(csr), api.Name(name), netip.Addr{}, at)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.user("", certificate(c.t, string(cert), key))
}

func (c *cluster) masterUser() *user {
	cert, err := c.ca.Master(nil, nil).Certificate()
	if err != nil {
		c.t.Fatal(err)
	}
	return c.user("", cert)
}

// Expired certificates and those of another cluster do not come past TLS, on any route.
func TestBadCertificates(t *testing.T) {
	c := startCluster(t)
	other, err := pki.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := other.Master(nil, nil).Certificate()
	if err != nil {
		t.Fatal(err)
	}
	for name, u := range map[string]*user{
		"expired":         c.forged("h1", time.Now().Add(-8*24*time.Hour)),
		"another cluster": c.user("", stranger),
	} {
		for _, rt := range c.m.routes() {
			path := strings.NewReplacer("{name}", "h1", "{project}", "shop").Replace(rt.path)
			resp, err := u.request(t.Context(), nil, rt.method, path, nil)
			if err == nil {
				resp.Body.Close()
				if resp.TLS != nil && resp.StatusCode < 400 && rt.who != forAnybody {
					t.Errorf("%s: %s %s answers %d", name, rt.method, path, resp.StatusCode)
				}
			}
		}
	}
	old := &tls.Config{MaxVersion: tls.VersionTLS12, RootCAs: pki.Pool(c.ca.Cert)}
	u := &user{c: c, http: &http.Client{Transport: &http.Transport{TLSClientConfig: old}}}
	if resp, err := u.request(t.Context(), nil, "GET", "/healthz", nil); err == nil {
		resp.Body.Close()
		t.Error("TLS 1.2 is spoken")
	}
}

func TestOtherPathsAndMethods(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	for path, status := range map[string]int{
		"/": 404, "/v1": 404, "/v1/": 404, "/v1/passwords": 404, "/docs": 404, "/v1//projects": 404,
		"/v1/projects/../tokens": 404, "/v1/projects/": 404, "/debug/pprof/": 404,
	} {
		if a := ann.do("GET", path, nil); a.status != status {
			t.Errorf("%s: %d", path, a.status)
		} else {
			a.problem(t)
		}
	}
	a := ann.do("PATCH", "/v1/projects/shop", "{}")
	if a.problem(t); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, PUT, DELETE" {
		t.Errorf("PATCH: %d, allowed %q", a.status, a.header.Get("Allow"))
	}
}

func TestManyWrongTokensAreSlowedDown(t *testing.T) {
	c := startCluster(t)
	wrong := c.user(pki.NewSecret(), nil)
	for range failuresAllowed {
		wrong.must("GET", "/v1/projects", nil, http.StatusUnauthorized)
	}
	a := wrong.must("GET", "/v1/projects", nil, http.StatusTooManyRequests)
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestEveryMutatingCallIsRecorded(t *testing.T) {
	c := startCluster(t)
	for _, rt := range c.m.routes() {
		heartbeat := strings.HasSuffix(rt.path, "/report") || strings.HasSuffix(rt.path, "/heartbeat/{mark}")
		if rt.audit != (rt.method != "GET" && !heartbeat || rt.session) {
			t.Errorf("%s %s: audit is %v", rt.method, rt.path, rt.audit)
		}
	}
	c.ann().must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	c.user("", nil).must("DELETE", "/v1/projects/shop", nil, http.StatusUnauthorized)
	for _, want := range []string{
		`identity=person:ann from=127.0.0.1 route="PUT /v1/projects/{name}" object="project shop" result=created`,
		`identity=nobody from=127.0.0.1 route="DELETE /v1/projects/{name}" object=shop result=Unauthorized`,
	} {
		if !strings.Contains(c.log.String(), want) {
			t.Errorf("no record %s in\n%s", want, c.log)
		}
	}
}

package master

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/internal/seal"
	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/memory"
)

// cluster is a master that serves on loopback with real TLS over a store in memory.
type cluster struct {
	t     *testing.T
	m     *Master
	store store.Store
	ca    *pki.CA
	key   seal.Key // of secrets
	url   string
	token string
	log   *syncBuffer
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	return startOver(t, memory.New())
}

func startOver(t *testing.T, s store.Store) *cluster {
	t.Helper()
	ca, err := pki.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	c := startNamed(t, s, ca, seal.NewKey(), "m1", pki.NewSecret(), nil)
	c.until("a leader", func() bool { return c.m.term() != 0 })
	return c
}

// another starts a second master of the same cluster, over a store.
func (c *cluster) another(name string, s store.Store) *cluster {
	c.t.Helper()
	other := startNamed(c.t, s, c.ca, c.key, name, c.token, nil)
	other.until("the store to be read", func() bool { return other.m.cache.wait(c.t.Context(), 0) == nil })
	return other
}

func startNamed(t *testing.T, s store.Store, ca *pki.CA, key seal.Key, name, token string, kit func() (api.MasterKit, error)) *cluster {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cert := ca.Master(nil, []netip.Addr{netip.MustParseAddr("127.0.0.1")})
	c := &cluster{t: t, store: s, ca: ca, key: key, url: "https://" + l.Addr().String(), token: token, log: &syncBuffer{}}
	c.m, err = New(Config{
		Secrets: key, Name: name, Kit: kit, Version: "test", Listener: l, CA: ca,
		TLS: pki.ServerConfig(cert, ca.Cert), AgentTLS: pki.ClientConfig(cert, ca.Cert),
		People: []Person{{Name: "ann", TokenHash: pki.HashSecret(c.token)}},
	}, s, slog.New(slog.NewTextHandler(c.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
	return c
}

// until waits for a condition; the test's own time limit ends a wait that is in vain. It looks less often than a person may ask.
func (c *cluster) until(what string, ok func() bool) {
	c.t.Helper()
	for !ok() {
		if c.t.Context().Err() != nil {
			c.t.Fatalf("no %s", what)
		}
		time.Sleep(15 * time.Millisecond)
	}
}

// beat lets every host that has reported go on with it, as agents do: no lease runs out, however slow the machine is.
func (c *cluster) beat() {
	p := c.m.pulses
	go func() {
		for ; c.t.Context().Err() == nil; time.Sleep(time.Second / 2) {
			p.mu.Lock()
			for name, was := range p.last {
				was.at = time.Now()
				p.last[name] = was
			}
			p.mu.Unlock()
		}
	}()
}

// user is a client with an identity.
type user struct {
	c     *cluster
	token string
	http  *http.Client
	name  api.Name
	key   *ecdsa.PrivateKey
}

func (c *cluster) user(token string, cert *tls.Certificate) *user {
	conf := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pki.Pool(c.ca.Cert)}
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	transport := &http.Transport{TLSClientConfig: conf}
	c.t.Cleanup(transport.CloseIdleConnections)
	return &user{c: c, token: token, http: &http.Client{Transport: transport}}
}

func (c *cluster) ann() *user { return c.user(c.token, nil) }

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) problem(t *testing.T) api.Error {
	t.Helper()
	var e api.Error
	if err := api.Decode(a.body, &e); err != nil || e.Status != a.status || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%d %s is no problem: %v", a.status, a.body, err)
	}
	return e
}

func (u *user) request(ctx context.Context, header http.Header, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.c.url+path, bytes.NewReader(body))
	if err != nil {
		u.c.t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	if u.token != "" {
		req.Header.Set("Authorization", "Bearer "+u.token)
	}
	return u.http.Do(req)
}

func (u *user) do(method, path string, body any) answer {
	u.c.t.Helper()
	return u.with(nil, method, path, body)
}

// with does a request that has further headers.
func (u *user) with(header http.Header, method, path string, body any) answer {
	u.c.t.Helper()
	var data []byte
	switch b := body.(type) {
	case nil:
	case string:
		data = []byte(b)
	default:
		data = mustJSON(b)
	}
	resp, err := u.request(u.c.t.Context(), header, method, path, data)
	if err != nil {
		u.c.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		u.c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, got}
}

// must fails the test unless the status is the one that is wanted. It asks again, as clients do, while the master says that its store takes too
// long: on a machine that stalls that is so
// now and then.
func (u *user) must(method, path string, body any, status int) answer {
	u.c.t.Helper()
	a := u.do(method, path, body)
	for range 20 {
		if a.status == status || a.status != http.StatusServiceUnavailable || !bytes.Contains(a.body, []byte("the store cannot do it now")) {
			break
		}
		a = u.do(method, path, body)
	}
	if a.status != status {
		u.c.t.Fatalf("%s %s: %d %s; want %d", method, path, a.status, a.body, status)
	}
	return a
}

func read[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	if err := api.Decode(a.body, &v); err != nil {
		t.Fatalf("reading %s: %v", a.body, err)
	}
	return v
}

// stream opens a stream that ends with the test, line by line.
func (u *user) stream(path string) *lines {
	u.c.t.Helper()
	return u.streamWith(nil, path)
}

// streamWith opens a stream by a request that has further headers.
func (u *user) streamWith(header http.Header, path string) *lines {
	u.c.t.Helper()
	ctx, cancel := context.WithCancel(u.c.t.Context())
	resp, err := u.request(ctx, header, "GET", path, nil)
	if err != nil {
		cancel()
		u.c.t.Fatal(err)
	}
	u.c.t.Cleanup(func() { cancel(); resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		u.c.t.Fatalf("GET %s: %d %s", path, resp.StatusCode, body)
	}
	l := &lines{t: u.c.t, scanner: bufio.NewScanner(resp.Body)}
	l.scanner.Buffer(nil, 8<<20)
	return l
}

type lines struct {
	t       *testing.T
	scanner *bufio.Scanner
}

// next reads one line into v, leaving out empty ones; false at the end.
func (l *lines) next(v any) bool {
	l.t.Helper()
	for l.scanner.Scan() {
		if len(l.scanner.Bytes()) == 0 {
			continue
		}
		if err := json.Unmarshal(l.scanner.Bytes(), v); err != nil {
			l.t.Fatalf("%s: %v", l.scanner.Bytes(), err)
		}
		return true
	}
	return false
}

// join lets a host join and gives its client.
func (c *cluster) join(name string, address string) *user {
	c.t.Helper()
	token := read[api.JoinToken](c.t, c.ann().must("POST", "/v1/tokens", nil, http.StatusCreated))
	key, csr := newRequest(c.t)
	id := read[api.Identity](c.t, c.user("", nil).must("POST", "/v1/join",
		api.JoinRequest{Token: token.Token, Name: api.Name(name), Address: netip.MustParseAddr(address), CSR: csr}, http.StatusCreated))
	u := c.user("", certificate(c.t, id.Certificate, key))
	u.name, u.key = id.Name, key
	return u
}

func newRequest(t *testing.T) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, string(csr)
}

func certificate(t *testing.T, certPEM string, key *ecdsa.PrivateKey) *tls.Certificate {
	t.Helper()
	keyPEM, err := pki.KeyPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair([]byte(certPEM), keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	return &cert
}

// report gives a host's report with room for pods.
func (u *user) report(pods ...api.PodReport) api.HostReport {
	return api.HostReport{Host: u.name, Version: "v1", Capacity: api.Resources{CPU: 4000, Memory: 8 << 30},
		Pods: pods, Endpoints: api.HostEndpoints{Host: u.name}}
}

// web is a service manifest.
func web(project, name string) *api.Service {
	s := api.New(api.KindService).(*api.Service)
	s.Metadata.Name, s.Metadata.Project = api.Name(name), api.Name(project)
	s.Spec.Containers = []api.Container{{Image: "example.com/web:1"}}
	s.Spec.Ports = []api.Port{{Name: "http", Port: 8080}}
	return s
}

func project(name string) *api.Project {
	p := api.New(api.KindProject).(*api.Project)
	p.Metadata.Name = api.Name(name)
	return p
}

// stored gives everything in the store as one text, but what is written only for its revision, and events, which outlive what they tell of.
func (c *cluster) stored() string {
	c.t.Helper()
	items, _, err := c.store.List(c.t.Context(), "")
	if err != nil {
		c.t.Fatal(err)
	}
	var b bytes.Buffer
	for _, it := range items {
		if it.Key == freshKey || strings.HasPrefix(it.Key, eventPrefix) {
			continue
		}
		b.WriteString(it.Key + " " + string(it.Value) + "\n")
	}
	return b.String()
}

package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

func TestServerAddresses(t *testing.T) {
	tests := map[string]string{ // "" for refused
		"10.0.0.1":                   "https://10.0.0.1:7443",
		"master.example.com:99":      "https://master.example.com:99",
		"https://[fd00::1]:7443":     "https://[fd00::1]:7443",
		"https://m/":                 "https://m:7443",
		"fd00::1":                    "https://[fd00::1]:7443",
		"":                           "",
		"http://10.0.0.1:7443":       "",
		"https://u:p@h:1":            "",
		"https://h:1/path":           "",
		"https://h:1?query":          "",
		"h:port":                     "",
		"h:1\nX-Evil: 1":             "",
		"https://https://10.0.0.1:1": "",
	}
	for text, want := range tests {
		c, err := client.New(client.Config{Server: text})
		switch {
		case want == "" && err == nil:
			t.Errorf("%q is taken as %s", text, c.Server())
		case want != "" && (err != nil || c.Server() != want):
			t.Errorf("%q gives %v, %v; want %s", text, c, err, want)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]client.Config{
		"CA":    {Server: "h", CA: []byte("no PEM")},
		"token": {Server: "h", Token: "a\r\nX-Evil: 1"},
	} {
		if _, err := client.New(cfg); err == nil {
			t.Errorf("a wrong %s is taken", name)
		}
	}
}

func web() *api.Service {
	s := api.New(api.KindService).(*api.Service)
	s.Metadata.Project, s.Metadata.Name = "shop", "web"
	return s
}

// TestRequests checks what each method sends, and that its answer comes back.
func TestRequests(t *testing.T) {
	const service = `{"kind":"Service","metadata":{"name":"web","project":"shop","revision":7},"later":"versions may add fields"}`
	key := web().Key()
	tests := map[string]struct {
		answer string
		call   func(context.Context, *client.Client) (any, error)
		want   seen
		check  func(any) bool
	}{
		"get": {service, func(ctx context.Context, c *client.Client) (any, error) {
			return client.Get[api.Service](ctx, c, "shop", "web")
		},
			seen{"GET", "/v1/projects/shop/services/web", "Bearer secret", ""}, func(v any) bool { return v.(*api.Service).Metadata.Revision == 7 }},
		"get by key": {service, func(ctx context.Context, c *client.Client) (any, error) { return c.Get(ctx, key) },
			seen{"GET", "/v1/projects/shop/services/web", "Bearer secret", ""}, func(v any) bool { return v.(*api.Service).Metadata.Revision == 7 }},
		"list": {`{"revision":9,"items":[` + service + `]}`, func(ctx context.Context, c *client.Client) (any, error) { return client.List[api.Service](ctx, c, "") },
			seen{"GET", "/v1/services", "Bearer secret", ""}, func(v any) bool { l := v.(api.List[api.Service]); return l.Revision == 9 && len(l.Items) == 1 }},
		"list aliases of a project": {`{"items":[]}`, func(ctx context.Context, c *client.Client) (any, error) {
			return client.List[api.Alias](ctx, c, "shop")
		},
			seen{"GET", "/v1/projects/shop/aliases", "Bearer secret", ""}, func(any) bool { return true }},
		"create": {service, func(ctx context.Context, c *client.Client) (any, error) { return c.Create(ctx, web()) },
			seen{"POST", "/v1/projects/shop/services", "Bearer secret", `{"kind":"Service","version":"v1","metadata":{"name":"web","project":"shop"},"spec":{"containers":null}}`},
			func(v any) bool { return v.(*api.Service).Metadata.Revision == 7 }},
		"put a host": {`{"kind":"Host"}`, func(ctx context.Context, c *client.Client) (any, error) {
			h := api.New(api.KindHost)
			h.Head().Metadata.Name = "h1"
			_, result, err := c.Put(ctx, h)
			return result, err
		}, seen{"PUT", "/v1/hosts/h1", "Bearer secret", `{"kind":"Host","version":"v1","metadata":{"name":"h1"},"spec":{}}`}, func(v any) bool { return v == client.Configured }},
		"delete": {service, func(ctx context.Context, c *client.Client) (any, error) { return c.Delete(ctx, key, 7) },
			seen{"DELETE", "/v1/projects/shop/services/web?revision=7", "Bearer secret", ""}, func(v any) bool { return v.(*api.Service).Metadata.Revision == 7 }},
		"why": {`{"dropped":true}`, func(ctx context.Context, c *client.Client) (any, error) { return c.Why(ctx, "shop", "web-1") },
			seen{"GET", "/v1/projects/shop/pods/web-1/why", "Bearer secret", ""}, func(v any) bool { return v.(api.Why).Dropped }},
		"token": {`{"token":"a.b.c"}`, func(ctx context.Context, c *client.Client) (any, error) {
			return c.CreateToken(ctx, api.TokenRequest{})
		},
			seen{"POST", "/v1/tokens", "Bearer secret", `{}`}, func(v any) bool { return v.(api.JoinToken).Token == "a.b.c" }},
		"pending": {`{"items":[{"name":"h4"}]}`, func(ctx context.Context, c *client.Client) (any, error) { return c.PendingHosts(ctx) },
			seen{"GET", "/v1/pending", "Bearer secret", ""}, func(v any) bool { return v.(api.PendingList).Items[0].Name == "h4" }},
		"verdict": {`{"name":"h4","state":"approved"}`, func(ctx context.Context, c *client.Client) (any, error) {
			return c.JudgePending(ctx, "h4", api.Verdict{State: api.PendingApproved})
		}, seen{"POST", "/v1/pending/h4", "Bearer secret", `{"state":"approved"}`}, func(v any) bool { return v.(api.PendingHost).State == api.PendingApproved }},
		"mesh": {`{"seq":3,"step":"use"}`, func(ctx context.Context, c *client.Client) (any, error) { return c.Mesh(ctx) },
			seen{"GET", "/v1/mesh", "Bearer secret", ""}, func(v any) bool { return v.(api.MeshKeys).Step == api.MeshUse }},
		"rotate": {`{"seq":2,"step":"install"}`, func(ctx context.Context, c *client.Client) (any, error) { return c.RotateMesh(ctx) },
			seen{"POST", "/v1/mesh/rotate", "Bearer secret", ""}, func(v any) bool { return v.(api.MeshKeys).Seq == 2 }},
		"join": {`{"name":"h1"}`, func(ctx context.Context, c *client.Client) (any, error) {
			return c.Join(ctx, api.JoinRequest{Token: "a.b.c", Name: "h1", Address: netip.MustParseAddr("192.0.2.1")})
		}, seen{"POST", "/v1/join", "Bearer secret", `{"token":"a.b.c","name":"h1","address":"192.0.2.1","csr":""}`}, func(v any) bool { return v.(api.Identity).Name == "h1" }},
		"version": {`{"version":"1.2"}`, func(ctx context.Context, c *client.Client) (any, error) { return c.Version(ctx) },
			seen{"GET", "/v1/version", "Bearer secret", ""}, func(v any) bool { return v == "1.2" }},
		"report": {`{"leases":["k3v7qxw2m5n4a6bz"]}`, func(ctx context.Context, c *client.Client) (any, error) {
			return c.Report(ctx, api.HostReport{Host: "h1"})
		},
			seen{"PUT", "/v1/hosts/h1/report", "Bearer secret", `{"host":"h1","version":"","term":0,"revision":0,"capacity":{},"endpoints":{"host":"","seq":0}}`}, func(v any) bool { return len(v.(api.ReportAnswer).Leases) == 1 }},
		"renew": {`{"certificate":"PEM"}`, func(ctx context.Context, c *client.Client) (any, error) {
			return c.RenewCertificate(ctx, "h1", "CSR")
		}, seen{"POST", "/v1/hosts/h1/certificate", "Bearer secret", `{"csr":"CSR"}`}, func(v any) bool { return v == "PEM" }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Gear-Result", "configured")
				_, _ = io.WriteString(w, tt.answer)
			})
			got, err := tt.call(t.Context(), s.client(t))
			if err != nil || !tt.check(got) {
				t.Errorf("got %+v, %v", got, err)
			}
			if diff := cmp.Diff([]seen{tt.want}, s.calls(), cmp.AllowUnexported(seen{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestWrongNamesLeadNowhere checks that no name can turn a request into one for another path.
func TestWrongNamesLeadNowhere(t *testing.T) {
	s := serve(t, says(200, "{}"))
	c := s.client(t)
	for _, name := range []api.Name{"", ".", ".."} {
		if _, err := client.Get[api.Service](t.Context(), c, "shop", name); err == nil {
			t.Errorf("%q is sent", name)
		}
	}
	for _, name := range []api.Name{"a/b", "../x", "%2e%2e", "a?b", "a\nb"} {
		_, _ = client.Get[api.Service](t.Context(), c, "shop", name)
	}
	for _, call := range s.calls() {
		rest, ok := strings.CutPrefix(call.uri, "/v1/projects/shop/services/")
		if !ok || strings.ContainsAny(rest, "/?") {
			t.Errorf("%q was asked for", call.uri)
		}
	}
}

func TestErrorsOfTheMaster(t *testing.T) {
	fault := api.Fault{Field: "spec.containers", Message: "a pod needs at least one container"}
	s := serve(t, fails(api.CodeInvalid, fault))
	_, _, err := s.client(t).Put(t.Context(), web())
	want := &api.Error{Status: 422, Code: api.CodeInvalid, Detail: "it is so", Faults: []api.Fault{fault}}
	var got *api.Error
	if !errors.As(err, &got) || !cmp.Equal(got, want) {
		t.Errorf("got %#v; want %#v", err, want)
	}
}

func get(ctx context.Context, c *client.Client) error { _, err := c.Get(ctx, web().Key()); return err }
func put(ctx context.Context, c *client.Client) error { _, _, err := c.Put(ctx, web()); return err }
func putRevision(ctx context.Context, c *client.Client) error {
	s := web()
	s.Metadata.Revision = 3
	_, _, err := c.Put(ctx, s)
	return err
}
func create(ctx context.Context, c *client.Client) error { _, err := c.Create(ctx, web()); return err }
func remove(ctx context.Context, c *client.Client) error {
	_, err := c.Delete(ctx, web().Key(), 0)
	return err
}
func removeRevision(ctx context.Context, c *client.Client) error {
	_, err := c.Delete(ctx, web().Key(), 3)
	return err
}
func report(ctx context.Context, c *client.Client) error {
	_, err := c.Report(ctx, api.HostReport{Host: "h1"})
	return err
}

// TestRetries checks which calls are made again after what, and how often.
func TestRetries(t *testing.T) {
	ok, half := says(200, `{"kind":"Service"}`), streams(cut, `{"kind":`)
	busy := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "60")
		fails(api.CodeRateLimited)(w, r)
	}
	tests := map[string]struct {
		answers []http.HandlerFunc
		call    func(context.Context, *client.Client) error
		calls   int
		works   bool
	}{
		"get, not ready":                  {[]http.HandlerFunc{fails(api.CodeUnavailable), ok}, get, 2, true},
		"get, cut":                        {[]http.HandlerFunc{cut, ok}, get, 2, true},
		"get, cut in the answer":          {[]http.HandlerFunc{half, ok}, get, 2, true},
		"get, a proxy's 502":              {[]http.HandlerFunc{says(502, "<html>"), ok}, get, 2, true},
		"get, never":                      {[]http.HandlerFunc{fails(api.CodeUnavailable)}, get, 4, false},
		"get, limited for long":           {[]http.HandlerFunc{busy, ok}, get, 1, false},
		"get, not found":                  {[]http.HandlerFunc{fails(api.CodeNotFound), ok}, get, 1, false},
		"get, garbage":                    {[]http.HandlerFunc{says(200, `<html>`), ok}, get, 1, false},
		"get, another server's 404":       {[]http.HandlerFunc{says(404, `<html>`), ok}, get, 1, false},
		"get, redirected":                 {[]http.HandlerFunc{http.RedirectHandler("/elsewhere", http.StatusFound).ServeHTTP, ok}, get, 1, false},
		"put, cut":                        {[]http.HandlerFunc{cut, ok}, put, 2, true},
		"put at a revision, cut":          {[]http.HandlerFunc{cut, ok}, putRevision, 2, true},
		"put at a revision, conflict":     {[]http.HandlerFunc{fails(api.CodeConflict), ok}, putRevision, 1, false},
		"create, cut":                     {[]http.HandlerFunc{cut, ok}, create, 2, true},
		"create, not ready":               {[]http.HandlerFunc{fails(api.CodeUnavailable), ok}, create, 2, true},
		"delete, cut":                     {[]http.HandlerFunc{cut, ok}, remove, 2, true},
		"delete, not found at once":       {[]http.HandlerFunc{fails(api.CodeNotFound)}, remove, 1, false},
		"delete at a revision, cut":       {[]http.HandlerFunc{cut, ok}, removeRevision, 2, true},
		"report: the next one comes soon": {[]http.HandlerFunc{fails(api.CodeUnavailable), ok}, report, 1, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, inTurn(tt.answers...))
			if err := tt.call(t.Context(), s.client(t)); (err == nil) != tt.works {
				t.Errorf("works: %t, got %v", tt.works, err)
			}
			if got := len(s.calls()); got != tt.calls {
				t.Errorf("%d calls, want %d", got, tt.calls)
			}
		})
	}
}

// TestKeysOfRequests: what is sent again is known by its key, and only that.
func TestKeysOfRequests(t *testing.T) {
	var keys []string
	note := func(next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			keys = append(keys, r.Header.Get("Idempotency-Key"))
			next(w, r)
		}
	}
	ok := note(says(200, `{"kind":"Service"}`))
	c := serve(t, inTurn(note(fails(api.CodeUnavailable)), note(cut), ok)).client(t)
	for _, call := range []func(context.Context, *client.Client) error{create, putRevision, remove, get, apply} {
		if err := call(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if len(keys) != 7 || len(keys[0]) < 20 || keys[1] != keys[0] || keys[2] != keys[0] || keys[3] == keys[0] || keys[4] == keys[3] || keys[4] == "" || keys[5] != "" || keys[6] == "" || keys[6] == keys[4] {
		t.Errorf("the keys are %q", keys)
	}
}

// TestNoAnswer checks what people are told when there is no master at the other end.
func TestNoAnswer(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	alive := serve(t, says(200, "{}"))
	other := serve(t, says(200, "{}"))
	other.TLS.Certificates = nil
	tests := map[string]struct {
		cfg   client.Config
		words string
	}{
		"nobody":        {client.Config{Server: closed.Addr().String()}, "systemctl status gear-master"},
		"no TLS":        {client.Config{Server: raw(t, "HTTP/1.0 400 Bad Request\r\n\r\n")}, "something else listens there"},
		"ssh":           {client.Config{Server: raw(t, "SSH-2.0-OpenSSH_9.2\r\n")}, "something else listens there"},
		"hangs up":      {client.Config{Server: raw(t, "")}, "systemctl status gear-master"},
		"another CA":    {client.Config{Server: alive.URL}, "the CA on record is this cluster's"},
		"another name":  {client.Config{Server: strings.Replace(alive.URL, "127.0.0.1", "localhost", 1), CA: alive.ca()}, "check the address"},
		"other answers": {client.Config{Server: serve(t, says(200, "hello")).URL}, "CA on record"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := client.New(tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			err = get(t.Context(), c)
			var connect *client.ConnectError
			if !errors.As(err, &connect) || !strings.Contains(err.Error(), tt.words) || !strings.Contains(err.Error(), c.Server()) {
				t.Errorf("got %v; want the server and %q", err, tt.words)
			}
		})
	}
}

// TestSlowAnswers checks that a server that only drips is given up.
func TestSlowAnswers(t *testing.T) {
	quick := func(c *client.Config) { c.Timeout, c.Attempts = 50*time.Millisecond, 2 }
	for name, h := range map[string]http.HandlerFunc{"silent": waits, "dripping": drips} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, h)
			err := get(t.Context(), s.client(t, quick))
			var connect *client.ConnectError
			if !errors.As(err, &connect) || !strings.Contains(err.Error(), "no answer in time") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestEndsWithItsContext(t *testing.T) {
	s := serve(t, fails(api.CodeUnavailable))
	ctx, cancel := context.WithCancel(t.Context())
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel()
		fails(api.CodeUnavailable)(w, r)
	})
	if err := get(ctx, s.client(t, func(c *client.Config) { c.Attempts = 1000 })); err == nil {
		t.Error("no error")
	}
	if err := get(ctx, s.client(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v; want it to be context.Canceled", err)
	}
}

// TestCertificate checks that a host shows its certificate, the one of now.
func TestCertificate(t *testing.T) {
	s := serve(t, says(204, ""))
	var shown []*tls.ConnectionState
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown = append(shown, r.TLS)
		w.WriteHeader(http.StatusNoContent)
	})
	s.TLS.ClientAuth = tls.RequestClientCert
	c := s.client(t, func(c *client.Config) {
		c.Token = ""
		c.Certificate = func() (*tls.Certificate, error) { return &s.TLS.Certificates[0], nil }
	})
	if err := report(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if len(shown) != 1 || len(shown[0].PeerCertificates) != 1 || shown[0].Version != tls.VersionTLS13 {
		t.Errorf("the server saw %+v", shown)
	}
	broken := s.client(t, func(c *client.Config) {
		c.Certificate = func() (*tls.Certificate, error) { return nil, errors.New("reading the host's key") }
	})
	if err := report(t.Context(), broken); err == nil || !strings.Contains(err.Error(), "reading the host's key") {
		t.Errorf("got %v", err)
	}
}

func apply(ctx context.Context, c *client.Client) error {
	_, err := c.Apply(ctx, []api.Resource{api.New(api.KindService)}, client.ApplyOptions{})
	return err
}

// TestApply: what is asked for, and the same again when the answer was cut off.
func TestApply(t *testing.T) {
	s := serve(t, inTurn(cut, says(200, `{"revision":9,"dryRun":true,"resources":[{"kind":"Project","name":"shop","result":"created","revision":9}]}`)))
	p := api.New(api.KindProject)
	p.Head().Metadata.Name = "shop"
	got, err := s.client(t).Apply(t.Context(), []api.Resource{p}, client.ApplyOptions{IfRevision: 7, DryRun: true})
	want := api.Applied{Revision: 9, DryRun: true, Resources: []api.ResourceChange{{Kind: api.KindProject, Name: "shop", Result: api.ResultCreated, Revision: 9}}}
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	calls := s.calls()
	if len(calls) != 2 || calls[0] != calls[1] || calls[0].method != "POST" || calls[0].uri != "/v1/apply?dryRun=1&ifRevision=7" || !strings.HasPrefix(calls[0].body, `{"resources":[{"kind":"Project"`) {
		t.Errorf("the calls are %+v", calls)
	}
}

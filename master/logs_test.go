package master

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
)

func at(second int) time.Time { return time.Date(2026, 1, 2, 3, 4, second, 0, time.UTC) }

func texts(lines []api.LogLine) string {
	var out []string
	for _, l := range lines {
		out = append(out, l.Text)
	}
	return strings.Join(out, " ")
}

func TestMergeSorted(t *testing.T) {
	a, b, none := make(chan api.LogLine, 9), make(chan api.LogLine, 9), make(chan api.LogLine)
	for _, s := range []int{1, 3, 5, 6} {
		a <- api.LogLine{Time: at(s), Text: fmt.Sprint("a", s)}
	}
	for _, s := range []int{2, 3, 4} {
		b <- api.LogLine{Time: at(s), Text: fmt.Sprint("b", s)}
	}
	close(a)
	close(b)
	close(none)
	var got []api.LogLine
	err := mergeSorted(t.Context(), []<-chan api.LogLine{none, a, b}, func(l api.LogLine) error { got = append(got, l); return nil })
	if err != nil || texts(got) != "a1 b2 a3 b3 b4 a5 a6" {
		t.Errorf("got %s, %v", texts(got), err)
	}
}

func TestMergeLiveReorders(t *testing.T) {
	in := make(chan api.LogLine, 9)
	for _, s := range []int{2, 1, 4, 3} {
		in <- api.LogLine{Time: at(s), Text: fmt.Sprint(s)}
	}
	close(in)
	var got []api.LogLine
	if err := mergeLive(t.Context(), in, time.Hour, func(l api.LogLine) error { got = append(got, l); return nil }); err != nil || texts(got) != "1 2 3 4" {
		t.Errorf("got %s, %v", texts(got), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	open := make(chan api.LogLine, 1)
	open <- api.LogLine{Text: "x"}
	err := mergeLive(ctx, open, 20*time.Millisecond, func(api.LogLine) error { cancel(); return nil })
	if err == nil {
		t.Error("a line that stands alone is never passed on")
	}
}

// agent answers as an agent does, with the host's own certificate.
func (c *cluster) agent(u *user, l net.Listener, handler http.HandlerFunc) {
	c.t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Listener.Close()
	s.Listener = l
	cert := u.http.Transport.(*http.Transport).TLSClientConfig.Certificates[0]
	s.TLS = pki.AgentConfig(fixed{cert}, c.ca.Cert)
	s.StartTLS()
	c.t.Cleanup(s.Close)
}

// fixed is a pki.Source of one certificate.
type fixed struct{ cert tls.Certificate }

func (f fixed) Certificate() (*tls.Certificate, error) { return &f.cert, nil }

// twoOnAPort listens on two addresses, on the same port: one that is free at both.
func twoOnAPort(t *testing.T) (first, second net.Listener, port uint16) {
	t.Helper()
	for range 20 {
		first, err := net.Listen("tcp", "127.0.0.2:0")
		if err != nil {
			t.Fatal(err)
		}
		port := netip.MustParseAddrPort(first.Addr().String()).Port()
		second, err := net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.3"), port).String())
		if err == nil {
			return first, second, port
		}
		_ = first.Close()
	}
	t.Fatal("no port is free on both addresses")
	return nil, nil, 0
}

// logCluster is a cluster whose service web has a pod on each of two hosts.
func logCluster(t *testing.T, answer func(host string) http.HandlerFunc) (*cluster, []api.Pod) {
	c := startCluster(t)
	ann := c.ann()
	first, second, port := twoOnAPort(t)
	c.m.cfg.AgentPort = port
	for name, l := range map[string]net.Listener{"h1": first, "h2": second} {
		h := c.join(name, netip.MustParseAddrPort(l.Addr().String()).Addr().String())
		h.tell(h.report())
		if handler := answer(name); handler != nil {
			c.agent(h, l, handler)
		} else {
			l.Close()
		}
	}
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	svc := web("shop", "web")
	svc.Spec.Replicas = new(int)
	*svc.Spec.Replicas = 2
	ann.must("PUT", "/v1/projects/shop/services/web", svc, http.StatusCreated)
	var pods []api.Pod
	c.until("two placed pods", func() bool {
		pods = read[api.List[api.Pod]](t, ann.must("GET", "/v1/projects/shop/pods", nil, 200)).Items
		return len(pods) == 2 && pods[0].Spec.Host != "" && pods[1].Spec.Host != ""
	})
	slices.SortFunc(pods, func(a, b api.Pod) int { return strings.Compare(string(a.Spec.Host), string(b.Spec.Host)) })
	if pods[0].Spec.Host != "h1" || pods[1].Spec.Host != "h2" {
		t.Fatalf("on %s and %s", pods[0].Spec.Host, pods[1].Spec.Host)
	}
	return c, pods
}

func TestLogsOfAllHosts(t *testing.T) {
	c, _ := logCluster(t, func(host string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("tail") != "5" || r.URL.Query().Get("since") != "10m0s" {
				t.Errorf("asked for %s", r.URL)
			}
			for s := range 4 {
				offset := map[string]int{"h1": 0, "h2": 1}[host]
				_ = json.NewEncoder(w).Encode(api.LogLine{Time: at(2*s + offset), Pod: "forged", Text: fmt.Sprint(host, "-", s, "\x1b")})
			}
		}
	})
	w := c.ann().stream("/v1/projects/shop/logs?service=web&tail=5&since=10m")
	var got []api.LogLine
	for l := (api.LogLine{}); w.next(&l); l = (api.LogLine{}) {
		if l.Project != "shop" || l.Service != "web" || l.Pod == "forged" || l.Host == "" {
			t.Errorf("got %+v", l)
		}
		got = append(got, l)
	}
	if want := "h1-0 h2-0 h1-1 h2-1 h1-2 h2-2 h1-3 h2-3"; texts(got) != want {
		t.Errorf("got %s", texts(got))
	}
}

func TestLogsWithoutOneHost(t *testing.T) {
	c, _ := logCluster(t, func(host string) http.HandlerFunc {
		if host == "h2" {
			return nil
		}
		return func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(api.LogLine{Time: at(1), Text: "hello"})
		}
	})
	w := c.ann().stream("/v1/projects/shop/logs")
	var hello, missing api.LogLine
	if !w.next(&hello) || !w.next(&missing) || hello.Text != "hello" || missing.Host != "h2" || !strings.Contains(missing.Text, "cannot be read") {
		t.Errorf("got %+v, %+v", hello, missing)
	}
	e := c.ann().must("GET", "/v1/projects/shop/logs?pod=nosuch", nil, http.StatusNotFound).problem(t)
	if e.Code != api.CodeNotFound {
		t.Errorf("got %+v", e)
	}
}

func TestFollowedLogsTakeInNewPods(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	c, pods := logCluster(t, func(host string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewEncoder(w).Encode(api.LogLine{Time: time.Now(), Text: "pod " + r.URL.Path})
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
			case <-stop:
			}
		}
	})
	w := c.ann().stream("/v1/projects/shop/logs?follow=1")
	seen := map[api.Name]bool{}
	var l api.LogLine
	for len(seen) < 2 && w.next(&l) {
		seen[l.Pod] = true
	}
	c.ann().must("DELETE", "/v1/projects/shop/pods/"+string(pods[0].Metadata.Name), nil, http.StatusOK)
	for len(seen) < 3 && w.next(&l) { // its replacement
		seen[l.Pod] = true
	}
	if len(seen) != 3 {
		t.Errorf("seen %v", seen)
	}
}

func TestWhy(t *testing.T) {
	c, pods := logCluster(t, func(host string) http.HandlerFunc {
		if host == "h2" {
			return nil
		}
		return func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewEncoder(w).Encode(api.Why{Units: []api.TextFile{{Name: "u", Text: r.URL.Path}}})
		}
	})
	get := func(p api.Pod) api.Why {
		return read[api.Why](t, c.ann().must("GET", "/v1/projects/shop/pods/"+string(p.Metadata.Name)+"/why", nil, http.StatusOK))
	}
	there, away := get(pods[0]), get(pods[1])
	if there.Dropped || len(there.Units) != 1 || there.Units[0].Text != "/v1/pods/"+string(pods[0].Metadata.UID)+"/why" || there.Pod.Spec.Placement == nil {
		t.Errorf("got %+v", there)
	}
	if !away.Dropped || away.Pod.Metadata.Name != pods[1].Metadata.Name {
		t.Errorf("got %+v", away)
	}
}

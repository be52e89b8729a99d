package linkfeed

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

const uidA, uidB = api.UID("aaaaaaaaaaaaaaaa"), api.UID("bbbbbbbbbbbbbbbb")

// rig is a server on a disk of its own.
type rig struct {
	t    *testing.T
	dirs podstate.Dirs
	s    *Server
}

func newRig(t *testing.T, change func(*limits)) *rig {
	dir, err := os.MkdirTemp("", "feed") // t.TempDir has the test's name in it, and a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dirs: podstate.Dirs{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}}
	l := defaults()
	l.burst = 1 << 20
	if change != nil {
		change(&l)
	}
	r.s = newServer(r.dirs, slog.New(slog.DiscardHandler), l)
	t.Cleanup(func() { r.s.Stop(); _ = os.RemoveAll(dir) })
	for _, uid := range []api.UID{uidA, uidB} {
		r.put(uid)
	}
	return r
}

// put puts a pod on disk.
func (r *rig) put(uid api.UID) {
	r.t.Helper()
	p := api.Pod{Header: api.Header{Kind: api.KindPod, Metadata: api.Metadata{Name: "web-1", Project: "shop", UID: uid}}}
	if err := r.dirs.Save(p, podstate.Net{Address: netip.MustParseAddr("10.127.0.2")}, nil); err != nil {
		r.t.Fatal(err)
	}
}

// tell tells a pod of a link with backends at these ports.
func (r *rig) tell(uid api.UID, ports ...uint16) {
	link := api.LinkTarget{Service: "db", Local: netip.MustParseAddr("127.1.0.1"), Port: 5432, Protocol: api.TCP, Localhost: true}
	for _, p := range ports {
		link.Backends = append(link.Backends, netip.AddrPortFrom(netip.MustParseAddr("10.0.0.2"), p))
	}
	r.s.Tell(uid, "shop", "web-1", []api.LinkTarget{link})
}

// client is a program in a container of a pod.
func (r *rig) client(uid api.UID) *http.Client {
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", r.dirs.LinksSocket(uid))
	}}}
	r.t.Cleanup(c.CloseIdleConnections)
	return c
}

// events is a stream that a container reads.
type events struct {
	t    *testing.T
	body *bufio.Reader
	end  func() error
	last int64
}

func (r *rig) stream(uid api.UID) *events {
	r.t.Helper()
	resp, err := r.client(uid).Get("http://links/v1/links/stream")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		r.t.Fatalf("the stream is %s, %q", resp.Status, resp.Header)
	}
	return &events{t: r.t, body: bufio.NewReader(resp.Body), end: resp.Body.Close}
}

// next reads an event, in the form of the HTML standard (server-sent events), and gives the backends of the first link.
func (e *events) next() string {
	e.t.Helper()
	var name, id, data string
	for {
		line, err := e.body.ReadString('\n')
		if err != nil {
			e.t.Fatalf("the stream has ended: %v", err)
		}
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch key {
		case "event":
			name = value
		case "id":
			id = value
		case "data":
			data = value
		}
		if line == "\n" && data != "" {
			break
		}
	}
	var f api.LinkFeed
	if err := json.Unmarshal([]byte(data), &f); err != nil || name != "links" || id != fmt.Sprint(f.ID) || f.ID <= e.last || f.Pod != "web-1" {
		e.t.Fatalf("event %q with id %q after %d has %s: %v", name, id, e.last, data, err)
	}
	e.last = f.ID
	return fmt.Sprint(f.Links[0].Backends)
}

func (r *rig) get(uid api.UID) (int, api.LinkFeed, error) {
	resp, err := r.client(uid).Get("http://links/v1/links")
	if err != nil {
		return 0, api.LinkFeed{}, err
	}
	defer resp.Body.Close()
	var f api.LinkFeed
	return resp.StatusCode, f, json.NewDecoder(resp.Body).Decode(&f)
}

// until waits for a condition; the time is a bound for a hang, not a measurement.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still waiting for %s", what)
		}
	}
}

func TestStream(t *testing.T) {
	r := newRig(t, nil)
	r.tell(uidA, 20001)
	code, f, err := r.get(uidA)
	if err != nil || code != http.StatusOK || len(f.Links) != 1 || !f.Links[0].Available {
		t.Fatalf("now: %d, %+v, %v", code, f, err)
	}
	e := r.stream(uidA)
	if got := e.next(); got != "[{10.0.0.2:20001 0}]" {
		t.Errorf("at first %s", got)
	}
	r.tell(uidA, 20001) // no change, no event: the next one is another
	r.tell(uidB, 20007) // another pod's
	r.tell(uidA, 20001, 20002)
	if got := e.next(); got != "[{10.0.0.2:20001 0} {10.0.0.2:20002 0}]" {
		t.Errorf("then %s", got)
	}
	r.tell(uidA)
	if got := e.next(); got != "[]" {
		t.Errorf("at last %s", got)
	}
}

// A stream is longer than the time for a request, and alive meanwhile.
func TestHeartbeat(t *testing.T) {
	r := newRig(t, func(l *limits) { l.read, l.heartbeat = 4*time.Second, 500*time.Millisecond })
	r.tell(uidA, 20001)
	e := r.stream(uidA)
	e.next()
	for n := 0; n < 10; {
		line, err := e.body.ReadString('\n')
		if err != nil {
			t.Fatalf("after %d heartbeats: %v", n, err)
		}
		if strings.HasPrefix(line, ":") {
			n++
		}
	}
	r.tell(uidA, 20002)
	if got := e.next(); got != "[{10.0.0.2:20002 0}]" {
		t.Errorf("then %s", got)
	}
}

func TestBadRequests(t *testing.T) {
	r := newRig(t, nil)
	r.tell(uidA, 20001)
	for _, tt := range []struct {
		method, path, body string
		want               int
		code               api.Code
	}{
		{"GET", "/", "", 404, api.CodeNotFound},
		{"GET", "/v1/links/", "", 404, api.CodeNotFound},
		{"GET", "/v1%2flinks", "", 404, api.CodeNotFound},
		{"GET", "/v1/../v1/links", "", 404, api.CodeNotFound},
		{"POST", "/v1/links", "", 405, api.CodeBadRequest},
		{"HEAD", "/v1/links/stream", "", 405, api.CodeBadRequest},
		{"GET", "/v1/links?pod=other", "", 400, api.CodeBadRequest},
		{"GET", "/v1/links", "{}", 400, api.CodeBadRequest},
	} {
		req, err := http.NewRequest(tt.method, "http://links"+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := r.client(uidA).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var e api.Error
		err = json.NewDecoder(resp.Body).Decode(&e)
		_ = resp.Body.Close()
		if resp.StatusCode != tt.want || resp.Header.Get("Content-Type") != "application/problem+json" || tt.method != "HEAD" && (err != nil || e.Code != tt.code || e.Detail == "" || e.Status != tt.want) {
			t.Errorf("%s %s is %s, %+v, %v", tt.method, tt.path, resp.Status, e, err)
		}
	}
}

func TestLongHeader(t *testing.T) {
	r := newRig(t, nil)
	r.tell(uidA, 20001)
	req, err := http.NewRequest(http.MethodGet, "http://links/v1/links", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Long", strings.Repeat("x", 64<<10))
	resp, err := r.client(uidA).Do(req)
	if err != nil { // it may be cut off while it still writes
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 64 KiB is %s", resp.Status)
	}
}

// A pod has so many connections and no more; another pod has its own, also when the host has no more for all.
func TestTooManyConnections(t *testing.T) {
	r := newRig(t, func(l *limits) { l.perPod, l.perHost = 4, 3 })
	r.tell(uidA, 20001)
	r.tell(uidB, 20001)
	var open []*events
	for range 3 {
		open = append(open, r.stream(uidA))
		open[len(open)-1].next()
	}
	if code, _, err := r.get(uidA); err != nil || code != http.StatusServiceUnavailable {
		t.Errorf("one more than the host has: %d, %v", code, err)
	}
	r.stream(uidB).next()
	r.stream(uidB).next()
	if code, _, err := r.get(uidB); err != nil || code != http.StatusServiceUnavailable {
		t.Errorf("one more than the other is sure of: %d, %v", code, err)
	}
	until(t, "the one too many to be gone", func() bool { r.s.mu.Lock(); defer r.s.mu.Unlock(); return len(r.s.pods[uidA].conns) == 3 })
	for range 4 { // silent ones fill what is spare, and then there is no answer at all
		c, err := net.Dial("unix", r.dirs.LinksSocket(uidA))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if code, _, err := r.get(uidA); err == nil {
		t.Errorf("beyond what is spare: %d", code)
	}
	_ = open[0].end()
	_ = open[1].end()
	until(t, "the first pod to have room", func() bool { code, _, err := r.get(uidA); return err == nil && code == http.StatusOK })
}

// Who asks too often waits, and nobody else does.
func TestPace(t *testing.T) {
	p := pace{burst: 3, interval: time.Second}
	now := time.Unix(1e9, 0)
	var got []time.Duration
	for range 5 {
		got = append(got, max(p.take(now), 0))
	}
	got = append(got, max(p.take(now.Add(time.Minute)), 0))
	if want := "[0s 0s 0s 1s 2s 0s]"; fmt.Sprint(got) != want {
		t.Errorf("turns are off %v, want %s", got, want)
	}
}

// A reader that does not read is dropped, and until then others hear of every change.
func TestSlowReader(t *testing.T) {
	r := newRig(t, func(l *limits) { l.write = time.Second })
	r.tell(uidA, 20001)
	slow, err := net.Dial("unix", r.dirs.LinksSocket(uidA))
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if _, err := io.WriteString(slow, "GET /v1/links/stream HTTP/1.1\r\nHost: links\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	e := r.stream(uidA)
	e.next()
	i := 0
	until(t, "it to be dropped", func() bool {
		for range 100 {
			i++
			r.tell(uidA, 20001, uint16(30000+i%30000))
		}
		for want := fmt.Sprintf("[{10.0.0.2:20001 0} {10.0.0.2:%d 0}]", 30000+i%30000); e.next() != want; {
		}
		r.s.mu.Lock()
		defer r.s.mu.Unlock()
		return len(r.s.pods[uidA].conns) == 1
	})
}

// A socket that a killed agent has left refuses, and the next agent's is in its place; what a stopped one has left is a directory.
func TestRestart(t *testing.T) {
	r := newRig(t, nil)
	r.tell(uidA, 20001)
	_, before, err := r.get(uidA)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(r.dirs.LinksSocket(uidA))
	if err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("the socket is %v, %v", info, err)
	}
	e := r.stream(uidA)
	e.next()
	r.s.Stop()
	if _, err := e.body.ReadString('\n'); err == nil {
		t.Error("the stream of a server that has stopped goes on")
	}
	if entries, err := os.ReadDir(r.dirs.Links(uidA)); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
	killed, err := net.ListenUnix("unix", &net.UnixAddr{Name: r.dirs.LinksSocket(uidA), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	killed.SetUnlinkOnClose(false)
	_ = killed.Close()
	if _, _, err := r.get(uidA); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("without an agent: %v", err)
	}
	r.s = New(r.dirs, slog.New(slog.DiscardHandler))
	r.tell(uidA, 20001)
	if _, after, err := r.get(uidA); err != nil || after.ID <= before.ID {
		t.Errorf("id %d came after %d, %v", after.ID, before.ID, err)
	}
}

// With a pod everything of it goes, and a look that is out of date brings nothing back.
func TestRemoval(t *testing.T) {
	r := newRig(t, nil)
	r.tell(uidA, 20001)
	e := r.stream(uidA)
	e.next()
	r.s.Leave(uidA)
	r.tell(uidA, 20002)
	if err := r.dirs.Remove(uidA); err != nil {
		t.Fatal(err)
	}
	r.tell(uidA, 20003)
	r.s.Forget(uidA)
	r.tell(uidA, 20004)
	if _, err := e.body.ReadString('\n'); err == nil {
		t.Error("its stream goes on")
	}
	if _, err := os.Stat(r.dirs.RunPod(uidA)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its directory is there: %v", err)
	}
	until(t, "nothing to be remembered of it", func() bool { r.s.mu.Lock(); defer r.s.mu.Unlock(); return len(r.s.pods) == 0 && r.s.open == 0 })
}

// Keep lets go of what is not on disk, and of nothing else: also of no pod that came after the look.
func TestKeep(t *testing.T) {
	r := newRig(t, nil)
	r.tell(uidA, 20001)
	r.tell(uidB, 20001)
	if err := r.dirs.Remove(uidB); err != nil {
		t.Fatal(err)
	}
	if err := r.s.Keep(func(api.UID) bool { return false }); err != nil {
		t.Error(err)
	}
	if _, _, err := r.get(uidA); err != nil {
		t.Errorf("the pod on disk: %v", err)
	}
	if len(r.s.pods) != 1 {
		t.Errorf("there are %d pods", len(r.s.pods))
	}
}

// A socket that cannot be made is said, and made as soon as it can be.
func TestTrouble(t *testing.T) {
	r := newRig(t, nil)
	if err := os.MkdirAll(r.dirs.RunPod(uidA), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.dirs.Links(uidA), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	all := func(api.UID) bool { return true }
	if r.tell(uidA, 20001); r.s.Keep(all) == nil {
		t.Error("a file in the directory's place is no trouble")
	}
	if err := os.Remove(r.dirs.Links(uidA)); err != nil {
		t.Fatal(err)
	}
	if r.tell(uidA, 20001); r.s.Keep(all) != nil {
		t.Error(r.s.Keep(all))
	}
	if _, f, err := r.get(uidA); err != nil || len(f.Links) != 1 {
		t.Errorf("%+v, %v", f, err)
	}
}

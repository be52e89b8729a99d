package runner

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/engine/enginetest"
	"gearmesh.dev/geard/podstate"
)

const (
	testUID  = api.UID("k3v7qxw2m5n4a6bz")
	testName = "gear.shop.web-7f3k2.main"
)

// host is a host in memory: a fake engine, a real state directory, a systemd that listens.
type host struct {
	t      *testing.T
	dirs   podstate.Dirs
	engine *enginetest.Fake

	mu       sync.Mutex
	notified []string
	out      bytes.Buffer
}

// newHost makes a host with a pod of one container that runs a program.
func newHost(t *testing.T, c api.Container, programs map[string]enginetest.Program) *host {
	dir := t.TempDir()
	h := &host{t: t, dirs: podstate.Dirs{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}, engine: enginetest.New(programs)}
	c.Name, c.Image = "main", "bb:1"
	pod := api.Pod{
		Header: api.Header{Kind: api.KindPod, Metadata: api.Metadata{Name: "web-7f3k2", Project: "shop", UID: testUID}},
		Spec:   api.PodSpec{Service: "web", Hash: "h1", Template: api.PodTemplate{Containers: []api.Container{c}, Env: map[string]string{"A": "template", "B": "template"}}},
	}
	if err := h.dirs.Save(pod, podstate.Net{Address: netip.MustParseAddr("10.127.0.2")}, nil); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.out.Write(b)
}

func (h *host) output() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.out.String()
}

func (h *host) config() Config {
	return Config{
		Engine: h.engine, Dirs: h.dirs, UID: testUID, Container: "main",
		Unit:  func(api.Pod, api.Name) string { return "gear-shop-web-7f3k2.service" },
		Slice: func(api.Pod) string { return `gear-shop-web\x2d7f3k2.slice` },
		Notify: func(s string) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.notified = append(h.notified, s)
		},
		Stdout: h, Stderr: h, Log: slog.New(slog.DiscardHandler),
	}
}

// told tells whether systemd was told that.
func (h *host) told(what string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains(h.notified, what)
}

func (h *host) state() api.ContainerStatus {
	s, err := h.dirs.LoadRun(testUID, "main")
	if err != nil {
		h.t.Error(err)
	}
	return s
}

// result is what Run gave.
type result struct {
	code int
	err  error
}

// run runs a runner in the background.
func (h *host) run(ctx context.Context) <-chan result {
	done := make(chan result, 1)
	go func() {
		code, err := Run(ctx, h.config())
		done <- result{code, err}
	}()
	return done
}

func sh(text string) api.Container { return api.Container{Command: []string{"/bin/sh", "-c", text}} }

func TestRunOfOneThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, sh("p"), map[string]enginetest.Program{"p": {Lines: []string{"one", "two"}, Runs: 5 * time.Second, Exit: 7}})
		if r := <-h.run(t.Context()); r.code != 7 || r.err != nil {
			t.Fatalf("got %v, want the exit code", r)
		}
		if h.output() != "one\ntwo\n" || !h.told("READY=1") {
			t.Errorf("output %q, systemd was told %q", h.output(), h.notified)
		}
		s := h.state()
		if s.State != api.RunBackOff || s.Reason != api.ReasonExited || s.ExitCode != 7 || s.ID != "" || !strings.Contains(s.Message, "exit status 7; it last wrote:\none\ntwo; next try in 1s") {
			t.Errorf("state is %+v", s)
		}
		records, _ := os.ReadDir(filepath.Join(h.dirs.Run, "containers"))
		if got := h.engine.Calls(); !slices.Equal(got, []string{"create " + testName, "start " + testName, "remove " + testName}) || len(records) != 0 {
			t.Errorf("calls %q, %d records left", got, len(records))
		}
	})
}

func TestRunBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, sh("p"), map[string]enginetest.Program{"p": {Runs: time.Second, Exit: 1}})
		var waits []time.Duration
		for range 4 {
			start := time.Now()
			<-h.run(t.Context())
			waits = append(waits, time.Since(start).Truncate(time.Second)-time.Second)
		}
		if want := []time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second}; !slices.Equal(waits, want) {
			t.Errorf("waits are %v, want %v", waits, want)
		}
		if s := h.state(); s.Restarts != 3 {
			t.Errorf("state is %+v, want 3 restarts", s)
		}
	})
}

func TestRunOOM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sh("p")
		c.Resources.Memory = 16 << 20
		h := newHost(t, c, map[string]enginetest.Program{"p": {Runs: time.Second, Exit: 137, OOM: true}})
		<-h.run(t.Context())
		if s := h.state(); s.Reason != api.ReasonOOMKilled || !strings.Contains(s.Message, "memory limit of 16Mi") {
			t.Errorf("state is %+v", s)
		}
	})
}

func TestRunStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, sh("p"), nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := h.run(ctx)
		time.Sleep(time.Second)
		if s := h.state(); s.State != api.RunRunning || !s.Ready || s.Started.IsZero() {
			t.Errorf("state is %+v, want it running", s)
		}
		cancel()
		if r := <-done; r != (result{}) {
			t.Errorf("got %v, want success", r)
		}
		if s := h.state(); s.State != api.RunStopped || s.ID != "" || s.Ready {
			t.Errorf("state is %+v, want it stopped", s)
		}
		if got := strings.Join(h.engine.Calls()[2:], ", "); got != "stop "+testName+", remove "+testName {
			t.Errorf("calls are %s", got)
		}
	})
}

func TestRunStopsWhileItBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, sh("p"), nil)
		h.engine.Images = nil
		<-h.run(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		done := h.run(ctx)
		synctest.Wait()
		cancel()
		if r := <-done; r != (result{}) || h.state().State != api.RunStopped {
			t.Errorf("got %v, state %+v", r, h.state())
		}
	})
}

func TestRunSaysWhyNothingWasCreated(t *testing.T) {
	tests := map[string]func(*enginetest.Fake){
		"no such image":     func(f *enginetest.Fake) { f.Images = nil },
		"exec: not found":   func(f *enginetest.Fake) { f.FailStart = errors.New("exec: not found") },
		"no such container": func(f *enginetest.Fake) { f.FailStart = engine.ErrNoContainer },
	}
	for want, spoil := range tests {
		t.Run(want, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, sh("p"), nil)
				spoil(h.engine)
				if r := <-h.run(t.Context()); r.err == nil {
					t.Errorf("got %v, want an error", r)
				}
				s := h.state()
				if s.State != api.RunBackOff || s.Reason != api.ReasonCreateFailed || !strings.Contains(s.Message, want) || !strings.Contains(s.Message, "next try in 1s") {
					t.Errorf("state is %+v", s)
				}
				if _, err := h.engine.Inspect(t.Context(), testName); !errors.Is(err, engine.ErrNoContainer) {
					t.Errorf("something is left: %v", err)
				}
			})
		})
	}
}

func TestRunOutlivesTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, sh("p"), map[string]enginetest.Program{"p": {Lines: []string{"one"}, Runs: 2 * time.Minute}})
		done := h.run(t.Context())
		time.Sleep(time.Second)
		h.engine.SetDown(true)
		time.Sleep(5 * time.Second)
		if s := h.state(); s.State != api.RunRunning || !s.Ready || s.Reason != api.ReasonEngineDown {
			t.Errorf("while the engine is down: %+v", s)
		}
		h.engine.Write(testName, "two")
		h.engine.SetDown(false)
		time.Sleep(5 * time.Second)
		if s := h.state(); s.State != api.RunRunning || !s.Ready || s.Reason != "" {
			t.Errorf("when it is back: %+v", s)
		}
		if r := <-done; r != (result{}) || h.output() != "one\ntwo\n" {
			t.Errorf("got %v, output %q; want every line once", r, h.output())
		}
		if got := len(h.engine.Calls()); got != 3 {
			t.Errorf("calls are %q; want one create, start and remove", h.engine.Calls())
		}
	})
}

func TestRunWaitsForTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, sh("p"), map[string]enginetest.Program{"p": {Runs: time.Second}})
		h.engine.SetDown(true)
		done := h.run(t.Context())
		time.Sleep(time.Hour)
		if s := h.state(); s.State != api.RunWaiting || s.Reason != api.ReasonEngineDown {
			t.Errorf("state is %+v", s)
		}
		h.engine.SetDown(false)
		if r := <-done; r != (result{}) {
			t.Errorf("got %v", r)
		}
	})
}

func TestRunAdoptsAfterAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sh("p")
		c.Ready = &api.Check{Command: []string{"ok"}}
		h := newHost(t, c, map[string]enginetest.Program{"p": {Lines: []string{"one"}}})
		first, drop := context.WithCancel(t.Context())
		done := h.run(first)
		time.Sleep(10 * time.Second)
		before := h.state()
		// What kill -9 leaves behind: the container, the state, the position in the output.
		files := keepFiles(t, h.dirs.RunPod(testUID))
		record, err := os.ReadFile(h.dirs.Record(before.ID))
		if err != nil || string(record) != "/run/netns/gear-k3v7qxw2m5n4a6bz\n" {
			t.Fatalf("record is %q, %v", record, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		h.engine.Write(testName, "two")
		synctest.Wait()
		putFiles(t, h.dirs.RunPod(testUID), files) // as if "two" had not been seen
		second := h.run(ctx)
		time.Sleep(10 * time.Second)
		after := h.state()
		if after.ID != before.ID || !after.Ready || !after.Started.Equal(before.Started) || after.Restarts != 0 {
			t.Errorf("adopted as %+v, was %+v", after, before)
		}
		if got := strings.Count(h.output(), "one\n"); got != 1 {
			t.Errorf("output is %q; want the first line once", h.output())
		}
		if got := len(h.engine.Calls()); got != 2 {
			t.Errorf("calls are %q; want no second copy", h.engine.Calls())
		}
		cancel()
		<-second
		drop()
		<-done
	})
}

func keepFiles(t *testing.T, dir string) map[string][]byte {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		files[e.Name()], _ = os.ReadFile(filepath.Join(dir, e.Name()))
	}
	return files
}

func putFiles(t *testing.T, dir string, files map[string][]byte) {
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRunCollectsAnEndNobodySaw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, sh("p"), map[string]enginetest.Program{"p": {Lines: []string{"last words"}, Runs: 3 * time.Second, Exit: 9}})
		spec := MakeSpec(h.dirs, must(h.dirs.LoadPod(testUID)), sh("p"), "s")
		spec.Name, spec.Image = testName, "bb:1"
		spec.Labels = Labels(must(h.dirs.LoadPod(testUID)), "main")
		id := must(h.engine.Create(t.Context(), spec))
		if err := errors.Join(h.engine.Start(t.Context(), id), h.dirs.SaveRun(testUID, "main", api.ContainerStatus{Name: "main", State: api.RunRunning, ID: id})); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if r := <-h.run(t.Context()); r.code != 9 || h.output() != "last words\n" {
			t.Errorf("got %v, output %q", r, h.output())
		}
		if s := h.state(); s.Reason != api.ReasonExited || !strings.Contains(s.Message, "next try in 1s") {
			t.Errorf("state is %+v; a run of 3 s was a quick one, however late it is seen", s)
		}
	})
}

// After a power cut the engine still has the container, dead, and /run has nothing.
func TestRunAfterAReboot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, sh("p"), map[string]enginetest.Program{"p": {Runs: time.Second}})
		pod := must(h.dirs.LoadPod(testUID))
		id := must(h.engine.Create(t.Context(), MakeSpec(h.dirs, pod, pod.Spec.Template.Containers[0], "s")))
		if err := h.engine.Start(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if r := <-h.run(t.Context()); r != (result{}) {
			t.Errorf("got %v", r)
		}
		want := []string{"create " + testName, "start " + testName, "remove " + testName, "create " + testName, "start " + testName, "remove " + testName}
		if got := h.engine.Calls(); !slices.Equal(got, want) {
			t.Errorf("calls are %q; want the dead one removed and a new one", got)
		}
	})
}

func TestRunAfterSomebodyElseRemovedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, sh("p"), nil)
		done := h.run(t.Context())
		time.Sleep(time.Second)
		_ = h.engine.Remove(t.Context(), testName)
		if r := <-done; r.err == nil || !strings.Contains(h.state().Message, "removed by someone else") {
			t.Errorf("got %v, state %+v", r, h.state())
		}
	})
}

func TestRunReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sh("p")
		c.Ready = &api.Check{Command: []string{"check"}}
		h := newHost(t, c, nil)
		var code atomic.Int32
		code.Store(1)
		h.engine.ExecExit = func([]string) int { return int(code.Load()) }
		ctx, cancel := context.WithCancel(t.Context())
		done := h.run(ctx)
		time.Sleep(10 * time.Second)
		if s := h.state(); s.Ready || s.Reason != api.ReasonNotReady || !strings.Contains(s.Message, "exit status 1") || h.told("READY=1") {
			t.Errorf("before: %+v", s)
		}
		code.Store(0)
		time.Sleep(3 * time.Second)
		if s := h.state(); !s.Ready || s.Reason != "" || !h.told("READY=1") {
			t.Errorf("ready: %+v", s)
		}
		code.Store(1)
		time.Sleep(10 * time.Second)
		if s := h.state(); s.Ready || s.State != api.RunRunning {
			t.Errorf("not any more: %+v", s)
		}
		cancel()
		<-done
	})
}

func TestMakeSpec(t *testing.T) {
	h := newHost(t, api.Container{Env: map[string]string{"B": "container"}}, nil)
	pod := must(h.dirs.LoadPod(testUID))
	pod.Spec.Template.Links = []api.Link{{Service: "my-db", LocalPort: 5432, Protocol: api.TCP}}
	s := MakeSpec(h.dirs, pod, pod.Spec.Template.Containers[0], "x.slice")
	if s.Env["MY_DB_ADDR"] != "127.0.0.1:5432" {
		t.Errorf("the link is not in the environment: %v", s.Env)
	}
	if s.Env["A"] != "template" || s.Env["B"] != "container" || pod.Spec.Template.Env["B"] != "template" {
		t.Errorf("environment is %v, the pod's now %v", s.Env, pod.Spec.Template.Env)
	}
	if s.Name != testName || s.Hostname != "web-7f3k2" || s.Slice != "x.slice" || len(s.Mounts) != 4 || !s.Mounts[0].ReadOnly {
		t.Errorf("spec is %+v", s)
	}
	links := engine.Mount{Source: filepath.Join(h.dirs.Run, "pods", string(testUID), "links"), Target: "/run/gearmesh", ReadOnly: true}
	if s.Env["GEAR_LINKS_SOCKET"] != "/run/gearmesh/links.sock" || s.Mounts[3] != links {
		t.Errorf("of its links it is told at %q, by %+v", s.Env["GEAR_LINKS_SOCKET"], s.Mounts)
	}
}

func TestEnsureVolumes(t *testing.T) {
	h := newHost(t, api.Container{User: "1234", Mounts: []api.Mount{{Volume: "data", Path: "/data"}}}, nil)
	pod := must(h.dirs.LoadPod(testUID))
	pod.Spec.Template.Volumes = []api.Volume{{Name: "data"}}
	for range 2 {
		if err := ensureVolumes(h.dirs, pod, pod.Spec.Template.Containers[0]); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(h.dirs.Volumes("shop", "web") + "/data"); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("volume is %v, %v", info, err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

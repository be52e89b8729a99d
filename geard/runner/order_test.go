package runner

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/engine/enginetest"
)

// pod replaces the host's pod by one of these containers.
func (h *host) pod(init []api.Container, containers ...api.Container) {
	h.t.Helper()
	pod, err := h.dirs.LoadPod(testUID)
	if err != nil {
		h.t.Fatal(err)
	}
	net, err := h.dirs.LoadNet(testUID)
	if err != nil {
		h.t.Fatal(err)
	}
	pod.Spec.Template.InitContainers, pod.Spec.Template.Containers = init, containers
	if err := h.dirs.Save(pod, net, nil); err != nil {
		h.t.Fatal(err)
	}
}

// runAs runs the runner of one of the pod's containers in the background.
func (h *host) runAs(ctx context.Context, name api.Name) <-chan result {
	c := h.config()
	c.Container = name
	done := make(chan result, 1)
	go func() {
		code, err := Run(ctx, c)
		done <- result{code, err}
	}()
	return done
}

func (h *host) stateOf(name api.Name) api.ContainerStatus {
	s, err := h.dirs.LoadRun(testUID, name)
	if err != nil {
		h.t.Error(err)
	}
	return s
}

func named(name api.Name, program string) api.Container {
	c := sh(program)
	c.Name, c.Image = name, "bb:1"
	return c
}

func TestInitContainersRunInOrderToSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, sh(""), map[string]enginetest.Program{"ok": {Runs: 5 * time.Second}, "bad": {Runs: time.Second, Exit: 3}})
		h.pod([]api.Container{named("one", "ok"), named("two", "bad")}, named("main", "stays"))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		// All at once, as systemd does when an init container fails.
		one, two, main := h.runAs(ctx, "one"), h.runAs(ctx, "two"), h.runAs(ctx, "main")
		time.Sleep(time.Second)
		if s := h.stateOf("two"); s.State != api.RunWaiting || s.Reason != api.ReasonWaiting || !s.Init || !strings.Contains(s.Message, `"one"`) {
			t.Errorf("two is %+v, want it to wait for one", s)
		}
		if s := h.stateOf("one"); s.State != api.RunRunning || s.Ready {
			t.Errorf("one is %+v, want it running and not ready", s)
		}
		if r := <-one; r != (result{}) || h.stateOf("one").State != api.RunDone {
			t.Errorf("one gave %v, and is %+v", r, h.stateOf("one"))
		}
		if r := <-two; r.code != 3 || h.stateOf("two").State != api.RunBackOff {
			t.Errorf("two gave %v, and is %+v", r, h.stateOf("two"))
		}
		if s := h.stateOf("main"); s.State != api.RunWaiting || !strings.Contains(s.Message, `"two"`) {
			t.Errorf("main is %+v, want it to wait for two", s)
		}
		h.engine.Programs["bad"] = enginetest.Program{Runs: time.Second}
		<-h.runAs(ctx, "two")
		time.Sleep(time.Second)
		if s := h.stateOf("main"); s.State != api.RunRunning || !s.Ready {
			t.Errorf("main is %+v, want it running", s)
		}
		creates := slices.DeleteFunc(h.engine.Calls(), func(c string) bool { return !strings.HasPrefix(c, "create ") })
		if got := strings.Join(creates, ", "); got != "create gear.shop.web-7f3k2.one, create gear.shop.web-7f3k2.two, create gear.shop.web-7f3k2.two, create "+testName {
			t.Errorf("calls are %s", got)
		}
		cancel()
		<-main
	})
}

func TestOneWaitsForAnotherToBeReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, sh(""), nil)
		db, web := named("db", "stays"), named("main", "stays")
		db.Ready, web.After = &api.Check{Command: []string{"ask"}}, []api.Name{"db"}
		h.pod(nil, web, db)
		var exit atomic.Int32
		exit.Store(1)
		h.engine.ExecExit = func([]string) int { return int(exit.Load()) }
		ctx, cancel := context.WithCancel(t.Context())
		main, other := h.runAs(ctx, "main"), h.runAs(ctx, "db")
		time.Sleep(time.Minute)
		if s := h.stateOf("main"); s.State != api.RunWaiting || !strings.Contains(s.Message, `"db"`) {
			t.Errorf("main is %+v, want it to wait", s)
		}
		exit.Store(0)
		time.Sleep(3 * time.Second)
		if s := h.stateOf("main"); s.State != api.RunRunning {
			t.Errorf("main is %+v, want it running", s)
		}
		cancel()
		<-main
		<-other
		// What the operator has stopped is not waited for.
		ctx, cancel = context.WithCancel(t.Context())
		main = h.runAs(ctx, "main")
		time.Sleep(time.Second)
		if s := h.stateOf("main"); s.State != api.RunRunning {
			t.Errorf("main is %+v, want it running without what was stopped", s)
		}
		cancel()
		<-main
	})
}

// Each container has a unit of its own: that one ends and starts again touches no other one.
func TestContainersRestartAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, sh(""), map[string]enginetest.Program{"ends": {Runs: time.Second, Exit: 1}})
		plugIn, web := named("plugin", "ends"), named("main", "stays")
		plugIn.After = []api.Name{"main"}
		h.pod(nil, web, plugIn)
		ctx, cancel := context.WithCancel(t.Context())
		main := h.runAs(ctx, "main")
		for range 3 {
			<-h.runAs(ctx, "plugin")
		}
		if s := h.stateOf("plugin"); s.Restarts != 2 {
			t.Errorf("the plug-in is %+v, want 2 restarts", s)
		}
		if s := h.stateOf("main"); s.State != api.RunRunning || s.Restarts != 0 {
			t.Errorf("main is %+v, want it untouched", s)
		}
		cancel()
		<-main
	})
}

// A container whose pod waits for a link is made when that has a backend, and not before; one that runs is left alone when
// it has none any more.
func TestContainersWaitForLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, sh(""), map[string]enginetest.Program{"ok": {Runs: time.Hour}})
		h.pod(nil, named("main", "ok"))
		pod, err := h.dirs.LoadPod(testUID)
		if err != nil {
			t.Fatal(err)
		}
		net, err := h.dirs.LoadNet(testUID)
		if err != nil {
			t.Fatal(err)
		}
		pod.Spec.Template.Links = []api.Link{{Service: "db", LocalPort: 5432, WaitFor: api.WaitReady}}
		target := []api.LinkTarget{{Service: "db", Port: 5432, WaitFor: api.WaitReady}}
		if err := h.dirs.Save(pod, net, target); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := h.runAs(ctx, "main")
		time.Sleep(time.Minute)
		if s := h.stateOf("main"); s.State != api.RunWaiting || s.ID != "" || !strings.Contains(s.Message, "link db:5432 has no ready backend") {
			t.Errorf("while the link has no backend: %+v", s)
		}
		target[0].Backends = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:20001")}
		if err := h.dirs.SaveLinks(testUID, target); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if s := h.stateOf("main"); s.State != api.RunRunning {
			t.Errorf("when it has one: %+v", s)
		}
		target[0].Backends = nil
		if err := h.dirs.SaveLinks(testUID, target); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if s := h.stateOf("main"); s.State != api.RunRunning || s.Restarts != 0 {
			t.Errorf("when it has none again: %+v", s)
		}
		stop()
		<-done
	})
}

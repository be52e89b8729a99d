package runner

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/engine/enginetest"
)

// slowEngine takes a while to make a container, or refuses to.
type slowEngine struct {
	*enginetest.Fake
	takes  time.Duration
	refuse error
}

func (e slowEngine) Create(ctx context.Context, s engine.Spec) (string, error) {
	time.Sleep(e.takes)
	if e.refuse != nil {
		return "", e.refuse
	}
	return e.Fake.Create(ctx, s)
}

func (h *host) saved() api.Pod {
	p, err := h.dirs.LoadPod(testUID)
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// ahead begins to make the host's container ahead.
func (h *host) ahead(e slowEngine) {
	p := h.saved()
	a, err := NewAhead(h.dirs, p, p.Spec.Template.Containers[0])
	if err != nil || a == nil {
		h.t.Fatalf("it is not made ahead: %v", err)
	}
	go func() {
		if err := a.Make(h.t.Context(), e, "gear.slice"); !errors.Is(err, e.refuse) && !errors.Is(err, engine.ErrExists) {
			h.t.Error(err)
		}
	}()
}

func TestRunTakesWhatIsMadeAhead(t *testing.T) {
	down := errors.New("the engine has too much to do")
	for _, tt := range []struct {
		name   string
		before func(h *host)
		want   []string
	}{
		{"it is ready", func(h *host) { h.ahead(slowEngine{Fake: h.engine}); synctest.Wait() },
			[]string{"create " + testName, "start " + testName}},
		{"it is waited for", func(h *host) { h.ahead(slowEngine{Fake: h.engine, takes: time.Second}) },
			[]string{"create " + testName, "start " + testName}},
		{"the engine refused", func(h *host) { h.ahead(slowEngine{Fake: h.engine, takes: time.Second, refuse: down}) },
			[]string{"create " + testName, "start " + testName}},
		{"it takes too long", func(h *host) { h.ahead(slowEngine{Fake: h.engine, takes: aheadPatience + time.Second}) },
			[]string{"create " + testName, "start " + testName}},
		{"who made it died before it said so", func(h *host) {
			_, err := NewAhead(h.dirs, h.saved(), h.saved().Spec.Template.Containers[0])
			if err == nil {
				_, err = h.engine.Create(h.t.Context(), MakeSpec(h.dirs, h.saved(), h.saved().Spec.Template.Containers[0], ""))
			}
			if err != nil {
				h.t.Error(err)
			}
		}, []string{"create " + testName, "remove " + testName, "create " + testName, "start " + testName}},
		{"somebody has removed it", func(h *host) {
			h.ahead(slowEngine{Fake: h.engine})
			synctest.Wait()
			if err := h.engine.Remove(h.t.Context(), testName); err != nil {
				h.t.Error(err)
			}
		}, []string{"create " + testName, "remove " + testName, "create " + testName, "start " + testName}},
		{"an older agent made it, which says less", func(h *host) {
			h.ahead(slowEngine{Fake: h.engine})
			synctest.Wait()
			c, err := h.engine.Inspect(h.t.Context(), testName)
			if err == nil {
				err = os.WriteFile(aheadFile(h.dirs, testUID, "main"), []byte(c.ID), 0o600)
			}
			if err != nil {
				h.t.Error(err)
			}
		}, []string{"create " + testName, "remove " + testName, "create " + testName, "start " + testName}},
		{"its pod was another one", func(h *host) {
			h.ahead(slowEngine{Fake: h.engine})
			synctest.Wait()
			p := h.saved()
			p.Spec.Hash = "h2"
			if err := h.dirs.SavePod(p); err != nil {
				h.t.Error(err)
			}
		}, []string{"create " + testName, "remove " + testName, "create " + testName, "start " + testName}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, sh("p"), map[string]enginetest.Program{"p": {Runs: time.Minute}})
				tt.before(h)
				done := h.run(t.Context())
				time.Sleep(30 * time.Second)
				if s := h.state(); s.State != api.RunRunning {
					t.Errorf("state is %+v", s)
				}
				if got := h.engine.Calls(); !slices.Equal(got, tt.want) {
					t.Errorf("calls %q, want %q", got, tt.want)
				}
				if _, err := os.Stat(aheadFile(h.dirs, testUID, "main")); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("its file is still there: %v", err)
				}
				<-done
			})
		})
	}
}

func TestNotMadeAhead(t *testing.T) {
	for name, c := range map[string]api.Container{
		"native":  {Native: &api.Native{}},
		"volumes": {Mounts: []api.Mount{{Volume: "data", Path: "/data"}}},
	} {
		h := newHost(t, c, nil)
		if a, err := NewAhead(h.dirs, h.saved(), h.saved().Spec.Template.Containers[0]); a != nil || err != nil {
			t.Errorf("%s: got %v, %v", name, a, err)
		}
	}
	h := newHost(t, sh("p"), nil)
	waits := h.saved()
	waits.Spec.Template.Links = []api.Link{{Service: "db", LocalPort: 5432, WaitFor: api.WaitReady}}
	if a, err := NewAhead(h.dirs, waits, waits.Spec.Template.Containers[0]); a != nil || err != nil {
		t.Errorf("of a pod that waits for a link: got %v, %v", a, err)
	}
}

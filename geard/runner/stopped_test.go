package runner

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/engine/enginetest"
)

// killed makes what kill -9 of a gear-run leaves: a container that runs, and a state that says so.
func killed(t *testing.T, h *host, pod api.Pod) (id string) {
	t.Helper()
	c := pod.Spec.Template.Containers[0]
	id = must(h.engine.Create(t.Context(), MakeSpec(h.dirs, pod, c, "s")))
	if err := h.engine.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	s := api.ContainerStatus{Name: "main", Unit: "gear-shop-web-7f3k2.service", State: api.RunRunning, Ready: true, ID: id, Started: time.Now()}
	if err := h.dirs.SaveRun(testUID, "main", s); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestStoppedEndsWhatAKillLeft(t *testing.T) {
	for name, tc := range map[string]struct {
		idle bool
		want api.RunState
		call string
	}{
		"stopped":       {true, api.RunStopped, "stop " + testName + ", remove " + testName},
		"started again": {false, api.RunRunning, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, sh("p"), map[string]enginetest.Program{"p": {Lines: []string{"one"}}})
				killed(t, h, must(h.dirs.LoadPod(testUID)))
				calls := len(h.engine.Calls())
				asked := ""
				if err := Stopped(t.Context(), h.config(), func(unit string) (bool, error) { asked = unit; return tc.idle, nil }); err != nil {
					t.Fatal(err)
				}
				if s := h.state(); s.State != tc.want || asked != s.Unit {
					t.Errorf("the state is %+v; asked for unit %q", s, asked)
				}
				if got := strings.Join(h.engine.Calls()[calls:], ", "); got != tc.call {
					t.Errorf("the engine was asked to %q, want %q", got, tc.call)
				}
				if tc.idle && h.output() != "one\n" {
					t.Errorf("its output is %q", h.output())
				}
				// Once more: nothing is left to do, and the unit is not even asked for.
				if tc.idle {
					if err := Stopped(t.Context(), h.config(), func(string) (bool, error) { t.Error("asked again"); return true, nil }); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// A pod that is gone has left nothing, and another's container of that name is not ours to stop.
func TestStoppedLeavesOthersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, sh("p"), map[string]enginetest.Program{"p": {}})
		pod := must(h.dirs.LoadPod(testUID))
		pod.Spec.Hash = "another"
		id := killed(t, h, pod)
		calls := slices.Clone(h.engine.Calls())
		if err := Stopped(t.Context(), h.config(), func(string) (bool, error) { return true, nil }); err != nil {
			t.Fatal(err)
		}
		if err := h.dirs.Remove(testUID); err != nil {
			t.Fatal(err)
		}
		if err := Stopped(t.Context(), h.config(), func(string) (bool, error) { return true, nil }); err != nil {
			t.Fatal(err)
		}
		if got := h.engine.Calls(); !slices.Equal(got, calls) {
			t.Errorf("the engine was asked %q", got)
		}
		if err := h.engine.Stop(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	})
}

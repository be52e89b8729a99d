package master

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/control"
	"gearmesh.dev/master/store/memory"
)

// TestARestartIsKept: what gear rollout restart writes changes what the pods are made from, and an apply of a manifest, which
// does not have it, is no second restart.
func TestARestartIsKept(t *testing.T) {
	ann := startOver(t, memory.New()).ann()
	ann.apply(project("shop"), idle("shop", "web", "web:1"))
	const path = "/v1/projects/shop/services/web"
	stored := func() *api.Service { s := read[api.Service](t, ann.must("GET", path, nil, http.StatusOK)); return &s }

	before := stored()
	again := idle("shop", "web", "web:1")
	again.Spec.Restarted = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ann.must("PUT", path, again, http.StatusOK)
	after := stored()
	if !after.Spec.Restarted.Equal(again.Spec.Restarted) || control.TemplateHash(&before.Spec.PodTemplate) == control.TemplateHash(&after.Spec.PodTemplate) {
		t.Errorf("restarted at %v; the pods would not be replaced", after.Spec.Restarted)
	}
	if got := ann.apply(idle("shop", "web", "web:1")); got.Resources[0].Result != api.ResultUnchanged {
		t.Errorf("an apply without the time: %s", got.Resources[0].Result)
	}
	ann.apply(idle("shop", "web", "web:2"))
	if got := stored(); !got.Spec.Restarted.Equal(again.Spec.Restarted) || got.Spec.Containers[0].Image != "web:2" {
		t.Errorf("after a change: %v, %s", got.Spec.Restarted, got.Spec.Containers[0].Image)
	}
}

// TestARestartIsATime: anything else is refused.
func TestARestartIsATime(t *testing.T) {
	for _, text := range []string{`"yesterday"`, `7`, `"2026-13-01T00:00:00Z"`, `"99999-01-01T00:00:00Z"`, `{}`} {
		err := api.Decode([]byte(strings.Replace(`{"kind":"Service","spec":{"restarted":X,"containers":[{"image":"a:1"}]}}`, "X", text, 1)), new(api.Service))
		var e *api.Error
		if !errors.As(err, &e) || len(e.Faults) != 1 || e.Faults[0].Field != "spec.restarted" {
			t.Errorf("%s: %v", text, err)
		}
	}
}

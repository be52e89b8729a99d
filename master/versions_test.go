package master

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/memory"
)

const webPath = "/v1/projects/shop/services/web"

func (u *user) history() []api.ServiceRevision {
	u.c.t.Helper()
	return read[api.ServiceHistory](u.c.t, u.must("GET", webPath+"/history", nil, http.StatusOK)).Items
}

// TestHistory: each change of the spec keeps the one before, and nothing else does.
func TestHistory(t *testing.T) {
	s := memory.New()
	c := startOver(t, s)
	ann := c.ann()
	ann.apply(project("shop"), idle("shop", "web", "web:1"))
	if h := ann.history(); len(h) != 1 || h[0].Generation != 1 || !h[0].Until.IsZero() || h[0].Spec.Containers[0].Image != "web:1" {
		t.Fatalf("of a new service: %+v", h)
	}
	ann.apply(idle("shop", "web", "web:2"))
	ann.apply(idle("shop", "web", "web:2")) // unchanged
	labelled := idle("shop", "web", "web:2")
	labelled.Metadata.Labels = map[string]string{"a": "b"}
	ann.must("PUT", webPath, labelled, http.StatusOK)
	restarted := idle("shop", "web", "web:2")
	restarted.Spec.Restarted = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ann.must("PUT", webPath, restarted, http.StatusOK)
	ann.must("PUT", webPath+"?dryRun=1", idle("shop", "web", "web:9"), http.StatusOK)
	h := ann.history()
	if len(h) != 2 || h[0].Generation != 2 || h[1].Generation != 1 || h[1].By != "person:ann" || h[1].Until.IsZero() || h[1].Spec.Containers[0].Image != "web:1" {
		t.Fatalf("after one change: %+v", h)
	}
	if !h[0].Spec.Restarted.IsZero() {
		t.Error("the time of the restart is in the history, and would be written by an undo")
	}
	for i := 3; i < 15; i++ {
		ann.must("PUT", webPath, idle("shop", "web", fmt.Sprint("web:", i)), http.StatusOK)
	}
	h = ann.history()
	if len(h) != 1+keptVersions || h[0].Generation != 14 || h[10].Generation != 4 || h[10].Spec.Containers[0].Image != "web:4" {
		t.Errorf("after many changes: %d, from %d to %d", len(h), h[len(h)-1].Generation, h[0].Generation)
	}
	ann.must("DELETE", webPath, nil, http.StatusOK)
	c.until("the history to go", func() bool {
		items, _, err := s.List(t.Context(), historyPrefix)
		return err == nil && len(items) == 0
	})
	ann.must("GET", webPath+"/history", nil, http.StatusNotFound)
}

// TestHistoryOfAnOlderStore begins with the first change of a service that was made before there was a history.
func TestHistoryOfAnOlderStore(t *testing.T) {
	s := memory.New()
	c := startOver(t, s)
	ann := c.ann()
	ann.apply(project("shop"), idle("shop", "web", "web:1"))
	r := read[api.Service](t, ann.must("GET", webPath, nil, http.StatusOK))
	r.Metadata.Generation = 0
	data, err := encode(&r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Txn(t.Context(), store.Op{Key: storeKey(r.Key()), Value: data, If: store.Any}); err != nil {
		t.Fatal(err)
	}
	if got := ann.apply(idle("shop", "web", "web:1")); got.Resources[0].Result != api.ResultUnchanged {
		t.Errorf("the same again: %s", got.Resources[0].Result)
	}
	ann.apply(idle("shop", "web", "web:2"))
	if h := ann.history(); len(h) != 2 || h[0].Generation != 2 || h[1].Generation != 1 || h[1].Spec.Containers[0].Image != "web:1" {
		t.Errorf("got %+v", h)
	}
}

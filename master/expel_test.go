package master

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
)

// TestAHostIsRemovedAtOnce removes a host that is well, as one that was broken into: its word counts no more from then on, and its pods are made
// anew, though it never says that they have ended.
func TestAHostIsRemovedAtOnce(t *testing.T) {
	c := startCluster(t)
	ann, h1, h2 := c.ann(), c.join("h1", "10.0.0.1"), c.join("h2", "10.0.0.2")
	h1.tell(h1.report())
	h2.tell(h2.report())
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	s := web("shop", "web")
	s.Spec.Placement.Require = []api.Requirement{{Label: api.HostLabel, In: []string{"h2"}}}
	ann.must("PUT", webPath, s, http.StatusCreated)
	told, its := h1.desire(), h2.desire()
	its.until("its pod", func(d api.Desired) bool { return len(d.Pods) == 1 })
	h2.tell(h2.running(its.Pods[0], "10.0.0.2:20000"))
	told.until("its endpoint", func(d api.Desired) bool { return len(d.Directory.Backends("shop", "web", "http")) == 1 })
	s.Spec.Placement.Require = nil
	ann.must("PUT", webPath, s, http.StatusOK)

	if dry := read[api.Host](t, ann.must("DELETE", "/v1/hosts/h2?now=1&dryRun=1", nil, http.StatusOK)); !dry.Spec.Expelled {
		t.Errorf("a dry run: %+v", dry.Spec)
	}
	h2.tell(h2.report())
	h2.tell(h2.running(its.Pods[0], "10.0.0.2:20000"))
	ann.must("DELETE", "/v1/hosts/h2?now=1", nil, http.StatusOK)
	h2.must("PUT", "/v1/hosts/h2/report", h2.report(), http.StatusUnauthorized)
	told.until("the end of the host", func(d api.Desired) bool {
		return len(d.Directory.Hosts) == 1 && len(d.Directory.Endpoints) <= 1 && len(d.Directory.Backends("shop", "web", "http")) == 0 && d.Directory.Refuses("h2", time.Now())
	})
	told.until("the pod, on the host that is left", func(d api.Desired) bool { return len(d.Pods) == 1 })
	for its.next(new(api.Patch)) { // until the stream of the host that was removed has ended
	}
	c.until("the host to be forgotten", func() bool { return ann.do("GET", "/v1/hosts/h2", nil).status == http.StatusNotFound })
	again := c.join("h2", "10.0.0.2")
	again.tell(again.report())
}

// TestOnlyHostsAreRemovedAtOnce: others have nothing that could be taken away sooner, and nobody becomes expelled by a PUT.
func TestOnlyHostsAreRemovedAtOnce(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	c.join("h1", "10.0.0.1")
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	ann.must("DELETE", "/v1/projects/shop?now=1", nil, http.StatusBadRequest)
	if _, err := c.store.Txn(t.Context(), store.Op{Key: masterPrefix + "h1", Value: mustJSON(masterRecord{}), If: store.Absent}); err != nil {
		t.Fatal(err)
	}
	c.until("the master's record", func() bool { return c.m.cache.isMaster("h1") })
	if e := ann.must("DELETE", "/v1/hosts/h1?now=1", nil, http.StatusConflict).problem(t); !strings.Contains(e.Error(), "gear master remove h1") {
		t.Errorf("a host that runs a master: %v", e)
	}
	h := read[api.Host](t, ann.must("GET", "/v1/hosts/h1", nil, http.StatusOK))
	h.Spec.Expelled, h.Spec.Cordoned = true, true
	if got := read[api.Host](t, ann.must("PUT", "/v1/hosts/h1", h, http.StatusOK)); got.Spec.Expelled || !got.Spec.Cordoned {
		t.Errorf("got %+v", got.Spec)
	}
}

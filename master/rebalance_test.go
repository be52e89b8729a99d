package master

import (
	"net/http"
	"testing"

	"gearmesh.dev/api"
)

// TestNextMoves: a host that joins makes one better for a pod of a service that is to be rebalanced, which is told and not done.
func TestNextMoves(t *testing.T) {
	c := startCluster(t)
	ann, h1 := c.ann(), c.join("h1", "10.0.0.1")
	h1.tell(h1.report())
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	s := web("shop", "web")
	s.Spec.Placement.Rebalance = true
	s.Spec.Replicas = new(int)
	*s.Spec.Replicas = 2
	ann.must("PUT", webPath, s, http.StatusCreated)
	its := h1.desire()
	its.until("its pods", func(d api.Desired) bool { return len(d.Pods) == 2 })
	both := h1.running(its.Pods[0], "10.0.0.1:20000")
	both.Pods = append(both.Pods, h1.running(its.Pods[1], "10.0.0.1:20001").Pods...)
	h1.tell(both)
	next := func() api.RebalancePlan {
		return read[api.RebalancePlan](t, ann.must("GET", "/v1/rebalance", nil, http.StatusOK))
	}
	if p := next(); len(p.Pods) != 0 || p.Held != "" {
		t.Errorf("with one host: %+v", p)
	}
	h2 := c.join("h2", "10.0.0.2")
	h2.tell(h2.report())
	var p api.RebalancePlan
	c.until("a move", func() bool { h1.tell(both); p = next(); return len(p.Pods) == 1 })
	if m := p.Pods[0]; m.Host != "h1" || m.NewHost != "h2" || m.Op != api.PodReplace || m.Pod != its.Pods[0].Metadata.Name && m.Pod != its.Pods[1].Metadata.Name || m.Message == "" {
		t.Errorf("got %+v", m)
	}
	if pods := c.m.cache.list(api.KindPod, "shop"); len(pods) != 2 {
		t.Errorf("to be told has made %d pods of 2", len(pods))
	}
}

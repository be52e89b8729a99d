package master

import (
	"errors"
	"net/http"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/master/control"
	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/memory"
)

// pod gives a pod of project shop, when it is there.
func (c *cluster) pod(name string) (api.Pod, bool) {
	a := c.ann().do("GET", "/v1/projects/shop/pods/"+name, nil)
	if a.status != http.StatusOK {
		return api.Pod{}, false
	}
	return read[api.Pod](c.t, a), true
}

// TestAnIdentityOutlivesItsPods: the pod that ends is followed by one of its name, in its place in the store.
func TestAnIdentityOutlivesItsPods(t *testing.T) {
	c := startCluster(t)
	h1 := c.join("h1", "10.0.0.1")
	h1.leases()
	c.ann().must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	s := web("shop", "db")
	s.Spec.Identity, s.Spec.Volumes = api.IdentityOrdered, []api.Volume{{Name: "data"}}
	c.ann().must("PUT", "/v1/projects/shop/services/db", s, http.StatusCreated)
	var first api.Pod
	c.until("a pod with a host", func() bool { first, _ = c.pod("db-0"); return first.Spec.Host == "h1" })
	is := func(p api.Pod, s api.PodStatus) {
		h1.must("PUT", "/v1/hosts/h1/report", h1.report(api.PodReport{UID: p.Metadata.UID, Project: "shop", Name: "db-0", Status: s}), http.StatusOK)
	}
	is(first, api.PodStatus{Phase: api.PhaseRunning, Ready: true})
	c.until("it to be ready", func() bool { p, _ := c.pod("db-0"); return p.Status.Ready })

	c.ann().must("DELETE", "/v1/projects/shop/pods/db-0", nil, http.StatusOK)
	is(first, api.PodStatus{Phase: api.PhaseGone})
	var second api.Pod
	c.until("a pod of its name", func() bool {
		second, _ = c.pod("db-0")
		return second.Metadata.UID != first.Metadata.UID && !second.Metadata.Deleting
	})
	if second.Spec.Host != "h1" || second.Status.Ready || second.Spec.Ordinal == nil || *second.Spec.Ordinal != 0 {
		t.Errorf("it is %+v, %+v", second.Spec, second.Status)
	}
	if pods, _, _ := c.m.cache.podsOf("h1", nil, -1); len(pods) != 1 || pods[0].Metadata.UID != second.Metadata.UID {
		t.Errorf("its host is told of %+v", pods)
	}
	is(first, api.PodStatus{Phase: api.PhaseRunning, Ready: true}) // a word that comes late is not about it
	if p, _ := c.pod("db-0"); p.Status.Ready {
		t.Error("it is taken for the one before it")
	}
}

// TestARecordIsNotToldToItsHost: what is kept of a pod for its volumes is no pod to its host, which gets no secrets for it.
func TestARecordIsNotToldToItsHost(t *testing.T) {
	c := newCache()
	n := 0
	pod := &api.Pod{Header: api.Header{Kind: api.KindPod, Metadata: api.Metadata{Project: "shop", Name: "db-0", UID: "aaaaaaaaaaaaaaaa", Deleting: true}}, Spec: api.PodSpec{Service: "db", Host: "h1", Ordinal: &n}}
	c.byHost["h1"] = map[api.Key]*api.Pod{pod.Key(): pod}
	for phase, want := range map[api.Phase]int{api.PhaseStopping: 1, api.PhaseGone: 0} {
		c.statuses[pod.Key()] = podRecord{UID: pod.Metadata.UID, Status: api.PodStatus{Phase: phase}}
		if pods, _, _ := c.podsOf("h1", nil, -1); len(pods) != want {
			t.Errorf("%s: its host is told of %d pods, want %d", phase, len(pods), want)
		}
	}
}

// TestRenamingIsOneWrite: a pod has its old name or its new one, never both or none.
func TestRenamingIsOneWrite(t *testing.T) {
	s := memory.New()
	p := *api.New(api.KindPod).(*api.Pod)
	p.Metadata.Project, p.Metadata.Name, p.Metadata.UID = "shop", "db-0", "aaaaaaaaaaaaaaaa"
	rev, err := s.Txn(t.Context(), putOf(&p, store.Absent), store.Op{Key: podStatusPrefix + "shop/db-0", Value: []byte("{}"), If: store.Any})
	if err != nil {
		t.Fatal(err)
	}
	has := func(key string) bool { _, err := s.Get(t.Context(), key); return err == nil }
	next := p
	next.Metadata.Name = "db-0-aaaaaaaa"
	for _, at := range []struct {
		revision int64
		err      error
	}{{rev - 1, store.ErrConflict}, {rev, nil}, {rev, store.ErrConflict}} {
		next.Metadata.Revision = at.revision
		_, err := s.Txn(t.Context(), opsOf(control.Action{Op: control.Rename, Object: &next, From: p.Key()})...)
		if !errors.Is(err, at.err) {
			t.Errorf("renaming at %d, stored is %d: %v", at.revision, rev, err)
		}
		if was, is := has(storeKey(p.Key())), has(storeKey(next.Key())); was == is {
			t.Errorf("at %d: %v by its old name, %v by its new one", at.revision, was, is)
		}
	}
	if has(podStatusPrefix + "shop/db-0") {
		t.Error("the status outlived the name")
	}
}

package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/etcd"
	"gearmesh.dev/master/store/memory"
)

// overStores runs a test over the store in memory and over etcd.
func overStores(t *testing.T, test func(t *testing.T, s store.Store)) {
	t.Run("memory", func(t *testing.T) { test(t, memory.New()) })
	t.Run("etcd", func(t *testing.T) {
		s, err := etcd.Start(t.Context(), etcd.Config{Dir: t.TempDir()}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		test(t, s)
	})
}

// idle is a service without pods, so that nothing but what people ask for is written.
func idle(project, name, image string) *api.Service {
	s := web(project, name)
	s.Spec.Replicas, s.Spec.Containers[0].Image = new(int), image
	return s
}

func alias(project, name, service string) *api.Alias {
	a := api.New(api.KindAlias).(*api.Alias)
	a.Metadata.Project, a.Metadata.Name = api.Name(project), api.Name(name)
	a.Spec.Host, a.Spec.Service = api.Hostname(name+".example.com"), api.Name(service)
	return a
}

func (u *user) apply(list ...api.Resource) api.Applied {
	u.c.t.Helper()
	return read[api.Applied](u.c.t, u.must("POST", "/v1/apply", applyOf(list...), http.StatusOK))
}

// results gives what an apply has done, such as "created shop/web".
func results(a api.Applied) (out []string) {
	for _, r := range a.Resources {
		out = append(out, fmt.Sprintf("%s %s", r.Key(), r.Result))
	}
	return out
}

func TestApplyIsOneTransaction(t *testing.T) {
	overStores(t, func(t *testing.T, s store.Store) {
		c := startOver(t, s)
		ann := c.ann()
		whole := []api.Resource{alias("shop", "www", "web"), idle("shop", "web", "web:1"), secret("db", map[string]string{"password": "x"}), project("shop")}
		first := ann.apply(whole...)
		want := []string{"project shop created", "secret shop/db created", "service shop/web created", "alias shop/www created"}
		if diff := cmp.Diff(want, results(first)); diff != "" {
			t.Error(diff)
		}
		for _, r := range first.Resources {
			it, err := s.Get(t.Context(), storeKey(r.Key()))
			if err != nil || it.Revision != first.Revision || r.Revision != first.Revision || first.Revision == 0 {
				t.Errorf("%s is stored at %d, %v; the answer says %d of %d", r.Key(), it.Revision, err, r.Revision, first.Revision)
			}
		}
		before := c.stored()
		again := ann.apply(whole...)
		if again.Revision != 0 || again.Resources[3].Result != api.ResultUnchanged || again.Resources[3].Revision != first.Revision || c.stored() != before {
			t.Errorf("the same again: %+v", again)
		}
		// One that changes and one that does not.
		next := ann.apply(project("shop"), idle("shop", "web", "web:2"))
		if got := results(next); !cmp.Equal(got, []string{"project shop unchanged", "service shop/web configured"}) || next.Resources[0].Revision != first.Revision ||
			next.Resources[1].Revision != next.Revision || next.Revision <= first.Revision {
			t.Errorf("got %+v", next)
		}
		ann.must("POST", "/v1/apply?ifRevision=1", applyOf(project("shop"), idle("shop", "web", "web:3")), http.StatusConflict)
		for _, record := range []string{
			`route="POST /v1/apply" object="project shop, secret shop/db, service shop/web, alias shop/www" result=unchanged`,
			`route="POST /v1/apply" object="project shop, service shop/web" result=Conflict`,
			`route="POST /v1/apply" object="project shop created, secret shop/db created, service shop/web created, alias shop/www created" result=applied`,
			`route="POST /v1/apply" object="service shop/web configured" result=applied`,
		} {
			if strings.Count(c.log.String(), record) != 1 {
				t.Errorf("not one record %s in\n%s", record, c.log)
			}
		}
	})
}

// A policy is held to what all services will be, those of the same apply with it.
func TestApplyChecksWhatWillBe(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	open := project("shop")
	open.Spec.Policy = api.PolicyPrivileged
	wild := idle("shop", "web", "web:1")
	wild.Spec.Containers[0].Privileged = true
	ann.apply(open, wild)
	other := idle("shop", "other", "web:1")
	other.Spec.Containers[0].Privileged = true
	ann.apply(other)
	before := c.stored()
	e := ann.must("POST", "/v1/apply", applyOf(project("shop"), idle("shop", "web", "web:1")), http.StatusUnprocessableEntity).problem(t)
	if len(e.Faults) != 1 || e.Faults[0].Field != "resources[0].spec.policy" || !strings.Contains(e.Faults[0].Message, "service shop/other") {
		t.Errorf("got %+v", e)
	}
	if c.stored() != before {
		t.Error("half of it was stored")
	}
	ann.apply(project("shop"), idle("shop", "web", "web:1"), idle("shop", "other", "web:1"))
}

// All that is wrong is said at once, and nothing is stored.
func TestApplyGivesTheFaultsOfAll(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	ann.apply(project("shop"), idle("shop", "web", "web:1"))
	before := c.stored()
	refused := func(status int, list []api.Resource, want ...string) {
		t.Helper()
		e := ann.must("POST", "/v1/apply", applyOf(list...), status).problem(t)
		var got []string
		for _, f := range e.Faults {
			got = append(got, f.String())
		}
		ok := len(got) == len(want)
		for i := range want {
			ok = ok && strings.HasPrefix(got[i], want[i])
		}
		if !ok || e.Detail == "" {
			t.Errorf("%s: %q, want %q", e.Detail, got, want)
		}
	}
	badly, gap, stale := idle("shop", "a", ""), idle("nosuch", "web", "web:1"), idle("shop", "web", "web:2")
	badly.Spec.Ports[0].Port = 0
	stale.Metadata.Revision = 1
	old := project("other")
	old.Metadata.Revision = 7
	refused(422, []api.Resource{project("new"), badly, idle("shop", "-", "web:1")},
		"resources[1].spec.containers[0].image", "resources[1].spec.ports[0]", "resources[2].metadata.name")
	refused(422, []api.Resource{gap, project("new"), stale}, "resources[2]: service shop/web is at revision", "resources[0].metadata.project: there is no project nosuch")
	refused(409, []api.Resource{stale, old}, "resources[1]: project other was read at revision 7", "resources[0]: service shop/web is at revision")
	refused(409, []api.Resource{old, idle("other", "web", "web:1")}) // of the service nothing can be said
	refused(422, many(maxApplied+1), "resources: has 1001; 1 to 1000 are allowed at once")
	wrong := many(300)
	for _, r := range wrong {
		r.(*api.Service).Spec.Ports[0].Port = 0
	}
	if e := ann.must("POST", "/v1/apply", applyOf(wrong...), 422).problem(t); len(e.Faults) != maxFaults+1 || e.Faults[maxFaults].Message != "200 more faults are not shown" {
		t.Errorf("%d faults: %+v", len(e.Faults), e.Faults[len(e.Faults)-1])
	}
	if c.stored() != before {
		t.Errorf("something was stored:\n%s", c.stored())
	}
}

// many gives services of the project shop.
func many(n int) []api.Resource {
	var out []api.Resource
	for i := range n {
		out = append(out, idle("shop", fmt.Sprintf("s%d", i), "web:1"))
	}
	return out
}

// As many as are allowed, each of them a secret, which is two keys in the store.
func TestTheLargestApply(t *testing.T) {
	overStores(t, func(t *testing.T, s store.Store) {
		c := startOver(t, s)
		list := []api.Resource{project("shop")}
		for i := range maxApplied - 1 {
			list = append(list, secret(api.Name(fmt.Sprintf("s%d", i)), map[string]string{"x": strings.Repeat("x", 4000)}))
		}
		// A machine that is slow enough gives it up and says so; who asks again with the same key has it carried out once.
		a := c.ann().keyed("POST", "/v1/apply", "k", applyOf(list...))
		for range 20 {
			if a.status != http.StatusServiceUnavailable {
				break
			}
			a = c.ann().keyed("POST", "/v1/apply", "k", applyOf(list...))
		}
		if done := read[api.Applied](t, a); a.status != http.StatusOK || len(done.Resources) != maxApplied {
			t.Errorf("%d, %d resources", a.status, len(done.Resources))
		}
		c.ann().must("POST", "/v1/apply", `{"resources":["`+strings.Repeat("a", maxApplyBody)+`"]}`, http.StatusRequestEntityTooLarge)
	})
}

// narrow is an etcd cluster of an operator's own that takes little at once.
type narrow struct{ store.Store }

func (n narrow) Txn(ctx context.Context, ops ...store.Op) (int64, error) {
	if len(ops) > 10 {
		return 0, fmt.Errorf("%d ops: %w", len(ops), store.ErrTooLarge)
	}
	return n.Store.Txn(ctx, ops...)
}

func TestAnApplyThatTheStoreDoesNotTake(t *testing.T) {
	c := startOver(t, narrow{memory.New()})
	c.ann().apply(project("shop"))
	e := c.ann().must("POST", "/v1/apply", applyOf(many(20)...), http.StatusRequestEntityTooLarge).problem(t)
	if e.Code != api.CodeTooLarge || !strings.Contains(e.Detail, "--max-txn-ops") || strings.Contains(c.stored(), "service/") {
		t.Errorf("got %+v", e)
	}
}

func TestApplyOnlyIfNothingChangedSince(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	ann.apply(project("shop"), idle("shop", "web", "web:1"), alias("shop", "www", "web"))
	next := applyOf(project("shop"), idle("shop", "web", "web:2"), alias("shop", "www", "web"), idle("shop", "new", "web:1"))
	planned := func() string {
		t.Helper()
		return fmt.Sprintf("/v1/apply?ifRevision=%d", read[api.ApplyPlan](t, ann.must("POST", "/v1/plan", next, http.StatusOK)).Revision)
	}
	refused := func(path, want string) {
		t.Helper()
		before := c.stored()
		if e := ann.must("POST", path, next, http.StatusConflict).problem(t); !strings.Contains(e.Error(), want) || !strings.Contains(e.Error(), "gear plan") || c.stored() != before {
			t.Errorf("got %v, want %q", e.Error(), want)
		}
	}
	path := planned()
	ann.apply(idle("shop", "other", "web:1")) // it is not in the plan
	ann.must("POST", path+"&dryRun=1", next, http.StatusOK)
	ann.apply(idle("shop", "web", "web:3"))
	refused(path, "resources[1]: service shop/web has been changed since revision")

	path = planned()
	ann.must("DELETE", "/v1/projects/shop/aliases/www", nil, http.StatusOK)
	refused(path, "resources[2]: alias shop/www has been deleted since revision")

	path = planned()
	ann.apply(idle("shop", "new", "web:7")) // it was not there
	refused(path, "service shop/new has been changed since revision")

	ann.must("POST", planned(), next, http.StatusOK)
	refused("/v1/apply?ifRevision=99999999", "the store has not come to revision 99999999")
	for _, bad := range []string{"x", "-1", "99999999999999999999", "1&ifRevision=2"} {
		ann.must("POST", "/v1/apply?ifRevision="+bad, next, http.StatusBadRequest)
	}
	ann.must("POST", "/v1/apply?ifrevision=1", next, http.StatusBadRequest)
}

// Two masters are given applies that exclude each other: one wins, and wins whole.
func TestOneOfTwoAppliesWinsWhole(t *testing.T) {
	overStores(t, func(t *testing.T, s store.Store) {
		c := startOver(t, s)
		users := []*user{c.ann(), c.another("m2", s).ann()}
		const services = 5
		batch := func(image string, at int64) api.ApplyRequest {
			list := []api.Resource{project("shop")}
			for i := range services {
				r := idle("shop", fmt.Sprintf("s%d", i), image)
				r.Metadata.Revision = at
				list = append(list, r)
			}
			return applyOf(list...)
		}
		at := read[api.Applied](t, users[0].must("POST", "/v1/apply", batch("web:0", 0), http.StatusOK)).Revision
		for round := range 10 {
			named := round%2 == 0 // with the revision that both have read, or without
			var wg sync.WaitGroup
			answers := make([]answer, 4)
			for i := range answers {
				body := batch(fmt.Sprintf("web:%d-%d", round, i), 0)
				if named {
					body = batch(fmt.Sprintf("web:%d-%d", round, i), at)
				}
				wg.Go(func() { answers[i] = users[i%2].do("POST", "/v1/apply", body) })
			}
			wg.Wait()
			won := 0
			for _, a := range answers {
				if a.status == http.StatusOK {
					won++
				} else if e := a.problem(t); e.Code != api.CodeConflict {
					t.Errorf("got %+v", e)
				}
			}
			if named && won != 1 || won == 0 {
				t.Errorf("%d of %d have won", won, len(answers))
			}
			images, revisions := map[string]bool{}, map[int64]bool{}
			for i := range services {
				key := api.Key{Kind: api.KindService, Project: "shop", Name: api.Name(fmt.Sprintf("s%d", i))}
				r, err := c.m.load(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
				images[r.(*api.Service).Spec.Containers[0].Image] = true
				at = r.Head().Metadata.Revision
				revisions[at] = true
			}
			if len(images) != 1 || len(revisions) != 1 {
				t.Errorf("services of several applies: %v at %v", images, revisions)
			}
		}
	})
}

func TestOneKeyOneApply(t *testing.T) {
	overStores(t, func(t *testing.T, s store.Store) {
		c := startOver(t, s)
		users := []*user{c.ann(), c.another("m2", s).ann()}
		body := applyOf(project("shop"), idle("shop", "web", "web:1"))
		var wg sync.WaitGroup
		answers := make([]answer, 8)
		for i := range answers {
			wg.Go(func() { answers[i] = users[i%2].keyed("POST", "/v1/apply", "k1", body) })
		}
		wg.Wait()
		for _, a := range answers {
			if a.status != http.StatusOK || string(a.body) != string(answers[0].body) || !cmp.Equal(results(read[api.Applied](t, a)), []string{"project shop created", "service shop/web created"}) {
				t.Errorf("got %d %s and %s", a.status, a.body, answers[0].body)
			}
		}
		same := users[0].keyed("POST", "/v1/apply", "k2", body) // nothing to do
		users[0].apply(idle("shop", "web", "web:2"))
		for key, want := range map[string]answer{"k1": answers[0], "k2": same} {
			if got := users[1].keyed("POST", "/v1/apply", key, body); string(got.body) != string(want.body) {
				t.Errorf("%s: %s, at first %s", key, got.body, want.body)
			}
		}
		if now := read[api.Service](t, users[0].must("GET", "/v1/projects/shop/services/web?fresh=1", nil, 200)); now.Spec.Containers[0].Image != "web:2" {
			t.Errorf("the image is %q", now.Spec.Containers[0].Image)
		}
		for name, a := range map[string]answer{
			"another body":  users[0].keyed("POST", "/v1/apply", "k1", applyOf(project("shop"))),
			"another query": users[0].keyed("POST", "/v1/apply?ifRevision=1", "k1", body),
		} {
			if a.status != http.StatusConflict {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
		}
	})
}

// cutting lets the connection die while a transaction with a service is on its way: before it is written, or after.
type cutting struct {
	store.Store
	cut   atomic.Pointer[context.CancelFunc] // ends the request; nil when nothing is to be cut
	after bool
}

func (s *cutting) Txn(ctx context.Context, ops ...store.Op) (int64, error) {
	service := slices.ContainsFunc(ops, func(op store.Op) bool { return strings.HasPrefix(op.Key, "service/") })
	cut := s.cut.Load()
	if !service || cut == nil || !s.cut.CompareAndSwap(cut, nil) {
		return s.Store.Txn(ctx, ops...)
	}
	if s.after {
		if _, err := s.Store.Txn(ctx, ops...); err != nil {
			return 0, err
		}
	}
	(*cut)()
	<-ctx.Done()
	return s.Store.Txn(ctx, store.Op{Key: "lost", If: 99}) // no answer of the store is worth anything now
}

// An apply whose connection dies is sent again with the same key, and has one effect.
func TestAnApplyThatWasInterrupted(t *testing.T) {
	for name, after := range map[string]bool{"before it was stored": false, "after it was stored": true} {
		t.Run(name, func(t *testing.T) {
			s := &cutting{Store: memory.New(), after: after}
			c := startOver(t, s)
			ann := c.ann()
			body := applyOf(project("shop"), idle("shop", "web", "web:1"))
			ctx, cancel := context.WithCancel(t.Context())
			s.cut.Store(&cancel)
			if resp, err := ann.request(ctx, http.Header{onceHeader: {"k"}}, "POST", "/v1/apply", mustJSON(body)); !errors.Is(err, context.Canceled) { //nolint:bodyclose // there is no response
				t.Fatalf("got %v, %v", resp, err)
			}
			c.until("the end of the first request", func() bool { return strings.Contains(c.log.String(), `route="POST /v1/apply"`) })
			_, err := s.Get(t.Context(), "service/shop/web")
			if stored := err == nil; stored != after {
				t.Fatalf("stored: %v", stored)
			}
			again := ann.keyed("POST", "/v1/apply", "k", body)
			done := read[api.Applied](t, again)
			if again.status != http.StatusOK || !cmp.Equal(results(done), []string{"project shop created", "service shop/web created"}) {
				t.Errorf("%d %s", again.status, again.body)
			}
			it, err := s.Get(t.Context(), "service/shop/web")
			if err != nil || it.Revision != done.Revision {
				t.Errorf("it is stored at %d, %v; the answer says %d", it.Revision, err, done.Revision)
			}
		})
	}
}

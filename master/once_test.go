package master

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/memory"
)

// keyed is a user whose requests have a key.
func (u *user) keyed(method, path, key string, body any) answer {
	u.c.t.Helper()
	return u.with(http.Header{onceHeader: {key}}, method, path, body)
}

func TestOneKeyOneEffect(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	idle := web("shop", "web")
	idle.Spec.Replicas = new(int)
	first := ann.keyed("POST", "/v1/projects/shop/services", "k1", idle)
	again := ann.keyed("POST", "/v1/projects/shop/services", "k1", idle)
	if first.status != http.StatusCreated || again.status != first.status || string(again.body) != string(first.body) || again.header.Get(resultHeader) != resultCreated {
		t.Errorf("first %d %s\nagain %d %s", first.status, first.body, again.status, again.body)
	}
	// A change that others have overwritten is not made again.
	one, two := *idle, *idle
	one.Spec.Containers = []api.Container{{Image: "example.com/web:one"}}
	two.Spec.Containers = []api.Container{{Image: "example.com/web:two"}}
	const path = "/v1/projects/shop/services/web"
	put := ann.keyed("PUT", path, "k2", &one)
	same := ann.keyed("PUT", path, "k3", &one) // unchanged
	ann.must("PUT", path, &two, http.StatusOK)
	for key, want := range map[string]answer{"k2": put, "k3": same} {
		got := ann.keyed("PUT", path, key, &one)
		if string(got.body) != string(want.body) || got.header.Get(resultHeader) != want.header.Get(resultHeader) {
			t.Errorf("%s: %s %s, at first %s %s", key, got.header.Get(resultHeader), got.body, want.header.Get(resultHeader), want.body)
		}
	}
	if now := read[api.Service](t, ann.must("GET", path, nil, http.StatusOK)); now.Spec.Containers[0].Image != "example.com/web:two" {
		t.Errorf("the image is %q", now.Spec.Containers[0].Image)
	}
	gone := ann.keyed("DELETE", path, "k4", nil)
	c.until("end of the service", func() bool { return ann.do("GET", path, nil).status == http.StatusNotFound })
	ann.must("PUT", path, idle, http.StatusCreated)
	if got := ann.keyed("DELETE", path, "k4", nil); got.status != http.StatusOK || string(got.body) != string(gone.body) {
		t.Errorf("deleted again: %d %s, at first %s", got.status, got.body, gone.body)
	}
	if now := read[api.Service](t, ann.must("GET", path, nil, http.StatusOK)); now.Metadata.Deleting {
		t.Error("a deletion that was sent again took the next one of the name")
	}
}

func TestKeysAreRefused(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	if got := ann.keyed("PUT", "/v1/projects/shop", "k", project("shop")); got.status != http.StatusCreated {
		t.Fatalf("%d %s", got.status, got.body)
	}
	before := c.stored()
	for name, a := range map[string]answer{
		"of another request":   ann.keyed("PUT", "/v1/projects/other", "k", project("other")),
		"empty of sense":       ann.keyed("PUT", "/v1/projects/other", "a b", project("other")),
		"not ASCII":            ann.keyed("PUT", "/v1/projects/other", "ä", project("other")),
		"too long":             ann.keyed("PUT", "/v1/projects/other", strings.Repeat("k", maxOnceKey+1), project("other")),
		"twice":                ann.with(http.Header{onceHeader: {"a", "b"}}, "PUT", "/v1/projects/other", project("other")),
		"where it is no help":  ann.keyed("POST", "/v1/tokens", "k", nil),
		"of a request in vain": ann.keyed("POST", "/v1/projects", "k5", project("shop")),
	} {
		if a.status/100 != 4 {
			t.Errorf("a key %s: %d %s", name, a.status, a.body)
		}
	}
	if c.stored() != before {
		t.Error("something was stored")
	}
}

// Two masters get the same request many times at once.
func TestOneKeyOverTwoMasters(t *testing.T) {
	s := memory.New()
	c := startOver(t, s)
	d := c.another("m2", s)
	c.ann().must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	for round := range 10 {
		idle := web("shop", "web"+strconv.Itoa(round))
		idle.Spec.Replicas = new(int)
		var wg sync.WaitGroup
		answers := make([]answer, 8)
		for i := range answers {
			u := []*user{c.ann(), d.ann()}[i%2]
			wg.Go(func() { answers[i] = u.keyed("POST", "/v1/projects/shop/services", "k"+strconv.Itoa(round), idle) })
		}
		wg.Wait()
		for _, a := range answers {
			if a.status != http.StatusCreated || string(a.body) != string(answers[0].body) {
				t.Errorf("got %d %s and %d %s", a.status, a.body, answers[0].status, answers[0].body)
			}
		}
	}
}

// pausing is a store that does something else after it has been asked whether a request was carried out.
type pausing struct {
	store.Store
	then func()
}

func (s *pausing) Get(ctx context.Context, key string) (store.Item, error) {
	it, err := s.Store.Get(ctx, key)
	if strings.HasPrefix(key, oncePrefix) && s.then != nil {
		then := s.then
		s.then = nil
		then()
	}
	return it, err
}

// The other master carries the same request out between the question whether that was done and the request itself, which
// then finds a world in which it would be refused.
func TestOneKeyWhereTheOtherWasQuicker(t *testing.T) {
	s := memory.New()
	slow := &pausing{Store: s}
	c := startOver(t, s)
	d := c.another("m2", slow)
	quick, late := c.ann(), d.ann()
	quick.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	alias := api.New(api.KindAlias).(*api.Alias)
	alias.Metadata.Name, alias.Metadata.Project = "www", "shop"
	alias.Spec = api.AliasSpec{Host: "www.example.com", Service: "web", Port: "http"}
	made := read[api.Alias](t, quick.must("POST", "/v1/projects/shop/aliases", alias, http.StatusCreated))
	changed := *alias
	changed.Metadata.Revision, changed.Metadata.Labels = made.Metadata.Revision, map[string]string{"a": "b"}
	const path = "/v1/projects/shop/aliases/www"
	for _, ask := range []func(u *user) answer{
		func(u *user) answer { return u.keyed("PUT", path, "replace", &changed) }, // refused: it has another revision by then
		func(u *user) answer { // refused: it has another revision by then
			next, at := changed, read[api.Alias](t, u.must("GET", path, nil, http.StatusOK)).Metadata.Revision
			next.Metadata.Revision, next.Metadata.Labels = at, map[string]string{"a": "c"}
			return u.keyed("POST", "/v1/apply", "apply", applyOf(&next))
		},
		func(u *user) answer { return u.keyed("DELETE", path, "delete", nil) }, // refused: it is gone
		func(u *user) answer { return u.keyed("POST", "/v1/projects/shop/aliases", "create", alias) },
	} {
		var first answer
		slow.then = func() { first = ask(quick) }
		again := ask(late)
		if first.status/100 != 2 || again.status != first.status || string(again.body) != string(first.body) || again.header.Get(resultHeader) != first.header.Get(resultHeader) {
			t.Errorf("first %d %s\nagain %d %s", first.status, first.body, again.status, again.body)
		}
	}
}

func TestOldRequestsAreForgotten(t *testing.T) {
	c := startCluster(t)
	for key, text := range map[string]string{"old": `{"made": "2020-01-01T00:00:00Z"}`, "broken": "{"} {
		if _, err := c.store.Txn(t.Context(), store.Op{Key: oncePrefix + key, Value: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
	c.ann().keyed("PUT", "/v1/projects/shop", "new", project("shop"))
	c.m.sweepOnce(t.Context())
	left, _, err := c.store.List(t.Context(), oncePrefix)
	if err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

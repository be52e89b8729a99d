package master

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/memory"
)

func TestPolicyOfAProject(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	shop := project("shop")
	ann.must("PUT", "/v1/projects/shop", shop, http.StatusCreated)
	s := web("shop", "web")
	s.Spec.Containers[0].CapAdd = []api.Capability{"CHOWN"}
	refused := func(method, path string, body any, want string) {
		t.Helper()
		e := ann.must(method, path, body, http.StatusUnprocessableEntity).problem(t)
		if len(e.Faults) != 1 || !strings.Contains(e.Faults[0].String(), want) {
			t.Errorf("%s %s: %+v, want %q", method, path, e.Faults, want)
		}
	}
	refused("PUT", "/v1/projects/shop/services/web", s, `spec.containers[0].capAdd: capability "CHOWN" is not allowed by policy "restricted", which holds here; policy "baseline" allows it`)
	refused("POST", "/v1/projects/shop/services", s, `policy "baseline" allows it`)
	plain := web("shop", "web")
	ann.must("PUT", "/v1/projects/shop/services/web", plain, http.StatusCreated)
	refused("PUT", "/v1/projects/shop/services/web", s, `policy "baseline" allows it`)
	shop.Spec.Policy = "root"
	refused("PUT", "/v1/projects/shop", shop, "is no policy")
	shop.Spec.Policy = api.PolicyBaseline
	ann.must("PUT", "/v1/projects/shop", shop, http.StatusOK)
	ann.must("PUT", "/v1/projects/shop/services/web", s, http.StatusOK)
	s.Spec.Containers[0].Privileged = true
	refused("PUT", "/v1/projects/shop/services/web", s, `policy "privileged" allows it`)
	shop.Spec.Policy = ""
	refused("PUT", "/v1/projects/shop", shop, "service shop/web")
	c.until("a pod that knows its policy", func() bool {
		for _, r := range c.m.cache.list(api.KindPod, "shop") {
			if p := r.(*api.Pod); len(p.Spec.Template.Containers[0].CapAdd) > 0 {
				return p.Spec.Policy == api.PolicyBaseline
			}
		}
		return false
	})
}

// TestPriorityOfAProject: a priority takes the room of other projects' pods, so that a project has none unless it is given one.
func TestPriorityOfAProject(t *testing.T) {
	ann := startCluster(t).ann()
	shop := project("shop")
	ann.must("PUT", "/v1/projects/shop", shop, http.StatusCreated)
	s := idle("shop", "web", "web:1")
	refused := func(method, path string, body any, want string) {
		t.Helper()
		e := ann.must(method, path, body, http.StatusUnprocessableEntity).problem(t)
		if len(e.Faults) != 1 || !strings.Contains(e.Faults[0].String(), want) {
			t.Errorf("%s %s: %+v, want %q", method, path, e.Faults, want)
		}
	}
	s.Spec.Placement.Priority = 10
	refused("PUT", webPath, s, "spec.placement.priority: is 10; at most 0 is allowed here (spec.maxPriority of project shop)")
	refused("POST", "/v1/apply", applyOf(s), "resources[0].spec.placement.priority: is 10")
	s.Spec.Placement.Priority = -10
	ann.must("PUT", webPath, s, http.StatusCreated)
	shop.Spec.MaxPriority = 10
	s.Spec.Placement.Priority = 10
	ann.must("POST", "/v1/apply", applyOf(shop, s), http.StatusOK)
	shop.Spec.MaxPriority = 9
	refused("PUT", "/v1/projects/shop", shop, "spec.maxPriority: service shop/web, spec.placement.priority: is 10; at most 9 is allowed here; change the service first")
	refused("POST", "/v1/apply", applyOf(shop, s), "spec.maxPriority: service shop/web")
	shop.Spec.Description = "the shop"
	s.Spec.Placement.Priority = 9
	ann.must("POST", "/v1/apply", applyOf(shop, s), http.StatusOK)
	shop.Spec.MaxPriority = 2000
	refused("PUT", "/v1/projects/shop", shop, "spec.maxPriority: is 2000")
}

// meanwhile is a store that lets something else happen before a transaction that writes a key.
type meanwhile struct {
	store.Store
	key  string
	then func()
}

func (s *meanwhile) Txn(ctx context.Context, ops ...store.Op) (int64, error) {
	if slices.ContainsFunc(ops, func(op store.Op) bool { return op.Key == s.key && op.Kind == store.Put }) && s.then != nil {
		then := s.then
		s.then = nil
		then()
	}
	return s.Store.Txn(ctx, ops...)
}

// TestAPolicyAndAServiceAtOnce: two masters have each checked a write that the other's would forbid. The later one is refused.
func TestAPolicyAndAServiceAtOnce(t *testing.T) {
	s := memory.New()
	slow := &meanwhile{Store: s}
	c := startOver(t, s)
	d := c.another("m2", slow)
	quick, late := c.ann(), d.ann()
	loose, strict := project("shop"), project("shop")
	loose.Spec.Policy, loose.Spec.MaxPriority = api.PolicyBaseline, 10
	modest, urgent, capable := idle("shop", "web", "web:1"), idle("shop", "web", "web:1"), idle("shop", "web", "web:1")
	urgent.Spec.Placement.Priority = 10
	capable.Spec.Containers[0].CapAdd = []api.Capability{"CHOWN"}
	for _, greedy := range []*api.Service{urgent, capable} {
		quick.apply(loose, modest)
		slow.key, slow.then = "project/shop", func() { quick.must("PUT", webPath, greedy, http.StatusOK) }
		e := late.must("PUT", "/v1/projects/shop", strict, http.StatusUnprocessableEntity).problem(t)
		if slow.then != nil || len(e.Faults) != 1 || !strings.Contains(e.Faults[0].String(), "service shop/web") {
			t.Errorf("the project that came later: %+v", e)
		}

		quick.apply(loose, modest)
		slow.key, slow.then = "service/shop/web", func() { quick.must("PUT", "/v1/projects/shop", strict, http.StatusOK) }
		e = late.must("PUT", webPath, greedy, http.StatusUnprocessableEntity).problem(t)
		if slow.then != nil || len(e.Faults) != 1 || !strings.Contains(e.Faults[0].String(), "of project shop") {
			t.Errorf("the service that came later: %+v", e)
		}

		quick.apply(loose, modest)
		slow.key, slow.then = "project/shop", func() { quick.must("PUT", webPath, idle("shop", "web", "web:2"), http.StatusOK) }
		if late.must("PUT", "/v1/projects/shop", strict, http.StatusOK); slow.then != nil {
			t.Error("nothing has happened meanwhile")
		}
	}
}

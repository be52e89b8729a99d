package master

import (
	"net/http"
	"strings"
	"testing"

	"gearmesh.dev/api"
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

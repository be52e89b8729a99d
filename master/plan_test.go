package master

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gearmesh.dev/api"
	"gearmesh.dev/unitgen"
)

func applyOf(resources ...api.Resource) api.ApplyRequest {
	return api.ApplyRequest{Resources: resources}
}

// shopWithPod is a cluster of two hosts that runs one pod of shop/web, which is ready.
func shopWithPod(t *testing.T) (c *cluster, pod api.Pod) {
	c = startCluster(t)
	ann, h1, h2 := c.ann(), c.join("h1", "10.0.0.1"), c.join("h2", "10.0.0.2")
	h1.tell(h1.report())
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	ann.must("PUT", "/v1/projects/shop/services/web", web("shop", "web"), http.StatusCreated)
	d := h1.desire()
	d.until("a pod", func(d api.Desired) bool { return len(d.Pods) == 1 })
	h1.tell(h1.running(d.Pods[0], "10.0.0.1:20000"))
	h2.tell(h2.report())
	c.until("both hosts and the pod to be ready", func() bool {
		h := read[api.Host](t, ann.must("GET", "/v1/hosts/h2", nil, 200))
		return h.Status.State == api.HostReady && read[api.Service](t, ann.must("GET", "/v1/projects/shop/services/web", nil, 200)).Status.Ready == 1
	})
	return c, d.Pods[0]
}

func TestPlanOfAnApply(t *testing.T) {
	c, pod := shopWithPod(t)
	ann := c.ann()
	plan := func(list ...api.Resource) api.ApplyPlan {
		t.Helper()
		return read[api.ApplyPlan](t, ann.must("POST", "/v1/plan", applyOf(list...), http.StatusOK))
	}
	before := c.stored()

	if p := plan(project("shop"), web("shop", "web")); !p.Empty() || len(p.Pods) != 0 || len(p.Resources) != 2 || p.Resources[1].Revision == 0 {
		t.Errorf("of what is there: %+v", p)
	}
	three := web("shop", "web")
	n := 3
	three.Spec.Replicas = &n
	p := plan(three)
	if want := []api.FieldChange{{Field: "spec.replicas", Old: 1.0, New: 3.0}}; !cmp.Equal(p.Resources[0].Fields, want) {
		t.Errorf("fields: %+v", p.Resources[0].Fields)
	}
	ops := map[api.PodOp]int{}
	hosts := map[api.Name]int{}
	for _, x := range p.Pods {
		ops[x.Op]++
		hosts[x.NewHost]++
	}
	if ops[api.PodMake] != 2 || ops[api.PodKeep] != 1 || len(p.Pods) != 3 || hosts["h2"] < 1 {
		t.Errorf("pods: %+v", p.Pods)
	}

	other := web("shop", "web")
	other.Spec.Containers[0].Image = "example.com/web:2"
	p = plan(other)
	if len(p.Pods) != 1 || p.Pods[0].Op != api.PodReplace || p.Pods[0].Pod != pod.Metadata.Name || p.Pods[0].Host != "h1" ||
		p.Pods[0].NewHost != "h2" || p.Pods[0].Reason != api.ReasonTemplateChange || p.Pods[0].Decision == nil {
		t.Errorf("pods: %+v", p.Pods)
	}
	if len(p.Rules) == 0 || p.Rules[0].What != "host ports" || p.Rules[0].Host != "h1" {
		t.Errorf("rules: %+v", p.Rules)
	}

	// A whole new project, in whatever order; its service has no host that would do.
	stuck := web("new", "web")
	stuck.Spec.Placement.Require = []api.Requirement{{Label: "zone", In: []string{"nowhere"}}}
	stuck.Spec.Aliases = []api.Hostname{"new.example.com"}
	p = plan(stuck, project("new"))
	if p.Resources[0].Kind != api.KindProject || p.Resources[1].Result != api.ResultCreated {
		t.Errorf("resources: %+v", p.Resources)
	}
	if len(p.Pods) != 1 || p.Pods[0].Op != api.PodMake || p.Pods[0].NewHost != "" || !strings.Contains(p.Pods[0].Message, "2 not allowed by placement") {
		t.Errorf("pods: %+v", p.Pods)
	}
	if len(p.Rules) != 1 || p.Rules[0].What != "alias new.example.com" || p.Rules[0].New[0] != "new/web http" {
		t.Errorf("rules: %+v", p.Rules)
	}
	if p := plan(secret("db", map[string]string{"password": canary})); p.Resources[0].Result != api.ResultCreated {
		t.Errorf("a secret: %+v", p)
	}
	if after := c.stored(); !cmp.Equal(withoutReports(before), withoutReports(after)) {
		t.Errorf("a plan has changed the store:\n%s", cmp.Diff(before, after))
	}
}

// withoutReports leaves of what is stored what only people and controllers write.
func withoutReports(stored string) (out []string) {
	for line := range strings.Lines(stored) {
		if strings.HasPrefix(line, "service/") || strings.HasPrefix(line, "pod/") || strings.HasPrefix(line, "project/") || strings.HasPrefix(line, "secret/") || strings.HasPrefix(line, "alias/") {
			out = append(out, line)
		}
	}
	return out
}

// What apply would refuse, a plan refuses with the same words.
func TestPlanRefusesWhatApplyRefuses(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	privileged := web("shop", "web")
	privileged.Spec.Containers[0].Privileged = true
	stale := project("shop")
	stale.Metadata.Revision = 999
	pod := api.New(api.KindPod)
	pod.Head().Metadata.Name, pod.Head().Metadata.Project = "web-aaaaa", "shop"
	host := api.New(api.KindHost)
	host.Head().Metadata.Name = "h9"
	tests := map[string]struct {
		body   any
		status int
		words  string
	}{
		"nothing":      {applyOf(), 422, "resources"},
		"no kind":      {`{"resources":[{}]}`, 422, "resources[0].kind"},
		"a pod":        {applyOf(pod), 422, "cannot be applied"},
		"a typo":       {`{"resources":[{"kind":"Project","metadata":{"name":"a"},"spek":{}}]}`, 422, "resources[0].spek"},
		"a key twice":  {`{"resources":[{"kind":"Project","metadata":{"name":"a","name":"b"}}]}`, 422, "given twice"},
		"one twice":    {applyOf(project("a"), project("a")), 422, "is given twice"},
		"no project":   {applyOf(web("nope", "web")), 422, "there is no project nope"},
		"its policy":   {applyOf(privileged), 422, "policy"},
		"old revision": {applyOf(stale), 409, "not 999"},
		"a host":       {applyOf(host), 404, "gear join"},
	}
	before := c.stored()
	for name, tt := range tests {
		for _, path := range []string{"/v1/plan", "/v1/apply", "/v1/apply?dryRun=1"} {
			if a := ann.must("POST", path, tt.body, tt.status); !strings.Contains(string(a.body), tt.words) {
				t.Errorf("%s: %s: %s lacks %q", path, name, a.body, tt.words)
			}
		}
	}
	if c.stored() != before {
		t.Error("something was stored")
	}
	project := project("shop")
	project.Spec.Policy = api.PolicyPrivileged
	p := read[api.ApplyPlan](t, ann.must("POST", "/v1/plan", applyOf(privileged, project), http.StatusOK))
	if len(p.Resources) != 2 || p.Resources[0].Result != api.ResultConfigured {
		t.Errorf("with its project's new policy: %+v", p.Resources)
	}
}

func TestPlanHasUnits(t *testing.T) {
	c, _ := shopWithPod(t)
	c.m.cfg.Units = unitgen.Changes
	svc := web("shop", "web")
	svc.Spec.Containers[0].Resources.Memory = 64 << 20
	p := read[api.ApplyPlan](t, c.ann().must("POST", "/v1/plan", applyOf(svc), http.StatusOK))
	want := []api.UnitChange{{Project: "shop", Service: "web", Unit: `gear-shop-web\x2dpod.slice`, Change: "changed", Diff: "+MemoryMax=67108864\n"}}
	if diff := cmp.Diff(want, p.Units); diff != "" {
		t.Error(diff)
	}
}

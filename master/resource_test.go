package master

import (
	"net/http"
	"strings"
	"testing"

	"gearmesh.dev/api"
)

func TestLifeOfAService(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	ann.must("POST", "/v1/projects", project("shop"), http.StatusCreated)
	idle := web("shop", "web")
	idle.Spec.Replicas = new(int) // no pods: nothing else is written
	a := ann.must("PUT", "/v1/projects/shop/services/web", idle, http.StatusCreated)
	first := read[api.Service](t, a)
	if a.header.Get("Gear-Result") != "created" || first.Metadata.UID.Validate() != nil || first.Metadata.Revision == 0 || first.Metadata.Created.IsZero() {
		t.Errorf("created %s: %+v", a.header.Get("Gear-Result"), first.Metadata)
	}
	before := c.stored()
	a = ann.must("PUT", "/v1/projects/shop/services/web", idle, http.StatusOK)
	if a.header.Get("Gear-Result") != "unchanged" || c.stored() != before {
		t.Errorf("the same again: %s", a.header.Get("Gear-Result"))
	}
	next := web("shop", "web")
	next.Spec.Containers[0].Image = "example.com/web:2"
	next.Metadata.Revision = first.Metadata.Revision
	next.Status.Ready = 99
	a = ann.must("PUT", "/v1/projects/shop/services/web", next, http.StatusOK)
	second := read[api.Service](t, a)
	if a.header.Get("Gear-Result") != "configured" || second.Metadata.UID != first.Metadata.UID || second.Metadata.Revision <= first.Metadata.Revision || second.Status.Ready != 0 {
		t.Errorf("replaced: %s %+v %+v", a.header.Get("Gear-Result"), second.Metadata, second.Status)
	}
	next.Spec.Containers[0].Image = "example.com/web:3"
	if e := ann.must("PUT", "/v1/projects/shop/services/web", next, http.StatusConflict).problem(t); e.Code != api.CodeConflict {
		t.Errorf("an old revision gives %s", e.Code)
	}
	got := read[api.Service](t, ann.must("GET", "/v1/projects/shop/services/web", nil, http.StatusOK))
	if got.Spec.Containers[0].Image != "example.com/web:2" {
		t.Errorf("reads %q", got.Spec.Containers[0].Image)
	}
	if e := ann.must("POST", "/v1/projects/shop/services", web("shop", "web"), http.StatusConflict).problem(t); e.Code != api.CodeExists {
		t.Errorf("creating it again gives %s", e.Code)
	}
	ann.must("DELETE", "/v1/projects/shop/services/web?revision=1", nil, http.StatusConflict)
	ann.must("DELETE", "/v1/projects/shop/services/web", nil, http.StatusOK)
	c.until("end of the service", func() bool {
		return ann.do("GET", "/v1/projects/shop/services/web", nil).status == http.StatusNotFound
	})
}

func TestAProjectTakesItsServicesAlong(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	ann.must("PUT", "/v1/projects/shop/services/a", web("shop", "a"), http.StatusCreated)
	ann.must("PUT", "/v1/projects/shop/services/b", web("shop", "b"), http.StatusCreated)
	if p := read[api.Project](t, ann.must("DELETE", "/v1/projects/shop", nil, http.StatusOK)); !p.Metadata.Deleting {
		t.Errorf("not marked: %+v", p.Metadata)
	}
	c.until("end of the project", func() bool { return ann.do("GET", "/v1/projects/shop", nil).status == http.StatusNotFound })
	if left := c.stored(); strings.Contains(left, "shop") {
		t.Errorf("left in the store:\n%s", left)
	}
}

func TestAServiceNeedsItsProject(t *testing.T) {
	c := startCluster(t)
	before := c.stored()
	e := c.ann().must("PUT", "/v1/projects/shop/services/web", web("shop", "web"), http.StatusUnprocessableEntity).problem(t)
	if len(e.Faults) != 1 || e.Faults[0].Field != "metadata.project" || !strings.Contains(e.Faults[0].Message, "kind Project") {
		t.Errorf("got %+v", e)
	}
	c.ann().must("GET", "/v1/projects/shop/services", nil, http.StatusNotFound)
	if c.stored() != before {
		t.Error("something was stored")
	}
}

func TestPodsAreTheMasters(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	ann.must("PUT", "/v1/projects/shop/services/web", web("shop", "web"), http.StatusCreated)
	var pods api.List[api.Pod]
	pod := func() bool {
		pods = read[api.List[api.Pod]](t, ann.must("GET", "/v1/projects/shop/pods", nil, http.StatusOK))
		return len(pods.Items) == 1
	}
	c.until("a pod", pod)
	first := pods.Items[0]
	if first.Status.Phase != api.PhasePending || first.Status.Message == "" {
		t.Errorf("a pod without hosts: %+v", first.Status)
	}
	path := "/v1/projects/shop/pods/" + string(first.Metadata.Name)
	ann.must("PUT", path, first, http.StatusForbidden)
	ann.must("POST", "/v1/projects/shop/pods", first, http.StatusForbidden)
	ann.must("DELETE", path, nil, http.StatusOK)
	c.until("another pod", func() bool { return pod() && pods.Items[0].Metadata.UID != first.Metadata.UID })
}

func TestDescriptionOfTheAPI(t *testing.T) {
	c := startCluster(t)
	a := c.user("", nil).must("GET", "/openapi.json", nil, http.StatusOK)
	for _, want := range []string{`"openapi":"3.1.0"`, `"/v1/projects/{project}/services/{name}"`, `"ListService"`, `"Gear-Result"`, `"mutualTLS"`} {
		if !strings.Contains(string(a.body), want) {
			t.Errorf("%s is missing", want)
		}
	}
	seen := map[string]bool{}
	for _, r := range c.m.routes() {
		if r.id == "" || seen[r.id] {
			t.Errorf("%s %s is named %q, as another one is, or not at all", r.method, r.path, r.id)
		}
		seen[r.id] = true
	}
}

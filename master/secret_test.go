package master

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"gearmesh.dev/api"
)

const canary = "canary-c2VjcmV0"

func secret(name api.Name, text map[string]string) *api.Secret {
	s := api.New(api.KindSecret).(*api.Secret)
	s.Metadata.Project, s.Metadata.Name, s.Spec.Text = "shop", name, text
	return s
}

func TestSecretsReachOnlyWhoNeedsThem(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	h1, h2 := c.join("h1", "10.0.0.1"), c.join("h2", "10.0.0.2")
	h1.tell(h1.report())
	h2.tell(h2.report())
	d1, d2 := h1.desire(), h2.desire()
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	db := secret("db", map[string]string{"password": canary, "other": canary + "-other"})
	a := ann.must("PUT", "/v1/projects/shop/secrets/db", db, http.StatusCreated)
	hashes := read[api.Secret](t, a).Spec.Hashes
	if len(hashes) != 2 || hashes["password"] == hashes["other"] {
		t.Errorf("the hashes are %v", hashes)
	}
	if a := ann.must("PUT", "/v1/projects/shop/secrets/db", db, http.StatusOK); a.header.Get("Gear-Result") != "unchanged" {
		t.Errorf("the same again: %s", a.header.Get("Gear-Result"))
	}
	svc := web("shop", "web")
	svc.Spec.Placement.Require = []api.Requirement{{Label: "host", In: []string{"h1"}}}
	svc.Spec.Containers[0].SecretEnv = map[string]api.SecretKey{"PASSWORD": {Secret: "db", Key: "password"}}
	ann.must("PUT", "/v1/projects/shop/services/web", svc, http.StatusCreated)
	d1.until("the secret", func(d api.Desired) bool {
		return len(d.Secrets) == 1 && len(d.Secrets[0].Data) == 1 && string(d.Secrets[0].Data["password"]) == canary
	})
	db.Spec.Text["password"] = canary + "2"
	ann.must("PUT", "/v1/projects/shop/secrets/db", db, http.StatusOK)
	d1.until("the change", func(d api.Desired) bool {
		return len(d.Secrets) == 1 && string(d.Secrets[0].Data["password"]) == canary+"2"
	})
	for _, path := range []string{"/v1/secrets", "/v1/projects/shop/secrets", "/v1/projects/shop/secrets/db", "/v1/projects/shop/services/web", "/v1/pods"} {
		if got := ann.must("GET", path, nil, http.StatusOK); strings.Contains(string(got.body), canary) {
			t.Errorf("GET %s shows the secret", path)
		}
	}
	if strings.Contains(c.stored(), canary) || strings.Contains(c.log.String(), canary) {
		t.Error("the secret is in the store or the log")
	}
	ann.must("DELETE", "/v1/projects/shop/secrets/db", nil, http.StatusConflict)
	ann.must("DELETE", "/v1/projects/shop/services/web", nil, http.StatusOK)
	ann.must("DELETE", "/v1/projects/shop/secrets/db", nil, http.StatusOK)
	ann.must("PUT", "/v1/projects/shop/secrets/last", secret("last", map[string]string{"a": "b"}), http.StatusCreated)
	d2.until("the end", func(d api.Desired) bool {
		return !slices.ContainsFunc(d.Directory.Services, func(s api.ServiceEntry) bool { return s.Name == "web" })
	})
	if len(d2.Secrets) > 0 {
		t.Error("a host without the pod has the secret")
	}
}

func TestAProjectTakesItsSecretsAlong(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	ann.must("PUT", "/v1/projects/shop/secrets/db", secret("db", map[string]string{"a": canary}), http.StatusCreated)
	ann.must("DELETE", "/v1/projects/shop", nil, http.StatusOK)
	c.until("end of the project", func() bool { return ann.do("GET", "/v1/projects/shop", nil).status == http.StatusNotFound })
	if left := c.stored(); strings.Contains(left, "sealed/") || strings.Contains(left, "secret/") {
		t.Errorf("left: %s", left)
	}
}

func TestSecretsRefused(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	for name, s := range map[string]*api.Secret{
		"no values":      secret("x", nil),
		"a wrong name":   secret("x", map[string]string{"../x": "v"}),
		"a dot":          secret("x", map[string]string{"..": "v"}),
		"too large":      secret("x", map[string]string{"x": strings.Repeat("x", api.MaxSecret+1)}),
		"what it cannot": secret("X", map[string]string{"x": "v"}),
	} {
		if a := ann.do("PUT", "/v1/projects/shop/secrets/x", s); a.status/100 != 4 {
			t.Errorf("%s: %d", name, a.status)
		}
	}
}

package master

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gearmesh.dev/api"
)

// TestDryRuns does everything twice: dry, which answers the same and stores nothing, and then really.
func TestDryRuns(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	ann.apply(project("shop"), idle("shop", "web", "web:1"), alias("shop", "www", "web"), secret("db", map[string]string{"password": "x"}))
	taken := idle("shop", "web", "web:2")
	taken.Metadata.Revision = 1
	user := idle("shop", "user", "web:1")
	user.Spec.Containers[0].SecretEnv = map[string]api.SecretKey{"P": {Secret: "db", Key: "password"}}
	for _, tt := range []struct {
		method, path string
		body         any
		status       int
		result       string
	}{
		{"POST", "/v1/projects", project("new"), 201, "created"},
		{"POST", "/v1/projects", project("shop"), 409, ""},
		{"PUT", "/v1/projects/shop/services/web", idle("shop", "web", "web:1"), 200, "unchanged"},
		{"PUT", "/v1/projects/shop/services/web", idle("shop", "web", "web:2"), 200, "configured"},
		{"PUT", "/v1/projects/shop/services/web", taken, 409, ""},
		{"PUT", "/v1/projects/shop/services/api", idle("shop", "api", "web:1"), 201, "created"},
		{"PUT", "/v1/projects/shop/services/api", idle("shop", "api", ""), 422, ""},
		{"PUT", "/v1/projects/nosuch/services/api", idle("nosuch", "api", "web:1"), 422, ""},
		{"PUT", "/v1/projects/shop/secrets/db", secret("db", map[string]string{"password": "y"}), 200, "configured"},
		{"PUT", "/v1/projects/shop/services/user", user, 201, "created"},
		{"DELETE", "/v1/projects/shop/secrets/db", nil, 409, ""}, // it is needed
		{"DELETE", "/v1/projects/shop/aliases/www?revision=1", nil, 409, ""},
		{"DELETE", "/v1/projects/shop/aliases/www", nil, 200, "deleted"},
		{"DELETE", "/v1/projects/shop/services/web", nil, 200, "deleted"},
		{"DELETE", "/v1/projects/shop/services/nosuch", nil, 404, ""},
		{"DELETE", "/v1/projects/new", nil, 200, "deleted"},
	} {
		name := tt.method + " " + tt.path
		before, sign := c.stored(), "?"
		if strings.Contains(tt.path, "?") {
			sign = "&"
		}
		dry := ann.keyed(tt.method, tt.path+sign+"dryRun=1", "dry", tt.body)
		if c.stored() != before {
			t.Errorf("%s: a dry run has stored something:\n%s", name, cmp.Diff(before, c.stored()))
		}
		really := ann.do(tt.method, tt.path, tt.body)
		if dry.status != tt.status || really.status != tt.status || dry.header.Get(resultHeader) != tt.result || really.header.Get(resultHeader) != tt.result {
			t.Errorf("%s: dry %d %s %s\nreally %d %s %s", name, dry.status, dry.header.Get(resultHeader), dry.body, really.status, really.header.Get(resultHeader), really.body)
			continue
		}
		if tt.status > 299 {
			if string(dry.body) != string(really.body) {
				t.Errorf("%s: %s and %s", name, dry.body, really.body)
			}
			continue
		}
		if tt.result == "deleted" {
			c.until("end of it", func() bool { return ann.do("GET", tt.path, nil).status == http.StatusNotFound })
		}
		a, b := read[map[string]any](t, dry), read[map[string]any](t, really)
		given := cmpopts.IgnoreMapEntries(func(k string, _ any) bool {
			return k == "revision" || k == "uid" && tt.result == "created" || k == "created" || k == "status"
		})
		if diff := cmp.Diff(a, b, given); diff != "" {
			t.Errorf("%s: dry and really:\n%s", name, diff)
		}
		if meta := a["metadata"].(map[string]any); tt.result == "created" && (meta["uid"] != nil || meta["revision"] != nil) {
			t.Errorf("%s: a dry run has a uid or a revision: %s", name, dry.body)
		}
	}
	log := c.log.String()
	if n := strings.Count(log, `object="project new" result=created`); n != 1 || !strings.Contains(log, `object="project new" result="dry run: created"`) {
		t.Errorf("%d records say that the project was created in\n%s", n, log)
	}
	for _, bad := range []string{"yes", "true", "1&dryRun=1"} {
		ann.must("PUT", "/v1/projects/never?dryRun="+bad, project("never"), http.StatusBadRequest)
		ann.must("POST", "/v1/apply?dryRun="+bad, applyOf(project("never")), http.StatusBadRequest)
	}
	ann.must("PUT", "/v1/projects/never?dryrun=1", project("never"), http.StatusBadRequest)
	ann.must("GET", "/v1/projects/never", nil, http.StatusNotFound)
}

func TestDryRunOfAnApply(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	first := ann.apply(project("shop"), idle("shop", "web", "web:1"))
	before := c.stored()
	body := applyOf(project("shop"), project("new"), idle("shop", "web", "web:2"), idle("new", "web", "web:1"))
	dry := read[api.Applied](t, ann.keyed("POST", "/v1/apply?dryRun=1", "k", body))
	if c.stored() != before {
		t.Errorf("a dry run has stored something:\n%s", cmp.Diff(before, c.stored()))
	}
	if !dry.DryRun || dry.Revision != 0 || dry.Resources[2].Revision != first.Revision || dry.Resources[3].Revision != 0 {
		t.Errorf("got %+v", dry)
	}
	if !strings.Contains(c.log.String(), `object="project new created, service shop/web configured, service new/web created" result="dry run: applied"`) {
		t.Errorf("no record of it in\n%s", c.log)
	}
	really := read[api.Applied](t, ann.must("POST", "/v1/apply", body, http.StatusOK))
	if diff := cmp.Diff(results(dry), results(really)); diff != "" {
		t.Error(diff)
	}
}

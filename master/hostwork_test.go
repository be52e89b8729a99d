package master

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"gearmesh.dev/api"
)

// What people ask of a host goes to that host's agent, and what it says comes back as its own word.
func TestHostworkIsPassedToTheAgent(t *testing.T) {
	const unknown = "aaaaaaaaaaaaaaaa"
	c, pods := logCluster(t, func(host string) http.HandlerFunc {
		if host == "h2" {
			return nil // its agent does not answer
		}
		return func(w http.ResponseWriter, r *http.Request) {
			switch r.Method + " " + r.URL.Path {
			case "GET /v1/plan":
				_ = json.NewEncoder(w).Encode(api.HostPlan{Host: "forged", Drift: []api.Drift{{What: "a\x1b[31m", Reason: api.ReasonUnitMissing}}})
			case "POST /v1/repair":
				_ = json.NewEncoder(w).Encode(api.Repair{Pods: 1, Mended: []api.Drift{{What: "x", Reason: api.ReasonRulesDiffer}}})
			case "DELETE /v1/pods/" + unknown:
				w.WriteHeader(http.StatusNoContent)
			default:
				w.WriteHeader(http.StatusNotFound)
				_ = json.NewEncoder(w).Encode(api.Errorf(api.CodeNotFound, "host h1 has no pod with that uid"))
			}
		}
	})
	ann := c.ann()
	if p := read[api.HostPlan](t, ann.must("GET", "/v1/hosts/h1/plan", nil, 200)); p.Host != "h1" || p.Drift[0].What != "a[31m" {
		t.Errorf("%+v", p)
	}
	if r := read[api.Repair](t, ann.must("POST", "/v1/hosts/h1/repair", nil, 200)); r.Host != "h1" || len(r.Mended) != 1 {
		t.Errorf("%+v", r)
	}
	ann.must("DELETE", "/v1/hosts/h1/pods/"+unknown, nil, http.StatusNoContent)
	ann.must("DELETE", "/v1/hosts/h1/pods/bbbbbbbbbbbbbbbb", nil, http.StatusNotFound)
	ann.must("DELETE", "/v1/hosts/h1/pods/x", nil, http.StatusUnprocessableEntity)
	known := ann.must("DELETE", "/v1/hosts/h1/pods/"+string(pods[0].Metadata.UID), nil, http.StatusConflict)
	if !strings.Contains(string(known.body), "delete its service instead") {
		t.Errorf("%s", known.body)
	}
	silent := ann.must("POST", "/v1/hosts/h2/repair", nil, http.StatusServiceUnavailable)
	if !strings.Contains(string(silent.body), "gear host repair --local") {
		t.Errorf("%s", silent.body)
	}
	ann.must("GET", "/v1/hosts/h9/plan", nil, http.StatusNotFound)
}

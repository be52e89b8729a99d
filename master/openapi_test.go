package master

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"gearmesh.dev/internal/golden"
)

// TestRouteTable keeps the whole API on one page: a route that is added, or opened to others, shows.
func TestRouteTable(t *testing.T) {
	var b bytes.Buffer
	for _, r := range new(Master).routes() {
		who := [...]string{forPeople: "people", forHost: "host", forAnybody: "anybody"}[r.who]
		fmt.Fprintf(&b, "%-6s %-49s %-18s %-8s audit=%-5v stream=%v\n", r.method, r.path, r.id, who, r.audit, r.stream)
	}
	golden.Equal(t, "routes.txt", b.Bytes())
}

// Every reference of the description leads somewhere, or no client could be generated from it.
func TestReferencesOfTheDescription(t *testing.T) {
	c := startCluster(t)
	a := c.user("", nil).must("GET", "/openapi.json", nil, http.StatusOK)
	var doc struct {
		Paths      map[string]map[string]struct{ OperationID string }
		Components struct{ Schemas map[string]json.RawMessage }
	}
	if err := json.Unmarshal(a.body, &doc); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(a.body), `"$ref":"#/components/schemas/`)
	for _, part := range parts[1:] {
		name, _, _ := strings.Cut(part, `"`)
		if _, ok := doc.Components.Schemas[name]; !ok {
			t.Errorf("there is no schema %q", name)
		}
	}
	described := 0
	for _, methods := range doc.Paths {
		described += len(methods)
	}
	if routes := len(c.m.routes()); described != routes || len(parts) < routes {
		t.Errorf("%d operations are described, %d are served", described, routes)
	}
}

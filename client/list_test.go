package client_test

import (
	"fmt"
	"net/http"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

func page(items, next string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"revision": 7, "items": [%s], "continue": %q}`, items, next)
	}
}

func TestPages(t *testing.T) {
	a, b := `{"kind": "Service", "metadata": {"name": "a"}}`, `{"kind": "Service", "metadata": {"name": "b"}}`
	gone := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusGone)
		fmt.Fprint(w, `{"status": 410, "code": "Gone", "detail": "not kept"}`)
	}
	// The list is forgotten between its pages, and is begun again.
	s := serve(t, inTurn(page(a, "x.1"), gone, page(a, "y.1"), page(b, "")))
	got, err := client.ListWith[api.Service](t.Context(), s.client(t), client.ListOptions{Project: "shop", Selector: "tier=front", PageSize: 1})
	if err != nil || len(got.Items) != 2 || got.Items[1].Metadata.Name != "b" || got.Revision != 7 {
		t.Errorf("got %+v, %v", got, err)
	}
	var uris []string
	for _, c := range s.calls() {
		uris = append(uris, c.uri)
	}
	const first = "/v1/projects/shop/services?limit=1&selector=tier%3Dfront"
	want := []string{first, "/v1/projects/shop/services?continue=x.1&limit=1&selector=tier%3Dfront", first, "/v1/projects/shop/services?continue=y.1&limit=1&selector=tier%3Dfront"}
	if fmt.Sprint(uris) != fmt.Sprint(want) {
		t.Errorf("asked for\n%q, want\n%q", uris, want)
	}
}

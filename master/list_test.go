package master

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
)

// services fills a project with services, every second one with tier=front.
func services(t *testing.T, ann *user, n int) {
	t.Helper()
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	for i := range n {
		s := web("shop", fmt.Sprintf("s%d", i))
		s.Spec.Replicas = new(int)
		if i%2 == 0 {
			s.Metadata.Labels = map[string]string{"tier": "front"}
		}
		ann.must("PUT", "/v1/projects/shop/services/"+string(s.Metadata.Name), s, http.StatusCreated)
	}
}

func names(l api.List[api.Service]) string {
	var out []string
	for _, s := range l.Items {
		out = append(out, string(s.Metadata.Name))
	}
	return strings.Join(out, " ")
}

func TestPagesAreOfOneRevision(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	services(t, ann, 7)
	get := func(query string) api.List[api.Service] {
		t.Helper()
		return read[api.List[api.Service]](t, ann.must("GET", "/v1/projects/shop/services?"+query, nil, http.StatusOK))
	}
	first := get("selector=tier%3Dfront&limit=3")
	if names(first) != "s0 s2 s4" || first.Remaining != 1 || first.Continue == "" {
		t.Fatalf("the first page: %q, %+v", names(first), first)
	}
	// What changes between two pages is not in the list.
	late := web("shop", "s1a")
	late.Spec.Replicas, late.Metadata.Labels = new(int), map[string]string{"tier": "front"}
	ann.must("PUT", "/v1/projects/shop/services/s1a", late, http.StatusCreated)
	ann.must("DELETE", "/v1/projects/shop/services/s6", nil, http.StatusOK)
	next := "selector=tier%3Dfront&limit=3&continue=" + first.Continue
	for range 2 { // a page that was lost on the way can be asked for again
		last := get(next)
		if names(last) != "s6" || last.Revision != first.Revision || last.Continue != "" || last.Remaining != 0 {
			t.Errorf("the last page: %q, %+v", names(last), last)
		}
	}
	if all := get("selector=tier%3Dfront"); !strings.HasPrefix(names(all), "s0 s1a s2 s4") {
		t.Errorf("a new list: %q", names(all))
	}
	for query, status := range map[string]int{
		"limit=3&continue=" + first.Continue:          http.StatusBadRequest, // of another selector
		next + "9":                                    http.StatusGone,
		"continue=nonsense":                           http.StatusGone,
		"continue=" + strings.Repeat("a", 16) + ".-1": http.StatusGone,
	} {
		ann.must("GET", "/v1/projects/shop/services?"+query, nil, status)
	}
}

func TestListsAreForgotten(t *testing.T) {
	var p pages
	now := time.Now()
	items := make([]api.Resource, 2)
	first := p.keep(&listing{items: items}, 1, now)
	if _, from, ok := p.find(first, now.Add(listingLife)); !ok || from != 1 {
		t.Errorf("in time: %d, %t", from, ok)
	}
	if _, _, ok := p.find(first, now.Add(2*listingLife+time.Second)); ok {
		t.Error("too late, and it is still there")
	}
	for i := range 3 * maxListings {
		p.keep(&listing{items: items}, 1, now.Add(time.Duration(i)))
	}
	if len(p.kept) != maxListings || len(p.ids) != maxListings {
		t.Errorf("%d lists are kept, by %d words; want %d", len(p.kept), len(p.ids), maxListings)
	}
}

func TestWatchBySelector(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	services(t, ann, 3)
	w := ann.stream("/v1/watch?kinds=services&selector=tier%3Dfront")
	var got []string
	w.await(func(l line) bool { got = append(got, l.String()); return l.Type == api.EventSync })
	if fmt.Sprint(got[:len(got)-1]) != "[put service shop/s0 put service shop/s2]" {
		t.Errorf("at first: %q", got)
	}
	s := web("shop", "s2")
	s.Spec.Replicas = new(int)
	ann.must("PUT", "/v1/projects/shop/services/s2", s, http.StatusOK)
	w.await(func(l line) bool { return l.String() == "delete service shop/s2" })
}

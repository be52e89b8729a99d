package master

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
)

// What services were before: with each change of a service's spec the one before is kept, in the same transaction.

const (
	historyPrefix = "history/" // + PROJECT/SERVICE/GENERATION: api.ServiceRevision
	// keptVersions is how many specs before the one that is wanted now are kept of a service.
	keptVersions = 10
)

func (m *Master) historyRoutes() []route {
	return []route{{id: "getServiceHistory", method: "GET", path: "/v1/projects/{project}/services/{name}/history", prompt: true, who: forPeople,
		summary: "The specs that a service has had, the newest first", answer: reflect.TypeFor[api.ServiceHistory](), handle: m.serviceHistory}}
}

// serviceHistory answers with the spec that is wanted now, and those before it.
func (m *Master) serviceHistory(c *call) error {
	key := api.Key{Kind: api.KindService, Project: c.name("project"), Name: c.name("name")}
	r, ok := m.cache.get(key)
	if !ok {
		return notFound(key)
	}
	s := r.(*api.Service)
	items, _, err := m.store.List(c.Context(), historyOf(key))
	if err != nil {
		return err
	}
	out := api.ServiceHistory{Items: []api.ServiceRevision{{Generation: generationOf(s), Spec: lasting(s)}}}
	for _, it := range items {
		var v api.ServiceRevision
		if err := json.Unmarshal(it.Value, &v); err != nil {
			return fmt.Errorf("reading %q from the store: %w", it.Key, err)
		}
		if v.Generation < out.Items[0].Generation { // the cache may be behind
			out.Items = append(out.Items, v)
		}
	}
	slices.SortFunc(out.Items, func(a, b api.ServiceRevision) int { return cmp.Compare(b.Generation, a.Generation) })
	return c.answer(http.StatusOK, out)
}

// succeed counts a change of a service's spec.
func succeed(old, next *api.Service) error {
	before, err := json.Marshal(lasting(old))
	if err != nil {
		return err
	}
	after, err := json.Marshal(lasting(next))
	if err == nil && !bytes.Equal(before, after) {
		next.Metadata.Generation = generationOf(old) + 1
	}
	return err
}

// keepOps gives the writes that keep a service's spec when it is replaced by another, and forget the oldest.
func keepOps(old, next *api.Service, by string) []store.Op {
	g := generationOf(old)
	if generationOf(next) == g {
		return nil
	}
	at := func(g int64) string { return fmt.Sprintf("%s%010d", historyOf(old.Key()), g) }
	v := api.ServiceRevision{Generation: g, Until: time.Now().UTC().Truncate(time.Millisecond), By: by, Spec: lasting(old)}
	ops := []store.Op{{Key: at(g), Value: mustJSON(v), If: store.Any}}
	if g > keptVersions {
		ops = append(ops, erase(at(g-keptVersions)))
	}
	return ops
}

// historyOf gives the prefix of what is kept of a service.
func historyOf(service api.Key) string {
	return historyPrefix + string(service.Project) + "/" + string(service.Name) + "/"
}

// generationOf counts from 1 also for services that are older than the count.
func generationOf(s *api.Service) int64 { return max(s.Metadata.Generation, 1) }

// lasting gives a spec without when its pods were restarted: that is no part of what is wanted, and not to be done again.
func lasting(s *api.Service) api.ServiceSpec {
	spec := s.Spec
	spec.Restarted = time.Time{}
	return spec
}

package master

import (
	"cmp"
	"slices"

	"gearmesh.dev/api"
)

// What is read out of the cache: single resources and sorted lists.

// get finds a resource, without its status.
func (c *cache) get(key api.Key) (api.Resource, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	r, ok := c.objects[key.Kind][key]
	return r, ok
}

func (c *cache) has(key api.Key) bool {
	_, ok := c.get(key)
	return ok
}

// list gives the resources of a kind, in one project when it is named, sorted by key.
func (c *cache) list(kind api.Kind, project api.Name) []api.Resource {
	out, _ := c.listAt(kind, project)
	return out
}

// listAt gives also the revision that the list is of.
func (c *cache) listAt(kind api.Kind, project api.Name) ([]api.Resource, int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.listLocked(kind, project), c.revision
}

func (c *cache) listLocked(kind api.Kind, project api.Name) []api.Resource {
	var out []api.Resource
	for key, r := range c.objects[kind] {
		if project == "" || key.Project == project {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b api.Resource) int {
		x, y := a.Head().Metadata, b.Head().Metadata
		return cmp.Or(cmp.Compare(x.Project, y.Project), cmp.Compare(x.Name, y.Name))
	})
	return out
}

// all gives everything that is wanted, in the order in which resources depend on each other, and
// the place in the history and the revision that follow it.
func (c *cache) all(want func(api.Key) bool) (found []api.Resource, seq, revision int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, kind := range api.Kinds() {
		for _, r := range c.listLocked(kind, "") {
			if want(r.Head().Key()) {
				found = append(found, r)
			}
		}
	}
	return found, c.lastSeq, c.revision
}

package master

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/failpoint"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/master/store"
)

// maxAttempts is how often a write is tried again when someone else's came between reading and
// writing. A caller who named a revision is told instead.
const maxAttempts = 8

// The values of the header Gear-Result.
const (
	resultHeader     = "Gear-Result"
	resultCreated    = "created"
	resultConfigured = "configured"
	resultUnchanged  = "unchanged"
	resultDeleted    = "deleted"
)

// read decodes a resource from a request, strictly, fills in what was left out and checks it.
func (c *call) read(kind api.Kind) (api.Resource, error) {
	r := api.New(kind)
	r.Head().Kind = ""
	if err := api.Decode(c.body, r); err != nil {
		return nil, err
	}
	h := r.Head()
	var faults []api.Fault
	agree(&faults, "kind", &h.Kind, kind)
	agree(&faults, "metadata.name", &h.Metadata.Name, c.name("name"))
	agree(&faults, "metadata.project", &h.Metadata.Project, c.name("project"))
	if err := complete(r, faults); err != nil {
		return nil, err
	}
	c.object = h.Key().String()
	return r, nil
}

// complete fills in what was left out of a resource and checks it, beside the faults that are known already.
func complete(r api.Resource, faults []api.Fault) error {
	h := r.Head()
	if h.Version != "" && h.Version != api.Version { // Default would hide it
		faults = append(faults, api.Fault{Field: "version", Message: strconv.Quote(h.Version) + " is not known; write " + strconv.Quote(api.Version) + " or leave it out"})
	}
	r.Default()
	if faults = append(faults, r.Validate()...); len(faults) > 0 {
		return api.Invalid(h.Key().String(), faults)
	}
	return nil
}

// agree fills a field from the path, or finds that they contradict each other.
func agree[T ~string](faults *[]api.Fault, field string, got *T, want T) {
	switch {
	case want == "" || *got == want:
	case *got == "":
		*got = want
	default:
		*faults = append(*faults, api.Fault{Field: field,
			Message: "is " + strconv.Quote(string(*got)) + ", but the path says " + strconv.Quote(string(want))})
	}
}

// create answers POST on a list.
func (m *Master) create(kind api.Kind) func(*call) error {
	return func(c *call) error {
		r, err := c.read(kind)
		if err != nil {
			return err
		}
		kept, err := m.seal(r)
		if err != nil {
			return err
		}
		stored, err := m.insert(c.Context(), r, kept...)
		if errors.Is(err, store.ErrConflict) {
			return api.Errorf(api.CodeExists, "there is a %s already; PUT replaces it", r.Head().Key())
		}
		if err != nil {
			return err
		}
		return m.written(c, http.StatusCreated, resultCreated, stored)
	}
}

// replace answers PUT: create, or replace the spec and labels of what is there.
func (m *Master) replace(kind api.Kind) func(*call) error {
	return func(c *call) error {
		r, err := c.read(kind)
		if err != nil {
			return err
		}
		kept, err := m.seal(r)
		if err != nil {
			return err
		}
		for range maxAttempts {
			done, err := m.tryReplace(c, r, kept)
			if done || !errors.Is(err, store.ErrConflict) || r.Head().Metadata.Revision != 0 {
				return err
			}
		}
		return api.Errorf(api.CodeConflict, "%s is being changed by others all the time; try again", r.Head().Key())
	}
}

func (m *Master) tryReplace(c *call, r api.Resource, kept []store.Op) (done bool, err error) {
	old, err := m.load(c.Context(), r.Head().Key())
	if errors.Is(err, store.ErrNotFound) {
		return m.replaceMissing(c, r, kept)
	}
	if err != nil {
		return false, err
	}
	next, changed, err := successor(old, r)
	if err != nil {
		return false, err
	}
	if !changed {
		if err := m.unchanged(c.Context(), old, resultUnchanged); err != nil {
			return false, err
		}
		return true, m.written(c, http.StatusOK, resultUnchanged, old)
	}
	guards, err := m.policyGuard(c.Context(), m.load, next)
	if err != nil {
		return false, err
	}
	stored, err := m.write(c.Context(), next, old.Head().Metadata.Revision, append(guards, kept...)...)
	if err != nil {
		return false, err
	}
	return true, m.written(c, http.StatusOK, resultConfigured, stored)
}

func (m *Master) replaceMissing(c *call, r api.Resource, kept []store.Op) (done bool, err error) {
	if err := mayCreate(r.Head()); err != nil {
		return false, err
	}
	stored, err := m.insert(c.Context(), r, kept...)
	if err != nil {
		return false, err
	}
	return true, m.written(c, http.StatusCreated, resultCreated, stored)
}

// mayCreate refuses a resource that is not there and that a PUT does not make.
func mayCreate(h *api.Header) error {
	switch {
	case h.Kind == api.KindHost:
		return api.Errorf(api.CodeNotFound, "there is no %s; a host comes by joining: gear token create, then gear join on the host", h.Key())
	case h.Metadata.Revision != 0:
		return api.Errorf(api.CodeConflict, "%s was read at revision %d and is gone now; leave metadata.revision out to create it", h.Key(), h.Metadata.Revision)
	}
	return nil
}

// successor gives what a resource becomes by a person's PUT: what the master sets stays.
func successor(old, wish api.Resource) (next api.Resource, changed bool, err error) {
	was, want := old.Head(), wish.Head()
	switch {
	case want.Metadata.Revision != 0 && want.Metadata.Revision != was.Metadata.Revision:
		return nil, false, api.Errorf(api.CodeConflict, "%s is at revision %d, not %d; read it again and apply your change to that",
			was.Key(), was.Metadata.Revision, want.Metadata.Revision)
	case want.Metadata.UID != "" && want.Metadata.UID != was.Metadata.UID:
		return nil, false, api.Errorf(api.CodeConflict, "%s is another one now: its uid is %s, not %s", was.Key(), was.Metadata.UID, want.Metadata.UID)
	case was.Metadata.Deleting:
		return nil, false, api.Errorf(api.CodeConflict, "%s is being deleted; wait until it is gone", was.Key())
	}
	next = bare(wish)
	labels := want.Metadata.Labels
	next.Head().Metadata = was.Metadata
	next.Head().Metadata.Labels = labels
	if h, ok := next.(*api.Host); ok && !h.Spec.Address.IsValid() {
		h.Spec.Address = old.(*api.Host).Spec.Address
	}
	before, err := encode(old)
	if err != nil {
		return nil, false, err
	}
	after, err := encode(next)
	return next, !bytes.Equal(before, after), err
}

// insert writes a new resource, and what is kept beside it. One of a project needs the project, which must not be on its way
// out; the transaction checks that it has not changed meanwhile.
func (m *Master) insert(ctx context.Context, r api.Resource, kept ...store.Op) (api.Resource, error) {
	r = newborn(r)
	h := r.Head()
	for range maxAttempts {
		guards, err := m.projectGuard(ctx, m.load, h)
		if err != nil {
			return nil, err
		}
		// The guard is of a project read before this one: had it changed in between, the write would fail.
		if _, err := m.policyGuard(ctx, m.load, r); err != nil {
			return nil, err
		}
		stored, err := m.write(ctx, r, store.Absent, append(guards, kept...)...)
		if !errors.Is(err, store.ErrConflict) {
			return stored, err
		}
		if _, err := m.store.Get(ctx, storeKey(h.Key())); err == nil {
			return nil, store.ErrConflict // it is the resource that exists, not the project that changed
		}
	}
	return nil, store.ErrConflict
}

// newborn gives a resource as it is first stored.
func newborn(r api.Resource) api.Resource {
	r = bare(r)
	m := &r.Head().Metadata
	*m = api.Metadata{Name: m.Name, Project: m.Project, Labels: m.Labels, UID: pki.NewUID(), Created: time.Now().UTC().Truncate(time.Millisecond)}
	return r
}

// loader reads a resource: from the store, or as it would be after a change.
type loader func(ctx context.Context, key api.Key) (api.Resource, error)

func (m *Master) projectGuard(ctx context.Context, load loader, h *api.Header) ([]store.Op, error) {
	if !h.Kind.InProject() {
		return nil, nil
	}
	key := api.Key{Kind: api.KindProject, Name: h.Metadata.Project}
	p, err := load(ctx, key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, api.Invalid(h.Key().String(), []api.Fault{{Field: "metadata.project",
			Message: "there is no " + key.String() + "; apply a manifest with kind Project first"}})
	case err != nil:
		return nil, err
	case p.Head().Metadata.Deleting:
		return nil, api.Errorf(api.CodeConflict, "%s is being deleted; wait until it is gone", key)
	}
	return []store.Op{{Kind: store.Check, Key: storeKey(key), If: p.Head().Metadata.Revision}}, nil
}

// remove answers DELETE. An alias is gone at once; of the others something may run, so they are
// marked, and the controllers end them.
func (m *Master) remove(kind api.Kind) func(*call) error {
	return func(c *call) error {
		key := api.Key{Kind: kind, Project: c.name("project"), Name: c.name("name")}
		c.object = key.String()
		revision, err := c.revision()
		if err != nil {
			return err
		}
		for range maxAttempts {
			gone, err := m.tryRemove(c.Context(), key, revision)
			switch {
			case errors.Is(err, store.ErrNotFound):
				return notFound(key)
			case errors.Is(err, store.ErrConflict):
				continue
			case err != nil:
				return err
			}
			return m.written(c, http.StatusOK, resultDeleted, gone)
		}
		return api.Errorf(api.CodeConflict, "%s is being changed by others all the time; try again", key)
	}
}

// revision gives the query parameter, 0 when it is left out.
func (c *call) revision() (int64, error) {
	text := c.URL.Query().Get("revision")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, api.Errorf(api.CodeBadRequest, "revision %.40q is no whole number from 0", text)
	}
	return n, nil
}

func (m *Master) tryRemove(ctx context.Context, key api.Key, revision int64) (api.Resource, error) {
	old, err := m.load(ctx, key)
	if err != nil {
		return nil, err
	}
	at := old.Head().Metadata.Revision
	if revision != 0 && revision != at {
		return nil, api.Errorf(api.CodeConflict, "%s is at revision %d, not %d; look at it again", key, at, revision)
	}
	if key.Kind == api.KindAlias {
		old.Head().Metadata.Deleting = true
		rev, err := m.commit(ctx, old, resultDeleted, store.Op{Kind: store.Delete, Key: storeKey(key), If: at})
		old.Head().Metadata.Revision = rev
		return old, err
	}
	if key.Kind == api.KindSecret {
		return m.removeSecret(ctx, old, at)
	}
	if old.Head().Metadata.Deleting {
		err = m.unchanged(ctx, old, resultDeleted)
	} else {
		old.Head().Metadata.Deleting = true
		old, err = m.write(ctx, old, at)
	}
	if err != nil {
		return nil, err
	}
	if key.Kind == api.KindProject {
		return old, m.removeServices(ctx, key.Name)
	}
	return old, nil
}

// removeServices marks all services of a project that is being deleted. No new ones can come:
// insert checks the project. When it ends half-way, the controllers go on.
func (m *Master) removeServices(ctx context.Context, project api.Name) error {
	services := m.cache.list(api.KindService, project)
	for _, s := range services {
		for range maxAttempts {
			_, err := m.tryRemove(ctx, s.Head().Key(), 0)
			if err == nil || errors.Is(err, store.ErrNotFound) {
				break
			}
			if !errors.Is(err, store.ErrConflict) {
				return err
			}
		}
	}
	return nil
}

// load reads a resource from the store itself, to base a write on it.
func (m *Master) load(ctx context.Context, key api.Key) (api.Resource, error) {
	it, err := m.store.Get(ctx, storeKey(key))
	if err != nil {
		return nil, err
	}
	return decode(key.Kind, it)
}

// write stores a resource if the stored revision is the given one, and waits until reads see it.
func (m *Master) write(ctx context.Context, r api.Resource, revision int64, guards ...store.Op) (api.Resource, error) {
	data, err := encode(r)
	if err != nil {
		return nil, err
	}
	own := store.Op{Key: storeKey(r.Head().Key()), Value: data, If: revision}
	result := resultConfigured
	switch {
	case r.Head().Metadata.Deleting:
		result = resultDeleted
	case revision == store.Absent:
		result = resultCreated
	}
	rev, err := m.commit(ctx, r, result, slices.Concat(guards, []store.Op{own})...)
	if err != nil {
		return nil, err
	}
	stored := bare(r)
	stored.Head().Metadata.Revision = rev
	return stored, nil
}

// txn writes to the store and waits until reads see it.
func (m *Master) txn(ctx context.Context, ops ...store.Op) (int64, error) {
	rev, err := m.store.Txn(ctx, ops...)
	if err != nil {
		return 0, err
	}
	if err := failpoint.Hit(failpoint.MasterStored); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, readBack)
	defer cancel()
	return rev, m.cache.wait(ctx, rev)
}

// readBack is how long a write waits to be seen by reads. When the store's watch is stuck, the
// answer is "unavailable": a write that is sent again finds itself done.
const readBack = 5 * time.Second

// written answers a write with the resource as it is now.
func (m *Master) written(c *call, status int, result string, r api.Resource) error {
	c.result = result
	c.w.Header().Set(resultHeader, result)
	return c.answer(status, m.withStatus(r))
}

// one answers GET on a resource.
func (m *Master) one(kind api.Kind) func(*call) error {
	return func(c *call) error {
		if err := m.freshen(c); err != nil {
			return err
		}
		key := api.Key{Kind: kind, Project: c.name("project"), Name: c.name("name")}
		r, ok := m.cache.get(key)
		if !ok {
			return notFound(key)
		}
		return c.answer(http.StatusOK, m.withStatus(r))
	}
}

// notByPeople answers writes of what only the master makes.
func notByPeople(why string) func(*call) error {
	return func(*call) error { return api.Errorf(api.CodeForbidden, "%s", why) }
}

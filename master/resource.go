package master

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/failpoint"
	"gearmesh.dev/master/store"
)

// maxAttempts is how often a write is worked out anew when someone else's came between reading and writing. A caller who
// named a revision is told then.
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

// put answers PUT, which creates or replaces the spec and labels of what is there; and POST on a list, which only creates.
func (m *Master) put(kind api.Kind) func(*call) error {
	return func(c *call) error {
		r, err := c.read(kind)
		if err != nil {
			return err
		}
		dry, err := c.flag(dryRun)
		if err != nil {
			return err
		}
		w, err := m.newWish("", r)
		if err != nil {
			return err
		}
		w.make = c.Method == http.MethodPost
		for range maxAttempts {
			err := m.tryPut(c.Context(), w, c.who.String(), dry)
			if errors.Is(err, store.ErrConflict) {
				continue // what it was worked out from has changed: it is worked out anew, and may be refused now
			}
			if err != nil {
				return err
			}
			return m.written(c, dry, statusOf(string(w.result)), string(w.result), w.next)
		}
		return restless(w.key().String())
	}
}

func (m *Master) tryPut(ctx context.Context, w *wish, by string, dry bool) error {
	b := m.newBatch(m.load)
	b.by = by
	if err := b.take(ctx, w); err != nil {
		return err
	}
	if dry {
		return nil
	}
	record, err := recordOf(w.next, string(w.result))
	if err != nil {
		return err
	}
	return b.store(ctx, record)
}

// restless is the answer when others were quicker at each of several attempts.
func restless(what string) error {
	return api.Errorf(api.CodeConflict, "%s is being changed by others all the time; try again", what)
}

// removeNow is the query parameter that deletes a host at once.
const removeNow = "now"

// remove answers DELETE. An alias and a secret are gone at once; of the others something may run, so they are marked, and
// the controllers end them.
func (m *Master) remove(kind api.Kind) func(*call) error {
	return func(c *call) error {
		key := api.Key{Kind: kind, Project: c.name("project"), Name: c.name("name")}
		c.object = key.String()
		revision, err := c.revision()
		if err != nil {
			return err
		}
		dry, err := c.flag(dryRun)
		if err != nil {
			return err
		}
		now, err := c.flag(removeNow)
		if err != nil {
			return err
		}
		if now {
			c.why = "at once"
		}
		for range maxAttempts {
			gone, err := m.tryRemove(c.Context(), key, revision, now, dry)
			switch {
			case errors.Is(err, store.ErrNotFound):
				return notFound(key)
			case errors.Is(err, store.ErrConflict):
				continue
			case err != nil:
				return err
			}
			return m.written(c, dry, http.StatusOK, resultDeleted, gone)
		}
		return restless(key.String())
	}
}

// revision gives the query parameter of this name.
func (c *call) revision() (int64, error) { return c.number("revision") }

// number reads a query parameter that is a whole number, 0 when it is left out.
func (c *call) number(name string) (int64, error) {
	text := c.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, api.Errorf(api.CodeBadRequest, "%s %.40q is no whole number from 0", name, text)
	}
	return n, nil
}

func (m *Master) tryRemove(ctx context.Context, key api.Key, revision int64, now, dry bool) (api.Resource, error) {
	gone, ops, err := m.removal(ctx, key, revision, now)
	if err != nil || dry {
		return gone, err
	}
	record, err := recordOf(gone, resultDeleted)
	if err != nil {
		return nil, err
	}
	marked := ops[0].Kind == store.Check
	if marked {
		record.Revision = gone.Head().Metadata.Revision
	}
	rev, err := m.commit(ctx, record, ops...)
	if err != nil {
		return nil, err
	}
	if !marked {
		gone.Head().Metadata.Revision = rev
	}
	if key.Kind == api.KindProject {
		return gone, m.removeServices(ctx, key.Name)
	}
	return gone, nil
}

// removal gives a resource as the answer to its deletion has it, and what the deletion writes, its own op first: a check when it
// is on its way out already.
func (m *Master) removal(ctx context.Context, key api.Key, revision int64, now bool) (gone api.Resource, ops []store.Op, err error) {
	gone, err = m.load(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	meta := &gone.Head().Metadata
	if revision != 0 && revision != meta.Revision {
		return nil, nil, api.Errorf(api.CodeConflict, "%s is at revision %d, not %d; look at it again", key, meta.Revision, revision)
	}
	own := store.Op{Kind: store.Put, Key: storeKey(key), If: meta.Revision}
	if meta.Deleting {
		own.Kind = store.Check
	}
	meta.Deleting = true
	if h, ok := gone.(*api.Host); ok && now && !h.Spec.Expelled {
		if m.cache.isMaster(key.Name) {
			return nil, nil, api.Errorf(api.CodeConflict, "%s runs a master, which has the store and the CA's key: take that away first with gear master remove %s; if it was broken into, nothing of the cluster can be trusted any more", key, key.Name)
		}
		h.Spec.Expelled, own.Kind = true, store.Put
		ops = expulsion(key.Name)
	}
	switch key.Kind {
	case api.KindAlias:
		own.Kind = store.Delete
	case api.KindSecret:
		own.Kind, ops, err = store.Delete, []store.Op{erase(sealedKey(key))}, m.inUse(key)
	default:
		own.Value, err = encode(gone)
	}
	return gone, append([]store.Op{own}, ops...), err
}

// removeServices marks all services of a project that is being deleted. No new ones can come:
// insert checks the project. When it ends half-way, the controllers go on.
func (m *Master) removeServices(ctx context.Context, project api.Name) error {
	services := m.cache.list(api.KindService, project)
	for _, s := range services {
		for range maxAttempts {
			_, err := m.tryRemove(ctx, s.Head().Key(), 0, false, false)
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

// written answers a write with the resource as it is now; a dry run, with what it would be but for what only storing gives it.
func (m *Master) written(c *call, dry bool, status int, result string, r api.Resource) error {
	c.result = result
	if dry {
		c.result = dryResult(result)
		if r = bare(r); result == resultCreated {
			r.Head().Metadata.UID, r.Head().Metadata.Created = "", time.Time{}
		}
	}
	c.w.Header().Set(resultHeader, result)
	return c.answer(status, m.withStatus(r))
}

// dryResult is what the audit record says of a call that has done nothing.
func dryResult(result string) string { return "dry run: " + result }

func statusOf(result string) int {
	if result == resultCreated {
		return http.StatusCreated
	}
	return http.StatusOK
}

// one answers GET on a resource.
func (m *Master) one(kind api.Kind) func(*call) error {
	return func(c *call) error {
		v, err := m.freshen(c)
		if err != nil {
			return err
		}
		key := api.Key{Kind: kind, Project: c.name("project"), Name: c.name("name")}
		r, ok := m.cache.get(key)
		if !ok {
			return notFound(key)
		}
		return c.answer(http.StatusOK, m.withStatusOf(v, r))
	}
}

// notByPeople answers writes of what only the master makes.
func notByPeople(why string) func(*call) error {
	return func(*call) error { return api.Errorf(api.CodeForbidden, "%s", why) }
}

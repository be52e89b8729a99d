package master

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/master/store"
)

// wish is a resource as a person wants it, and what a batch has made of it.
type wish struct {
	at   string       // its place in the request, such as resources[3]; "" when it is alone
	want api.Resource // defaults are filled in; of a secret the hashes alone are left
	kept []store.Op   // what is stored beside it
	make bool         // it must not be there yet

	old, next api.Resource // as stored, nil when there is none; and as it will be
	result    api.ApplyResult
}

// newWish takes the values out of a secret.
func (m *Master) newWish(at string, r api.Resource) (*wish, error) {
	kept, err := m.seal(r)
	return &wish{at: at, want: r, kept: kept}, err
}

func (w *wish) key() api.Key { return w.want.Head().Key() }

// revision gives that of what is stored, or store.Absent.
func (w *wish) revision() int64 {
	if w.old == nil {
		return store.Absent
	}
	return w.old.Head().Metadata.Revision
}

// change says what becomes of the resource, and at which revision it is stored before that.
func (w *wish) change() api.ResourceChange {
	k := w.key()
	return api.ResourceChange{Kind: k.Kind, Project: k.Project, Name: k.Name, Result: w.result, Revision: w.revision()}
}

// batch works out what resources become by writes of people, and stores all of it at once or nothing. A PUT and a POST are
// a batch of one, an apply one of many; a plan and a dry run are a batch that is never stored.
type batch struct {
	m        *Master
	stored   loader
	by       string // who writes
	since    int64  // refuse what has changed after this revision; 0 for none
	revision int64  // at which it is stored
	wishes   []*wish
	next     map[api.Key]api.Resource // of the wishes, as they will be
	seen     map[api.Key]api.Resource // what all was worked out from; nil for what is not there
	lists    map[api.Key]int64        // the same for all resources of a kind in a project, and at which revision
}

// loader reads a resource as it is stored; store.ErrNotFound when it is not there.
type loader func(context.Context, api.Key) (api.Resource, error)

func (m *Master) newBatch(stored loader) *batch {
	return &batch{m: m, stored: stored, next: map[api.Key]api.Resource{}, seen: map[api.Key]api.Resource{}, lists: map[api.Key]int64{}}
}

// freshBatch gives a batch over what this master knows, once that is all that any had acknowledged: reading a thousand
// resources one by one from the store would take too long.
func (m *Master) freshBatch(ctx context.Context) (*batch, error) {
	revision, err := m.revisionNow(ctx)
	if err != nil {
		return nil, err
	}
	if err := m.cache.wait(ctx, revision); err != nil {
		return nil, err
	}
	return m.newBatch(func(_ context.Context, k api.Key) (api.Resource, error) {
		if r, ok := m.cache.get(k); ok {
			return r, nil
		}
		return nil, store.ErrNotFound
	}), nil
}

// take takes in all wishes, and gives what is wrong with any of them. After a refusal the batch is of no more use.
func (b *batch) take(ctx context.Context, wishes ...*wish) error {
	var no refusals
	b.wishes = wishes
	for _, w := range wishes {
		if err := no.add(w.at, w.key(), b.foresee(ctx, w)); err != nil {
			return err
		}
	}
	for _, w := range wishes { // each by what all the others will be
		if no.keys[w.key()] || w.result == api.ResultUnchanged {
			continue
		}
		if err := no.add(w.at, w.key(), b.check(ctx, w)); err != nil {
			return err
		}
	}
	return no.err()
}

// load reads a resource as it will be after the batch. What is read twice is read once: the transaction checks that it has
// not changed meanwhile.
func (b *batch) load(ctx context.Context, key api.Key) (api.Resource, error) {
	if r, ok := b.next[key]; ok {
		return r, nil
	}
	r, ok := b.seen[key]
	if !ok {
		var err error
		if r, err = b.stored(ctx, key); err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		b.seen[key] = r
	}
	if r == nil {
		return nil, fmt.Errorf("%s: %w", key, store.ErrNotFound)
	}
	return r, nil
}

// foresee finds what a resource becomes.
func (b *batch) foresee(ctx context.Context, w *wish) error {
	old, err := b.load(ctx, w.key())
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	w.old, w.next, w.result = old, old, api.ResultUnchanged
	if err := b.unchangedSince(w); err != nil {
		return err
	}
	switch {
	case old != nil && w.make:
		return api.Errorf(api.CodeExists, "there is a %s already; PUT replaces it", w.key())
	case old != nil:
		next, changed, err := successor(old, w.want)
		if err != nil {
			return err
		}
		if w.next = next; changed {
			w.result = api.ResultConfigured
		}
	default:
		if err := mayCreate(w.want.Head()); err != nil && !w.make {
			return err
		}
		w.next, w.result = newborn(w.want), api.ResultCreated
	}
	b.next[w.key()] = w.next
	return nil
}

// check refuses what a resource may not become, seen that all others of the batch become what they will.
func (b *batch) check(ctx context.Context, w *wish) error {
	if w.old == nil {
		if err := b.needsProject(ctx, w.next.Head()); err != nil {
			return err
		}
	}
	return b.allowed(ctx, w.old, w.next)
}

// ops gives all that there is to write, and holds in the same transaction that nothing has changed which it was worked
// out from.
func (b *batch) ops() ([]store.Op, error) {
	var out []store.Op
	own := map[api.Key]bool{}
	for _, w := range b.wishes {
		op := store.Op{Kind: store.Check, Key: storeKey(w.key()), If: w.revision()}
		if own[w.key()] = true; w.result != api.ResultUnchanged {
			data, err := encode(w.next)
			if err != nil {
				return nil, err
			}
			op.Kind, op.Value = store.Put, data
			out = append(out, w.kept...)
			if old, ok := w.old.(*api.Service); ok {
				out = append(out, keepOps(old, w.next.(*api.Service), b.by)...)
			}
		}
		out = append(out, op)
	}
	for key, r := range b.seen {
		if !own[key] && r != nil {
			out = append(out, store.Op{Kind: store.Check, Key: storeKey(key), If: r.Head().Metadata.Revision})
		}
	}
	for key, revision := range b.lists { // without a name it is the prefix of all
		out = append(out, store.Op{Kind: store.CheckAll, Key: storeKey(key), If: revision})
	}
	return out, nil
}

// store writes the batch, and notes at which revision what has changed is stored now.
func (b *batch) store(ctx context.Context, record onceRecord) error {
	ops, err := b.ops()
	if err != nil {
		return err
	}
	b.revision, err = b.m.commit(ctx, record, ops...)
	for _, w := range b.wishes {
		if err == nil && w.result != api.ResultUnchanged {
			w.next.Head().Metadata.Revision = b.revision
		}
	}
	return err
}

// unchangedSince refuses a resource that others have changed or deleted after the revision that the caller has looked at.
func (b *batch) unchangedSince(w *wish) error {
	if b.since == 0 {
		return nil
	}
	const next = "; look at the plan again (gear plan)"
	if w.old != nil {
		if at := w.revision(); at > b.since {
			return api.Errorf(api.CodeConflict, "%s has been changed since revision %d, at revision %d%s", w.key(), b.since, at, next)
		}
		return nil
	}
	gone, known := b.m.cache.goneAfter(w.key(), b.since)
	switch {
	case gone:
		return api.Errorf(api.CodeConflict, "%s has been deleted since revision %d%s", w.key(), b.since, next)
	case !known:
		return api.Errorf(api.CodeConflict, "whether %s has been deleted since revision %d is not known any more%s", w.key(), b.since, next)
	}
	return nil
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
	if h, ok := next.(*api.Host); ok {
		was := old.(*api.Host)
		h.Spec.Expelled = was.Spec.Expelled
		if !h.Spec.Address.IsValid() {
			h.Spec.Address = was.Spec.Address
		}
	}
	if s, ok := next.(*api.Service); ok {
		if s.Spec.Restarted.IsZero() { // no manifest has it; an apply is no second restart
			s.Spec.Restarted = old.(*api.Service).Spec.Restarted
		}
		if err := succeed(old.(*api.Service), s); err != nil {
			return nil, false, err
		}
	}
	before, err := encode(old)
	if err != nil {
		return nil, false, err
	}
	after, err := encode(next)
	return next, !bytes.Equal(before, after), err
}

// newborn gives a resource as it is first stored.
func newborn(r api.Resource) api.Resource {
	r = bare(r)
	m := &r.Head().Metadata
	*m = api.Metadata{Name: m.Name, Project: m.Project, Labels: m.Labels, UID: pki.NewUID(), Created: time.Now().UTC().Truncate(time.Millisecond)}
	if r.Head().Kind == api.KindService {
		m.Generation = 1
	}
	return r
}

// needsProject refuses a new resource whose project is not there, or is on its way out.
func (b *batch) needsProject(ctx context.Context, h *api.Header) error {
	if !h.Kind.InProject() {
		return nil
	}
	key := api.Key{Kind: api.KindProject, Name: h.Metadata.Project}
	p, err := b.load(ctx, key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return api.Invalid(h.Key().String(), []api.Fault{{Field: "metadata.project",
			Message: "there is no " + key.String() + "; apply a manifest with kind Project first"}})
	case err != nil:
		return err
	case p.Head().Metadata.Deleting:
		return api.Errorf(api.CodeConflict, "%s is being deleted; wait until it is gone", key)
	}
	return nil
}

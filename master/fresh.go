package master

import (
	"context"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
)

// freshen gives the view to answer a read from. With ?fresh=1 it has all that any master had acknowledged when it was asked.
func (m *Master) freshen(c *call) (*view, error) {
	fresh, err := c.flag("fresh")
	if err != nil {
		return nil, err
	}
	if !fresh {
		return m.views.recent(m.term()), nil
	}
	ctx, cancel := context.WithTimeout(c.Context(), answerTime)
	defer cancel()
	revision, err := m.revisionNow(ctx)
	if err != nil {
		return nil, err
	}
	if err := m.cache.wait(ctx, revision); err != nil {
		return nil, err
	}
	return m.views.current(m.term()), nil
}

// revisionNow gives a revision that is not older than anything acknowledged, and that the cache will reach. Where
// others write into the same etcd its revision may be of something that this master's watch never sees: there a
// write of our own gives it.
func (m *Master) revisionNow(ctx context.Context) (int64, error) {
	if m.cluster == nil {
		return m.store.Txn(ctx, store.Op{Key: freshKey, If: store.Any})
	}
	_, revision, err := m.store.List(ctx, freshKey+"/") // nothing is there; the list's revision counts
	return revision, err
}

// flag reads a query parameter that is 1, or 0 or left out.
func (c *call) flag(name string) (bool, error) {
	switch v := c.URL.Query().Get(name); v {
	case "", "0":
		return false, nil
	case "1":
		return true, nil
	default:
		return false, api.Errorf(api.CodeBadRequest, "%s=%.20q is neither 0 nor 1", name, v)
	}
}

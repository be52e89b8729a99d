package master

import (
	"context"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
)

// freshen makes a read with ?fresh=1 wait until this master has all that any master had acknowledged when it was asked.
func (m *Master) freshen(c *call) error {
	switch v := c.URL.Query().Get("fresh"); v {
	case "", "0":
		return nil
	case "1":
	default:
		return api.Errorf(api.CodeBadRequest, "fresh=%.20q is neither 0 nor 1", v)
	}
	ctx, cancel := context.WithTimeout(c.Context(), answerTime)
	defer cancel()
	revision, err := m.revisionNow(ctx)
	if err != nil {
		return err
	}
	return m.cache.wait(ctx, revision)
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

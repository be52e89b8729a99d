package master

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
)

// onceHeader names a request: however often it is sent, and to whichever master, it has one effect and one answer
// (draft-ietf-httpapi-idempotency-key-header). The promise is kept in the store, in the transaction of the effect itself.
const onceHeader = "Idempotency-Key"

// onceLife is how long a request is remembered.
const onceLife = time.Hour

// maxOnceKey bounds a key, in bytes.
const maxOnceKey = 128

// onceRecord is a request that was carried out.
type onceRecord struct {
	Request  string          `json:"request"` // hash of what was asked
	Status   int             `json:"status"`
	Result   string          `json:"result"`
	Kind     api.Kind        `json:"kind,omitempty"`
	Object   json.RawMessage `json:"object,omitempty"`   // as encode gives it
	Revision int64           `json:"revision,omitempty"` // of the object; 0: the record's own, they were written together
	// Applied is what an apply did, instead of an object; what has no revision was written together with the record.
	Applied []api.ResourceChange `json:"applied,omitempty"`
	Made    time.Time            `json:"made"`
}

// recordOf notes what a request does to a resource.
func recordOf(r api.Resource, result string) (onceRecord, error) {
	object, err := encode(r)
	record := onceRecord{Status: statusOf(result), Result: result, Kind: r.Head().Kind, Object: object}
	if result == resultUnchanged {
		record.Revision = r.Head().Metadata.Revision
	}
	return record, err
}

// onceCall is a request with a key, on its way.
type onceCall struct{ key, request string }

type onceContext struct{}

// doneBefore says that a request with this key has been carried out meanwhile.
type doneBefore struct {
	record onceRecord
	item   store.Item
}

func (*doneBefore) Error() string { return "a request with this key has been carried out" }

// once makes a handler keep the promise of onceHeader.
func (m *Master) once(handle func(*call) error) func(*call) error {
	return func(c *call) error {
		o, err := c.onceCall()
		if err != nil {
			return err
		}
		if o == nil {
			return handle(c)
		}
		done, err := m.doneBefore(c.Context(), o)
		if err == nil && done == nil {
			c.Request = c.WithContext(context.WithValue(c.Context(), onceContext{}, o))
			err = handle(c)
			done = m.overtaken(c, o, err)
		}
		if done == nil {
			return err
		}
		return m.replay(c, o, done)
	}
}

// overtaken gives what became of the same request by another master, or in another connection, while this one was on
// its way. That may have been told by the store; or the request was refused for what the other has just done, such as
// deleting what it was to delete.
func (m *Master) overtaken(c *call, o *onceCall, err error) (done *doneBefore) {
	if err == nil || errors.As(err, &done) {
		return done
	}
	done, getErr := m.doneBefore(c.Context(), o)
	if getErr != nil {
		return nil // the request's own error says more
	}
	return done
}

// onceCall reads the header; nil without one.
func (c *call) onceCall() (*onceCall, error) {
	key := c.Header.Get(onceHeader)
	if key == "" {
		return nil, nil
	}
	ok := len(key) <= maxOnceKey && len(c.Header.Values(onceHeader)) == 1
	for i := range len(key) {
		ok = ok && key[i] > ' ' && key[i] <= '~'
	}
	if !ok {
		return nil, api.Errorf(api.CodeBadRequest, "%s must be given once, as 1 to %d visible ASCII characters; a UUID is good", onceHeader, maxOnceKey)
	}
	// The key, which is stored nowhere, is in the hash of the request too: nobody who reads the store can guess what a body said.
	return &onceCall{key: oncePrefix + digest(c.who.String(), key), request: digest(key, c.Method, c.URL.RequestURI(), string(c.body))}, nil
}

// digest gives a hash of texts in their order.
func digest(texts ...string) string {
	h := sha256.New()
	for _, t := range texts {
		fmt.Fprintf(h, "%d %s\n", len(t), t)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// doneBefore gives what became of a request earlier; nil when it was never carried out.
func (m *Master) doneBefore(ctx context.Context, o *onceCall) (*doneBefore, error) {
	it, err := m.store.Get(ctx, o.key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d := &doneBefore{item: it}
	if err := json.Unmarshal(it.Value, &d.record); err != nil {
		return nil, fmt.Errorf("reading %q from the store: %w", it.Key, err)
	}
	return d, nil
}

// replay answers as the first time, but for what of a status has changed since.
func (m *Master) replay(c *call, o *onceCall, d *doneBefore) error {
	if d.record.Request != o.request {
		return api.Errorf(api.CodeConflict, "this %s was used for another request; take a new one", onceHeader)
	}
	if d.record.Applied != nil {
		return answerApplied(c, d.record.Applied, d.item.Revision, false)
	}
	it := store.Item{Key: d.item.Key, Value: d.record.Object, Revision: d.record.Revision}
	if it.Revision == 0 {
		it.Revision = d.item.Revision
	}
	r, err := decode(d.record.Kind, it)
	if err != nil {
		return err
	}
	c.object = r.Head().Key().String()
	return m.written(c, false, d.record.Status, d.record.Result, r)
}

// commit writes what a request does, and with it that the request was carried out: sent again later it must not find something
// to do, also when it has found nothing now. It gives the revision, and 0 when there was nothing to write.
func (m *Master) commit(ctx context.Context, record onceRecord, ops ...store.Op) (int64, error) {
	o, ok := ctx.Value(onceContext{}).(*onceCall)
	if !ok && !slices.ContainsFunc(ops, func(op store.Op) bool { return op.Kind != store.Check }) {
		return 0, nil
	}
	if !ok {
		return m.txn(ctx, ops...)
	}
	record.Request, record.Made = o.request, time.Now().UTC()
	data, err := json.Marshal(record)
	if err != nil {
		return 0, err
	}
	rev, err := m.txn(ctx, append(ops, store.Op{Key: o.key, Value: data, If: store.Absent})...)
	if errors.Is(err, store.ErrConflict) { // the same request may have come twice at once
		done, getErr := m.doneBefore(ctx, o)
		if getErr != nil {
			return 0, getErr
		}
		if done != nil {
			return 0, done
		}
	}
	return rev, err
}

// sweepOnce forgets old requests.
func (m *Master) sweepOnce(ctx context.Context) {
	items, _, err := m.store.List(ctx, oncePrefix)
	for _, it := range items {
		var r onceRecord
		if json.Unmarshal(it.Value, &r) == nil && time.Since(r.Made) < onceLife {
			continue
		}
		if _, txnErr := m.store.Txn(ctx, store.Op{Kind: store.Delete, Key: it.Key, If: it.Revision}); txnErr != nil {
			err = txnErr
		}
	}
	if err != nil {
		m.log.Warn("sweeping old requests", "error", err)
	}
}

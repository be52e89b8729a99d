package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"gearmesh.dev/api"
)

// WatchOptions says what to watch.
type WatchOptions struct {
	Kinds   []api.Kind // all when empty
	Project api.Name   // only of this project; of all when empty
	// Selector chooses by labels (api.ParseSelector). What loses the labels comes as a deletion.
	Selector string
	// Revision is what to watch from, as a list gave it. With 0 the watch first gives what is
	// there and then an api.EventSync.
	Revision int64
}

// Event is a change of a resource, or the end of what was there (api.EventSync, without Object).
type Event struct {
	Type     api.EventType
	Revision int64
	Object   api.Resource // of a deletion, as it was; at least its kind and metadata names
}

// Watch gives changes as they come, until the context ends or the caller stops. A lost connection
// is taken up again where it was lost, so an event may come twice, but none is missed. Each such
// loss is given as an error with no event; a caller that goes on gets the events that follow.
// The sequence ends by itself only after an error that another attempt would not mend.
//
// When the master no longer keeps the changes since then, a watch from revision 0 lists again by
// itself: it gives everything that is there, deletions of what is not, and another api.EventSync.
// One that started from another revision ends with the *api.Error of api.CodeGone: list again.
func (c *Client) Watch(ctx context.Context, o WatchOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		w := watcher{client: c, WatchOptions: o, at: o.Revision, before: o.Revision, known: map[api.Key]bool{}}
		var wait backoff
		for ctx.Err() == nil {
			more, progress := w.connect(ctx, yield)
			if progress {
				wait.reset()
			}
			if !more || !pause(ctx, wait.next()) {
				return
			}
		}
	}
}

// watcher is a watch over its connections.
type watcher struct {
	client *Client
	WatchOptions
	// at is the revision of the last event, before the one of the last event that was older than
	// that. Several events can share a revision, so it goes on after before, lest one be missed.
	at, before int64
	known      map[api.Key]bool // given and not deleted, in a watch from revision 0
	listed     map[api.Key]bool // given since the connection began; nil when it does not list
}

// line is one line of the stream.
type line struct {
	Type     api.EventType   `json:"type"`
	Revision int64           `json:"revision"`
	Object   json.RawMessage `json:"object"`
	Error    *api.Error      `json:"error"`
}

// eventError is the type of the last line of a stream that the master ends.
const eventError api.EventType = "error"

// connect gives the events of one connection. more is false when the watch is over.
func (w *watcher) connect(ctx context.Context, yield func(Event, error) bool) (more, progress bool) {
	w.listed = nil
	if w.before == 0 {
		w.listed = map[api.Key]bool{}
	}
	server := w.client.servers.now()
	for l, err := range decoded[line](ctx, w.client, w.request(), nil) {
		if err == nil && l.Type == eventError && l.Error != nil {
			err = l.Error
		}
		if err != nil {
			w.client.elsewhere(server, unplain(err))
			return w.lost(ctx, err, yield), progress
		}
		progress = true
		if err := w.give(l, yield); err != nil {
			if !errors.Is(err, errStopped) {
				yield(Event{}, err)
			}
			return false, progress
		}
	}
	return ctx.Err() == nil, progress // a master that stops ends its streams
}

func (w *watcher) request() request {
	q := url.Values{}
	if len(w.Kinds) > 0 {
		words := make([]string, len(w.Kinds))
		for i, k := range w.Kinds {
			words[i] = plural(k)
		}
		q.Set("kinds", strings.Join(words, ","))
	}
	if w.Project != "" {
		q.Set("project", string(w.Project))
	}
	if w.Selector != "" {
		q.Set("selector", w.Selector)
	}
	if w.before != 0 {
		q.Set("revision", strconv.FormatInt(w.before, 10))
	}
	return request{method: http.MethodGet, path: []string{"v1", "watch"}, query: q}
}

// lost judges the end of a connection and tells whether to connect again.
func (w *watcher) lost(ctx context.Context, err error, yield func(Event, error) bool) bool {
	if ctx.Err() != nil {
		return false
	}
	var e *api.Error
	var connect *ConnectError
	switch {
	case errors.As(err, &e) && e.Code == api.CodeGone && w.Revision == 0:
		w.at, w.before = 0, 0
		return true
	case errors.As(err, &e) && e.Code != api.CodeUnavailable && e.Code != api.CodeRateLimited,
		errors.As(err, &connect) && connect.permanent():
		yield(Event{}, err)
		return false
	}
	return yield(Event{}, err)
}

// errStopped says that the caller wants no more.
var errStopped = errors.New("stopped")

// give passes a line on.
func (w *watcher) give(l line, yield func(Event, error) bool) error {
	if l.Type == api.EventSync {
		return w.sync(l, yield)
	}
	object, err := resourceOf(l.Object)
	if err != nil {
		return &ConnectError{Server: w.client.Server(), Err: err}
	}
	key := object.Head().Key()
	if w.listed != nil {
		w.listed[key] = true
	} else {
		w.passed(l.Revision)
	}
	switch {
	case w.Revision != 0: // what is there cannot be known
	case l.Type == api.EventDelete && !w.known[key]:
		return nil // it never had the labels that are asked for
	case l.Type == api.EventDelete:
		delete(w.known, key)
	default:
		w.known[key] = true
	}
	if !yield(Event{l.Type, l.Revision, object}, nil) {
		return errStopped
	}
	return nil
}

// passed notes how far the events have come.
func (w *watcher) passed(revision int64) {
	if revision > w.at {
		w.before, w.at = w.at, revision
	}
}

// sync ends a listing: what was there before and is no more has been deleted meanwhile.
func (w *watcher) sync(l line, yield func(Event, error) bool) error {
	if w.listed != nil {
		for _, key := range sortedKeys(w.known) {
			if w.listed[key] {
				continue
			}
			delete(w.known, key)
			if !yield(Event{api.EventDelete, l.Revision, named(key)}, nil) {
				return errStopped
			}
		}
	}
	w.listed, w.at, w.before = nil, l.Revision, l.Revision
	if !yield(Event{Type: api.EventSync, Revision: l.Revision}, nil) {
		return errStopped
	}
	return nil
}

func sortedKeys(m map[api.Key]bool) []api.Key {
	return slices.SortedFunc(maps.Keys(m), func(a, b api.Key) int { return strings.Compare(a.String(), b.String()) })
}

// named gives a resource of which only the key is known.
func named(key api.Key) api.Resource {
	r := api.New(key.Kind)
	r.Head().Metadata.Project, r.Head().Metadata.Name = key.Project, key.Name
	return r
}

// resourceOf decodes a resource of any kind.
func resourceOf(data []byte) (api.Resource, error) {
	var head struct {
		Kind api.Kind `json:"kind"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, &answerError{fmt.Sprintf("its stream has the object %.60q", data), false, err}
	}
	r := api.New(head.Kind)
	if r == nil {
		return nil, &answerError{what: fmt.Sprintf("its stream has an object of kind %.40q, which this client does not know", head.Kind)}
	}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, &answerError{"its stream has an object that cannot be read", false, err}
	}
	return r, nil
}

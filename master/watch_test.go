package master

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/memory"
)

// line is an event as a client reads it.
type line struct {
	Type     api.EventType
	Revision int64
	Object   struct {
		api.Header
		Status struct {
			Pods   int
			State  api.HostState
			Phase  api.Phase
			Active bool
		}
	}
	Error *api.Error
}

func (l line) String() string { return fmt.Sprintf("%s %s", l.Type, l.Object.Key()) }

// await reads until a wanted event, and gives it.
func (l *lines) await(want func(line) bool) line {
	l.t.Helper()
	for {
		var e line
		if !l.next(&e) {
			l.t.Fatal("the watch ended")
		}
		if want(e) {
			return e
		}
	}
}

func TestWatchFromTheBeginning(t *testing.T) {
	c := startCluster(t)
	ann := c.ann()
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	ann.must("PUT", "/v1/projects/other", project("other"), http.StatusCreated)
	w := ann.stream("/v1/watch?kinds=projects,services&project=shop")
	var first, sync line
	if !w.next(&first) || !w.next(&sync) || first.String() != "put project shop" || sync.Type != api.EventSync || sync.Revision == 0 {
		t.Fatalf("got %v, %+v", first, sync)
	}
	ann.must("PUT", "/v1/projects/other/services/web", web("other", "web"), http.StatusCreated)
	ann.must("PUT", "/v1/projects/shop/services/web", web("shop", "web"), http.StatusCreated)
	put := w.await(func(line) bool { return true })
	if put.String() != "put service shop/web" || put.Revision <= sync.Revision {
		t.Errorf("got %v at %d", put, put.Revision)
	}
	w.await(func(l line) bool { return l.Object.Kind == api.KindService && l.Object.Status.Pods == 1 })
	ann.must("DELETE", "/v1/projects/shop", nil, http.StatusOK)
	w.await(func(l line) bool { return l.String() == "delete service shop/web" })
	w.await(func(l line) bool { return l.String() == "delete project shop" })
}

func TestWatchFromARevision(t *testing.T) {
	s := memory.New()
	if _, err := s.Txn(t.Context(), store.Op{Key: healthKey, Value: []byte("{}")}); err != nil { // before the master's time
		t.Fatal(err)
	}
	c := startOver(t, s)
	ann := c.ann()
	first := read[api.Project](t, ann.must("PUT", "/v1/projects/a", project("a"), http.StatusCreated))
	ann.must("PUT", "/v1/projects/b", project("b"), http.StatusCreated)
	w := ann.stream(fmt.Sprintf("/v1/watch?kinds=projects&revision=%d", first.Metadata.Revision))
	if e := w.await(func(line) bool { return true }); e.String() != "put project b" {
		t.Errorf("got %v", e)
	}
	list := read[api.List[api.Project]](t, ann.must("GET", "/v1/projects", nil, http.StatusOK))
	w = ann.stream(fmt.Sprintf("/v1/watch?kinds=projects&revision=%d", list.Revision))
	ann.must("PUT", "/v1/projects/c", project("c"), http.StatusCreated)
	if e := w.await(func(line) bool { return true }); e.String() != "put project c" {
		t.Errorf("got %v", e)
	}
	for _, revision := range []int64{1, list.Revision + 1000} {
		e := ann.must("GET", fmt.Sprintf("/v1/watch?revision=%d", revision), nil, http.StatusGone).problem(t)
		if e.Code != api.CodeGone {
			t.Errorf("revision %d: %+v", revision, e)
		}
	}
}

func TestASlowReaderIsTold(t *testing.T) {
	c := newCache()
	if err := c.fill(nil, 1); err != nil {
		t.Fatal(err)
	}
	_, seq, _ := c.all(func(api.Key) bool { return true })
	key := api.Key{Kind: api.KindProject, Name: "a"}
	c.objects[api.KindProject][key] = project("a")
	for range 3 * historyLen {
		c.touch([]api.Key{key})
	}
	if _, _, ok := c.since(seq); ok {
		t.Error("the history reaches back for ever")
	}
	if len(c.history) > 2*historyLen {
		t.Errorf("%d changes are kept", len(c.history))
	}
	if changes, _, ok := c.since(c.lastSeq - historyLen); !ok || len(changes) != historyLen {
		t.Errorf("a reader %d behind is dropped", historyLen)
	}
}

// deadlines is a client that notes the server's time limits for it.
type deadlines struct {
	httptest.ResponseRecorder
	write []time.Time
}

func (d *deadlines) SetReadDeadline(time.Time) error { return nil }

func (d *deadlines) SetWriteDeadline(t time.Time) error {
	d.write = append(d.write, t)
	return nil
}

// A line must be read in time, but between lines a stream may be silent: in HTTP/2 a deadline that
// is left standing ends it.
func TestStreamsHaveNoDeadlineBetweenLines(t *testing.T) {
	d := &deadlines{}
	c := &call{Request: httptest.NewRequest(http.MethodGet, "/", nil), w: d}
	done := c.openStream()
	if err := c.send("x"); err != nil {
		t.Fatal(err)
	}
	if len(d.write) != 3 || !d.write[0].IsZero() || d.write[1].IsZero() || !d.write[2].IsZero() {
		t.Errorf("deadlines %v", d.write)
	}
	if done(); d.write[3].IsZero() {
		t.Error("the end of a stream has no deadline")
	}
}

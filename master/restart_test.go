package master

import (
	"context"
	"net/http"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/memory"
)

// TestAnotherMasterTakesOver: what one master has stored, the next one leads on.
func TestAnotherMasterTakesOver(t *testing.T) {
	s := memory.New()
	first := startOver(t, s)
	ann := first.ann()
	ann.must("PUT", "/v1/projects/shop", project("shop"), http.StatusCreated)
	ann.must("PUT", "/v1/projects/shop/services/web", web("shop", "web"), http.StatusCreated)
	first.until("a pod", func() bool {
		return len(read[api.List[api.Pod]](t, ann.must("GET", "/v1/pods", nil, http.StatusOK)).Items) == 1
	})
	old := *first.m.lead.Load()
	old.Resign()
	next, err := s.Campaign(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	if next.Term <= old.Term {
		t.Errorf("term %d after %d", next.Term, old.Term)
	}
	first.until("the end of its leadership", func() bool { return first.m.term() == 0 })
	next.Resign()
	first.until("its leadership again", func() bool { return first.m.term() > next.Term })
}

// TestAFullReadAfterCompaction: a watch that lost its place reads all anew, and clients are told.
func TestAFullReadAfterCompaction(t *testing.T) {
	s := &lossy{Store: memory.New(), lose: make(chan struct{})}
	c := startOver(t, s)
	ann := c.ann()
	first := read[api.Project](t, ann.must("PUT", "/v1/projects/a", project("a"), http.StatusCreated))
	w := ann.stream("/v1/watch?kinds=projects")
	w.await(func(l line) bool { return l.Type == api.EventSync })
	s.lose <- struct{}{}
	last := w.await(func(l line) bool { return l.Type == eventError })
	if last.Error == nil || last.Error.Code != api.CodeGone {
		t.Errorf("the last line is %+v", last)
	}
	var more line
	if w.next(&more) {
		t.Errorf("the watch goes on with %v", more)
	}
	ann.must("PUT", "/v1/projects/b", project("b"), http.StatusCreated)
	got := read[api.Project](t, ann.must("GET", "/v1/projects/a", nil, http.StatusOK))
	if got.Metadata.UID != first.Metadata.UID {
		t.Errorf("got %+v", got)
	}
}

// lossy is a store whose watch can be made to lose its place.
type lossy struct {
	*memory.Store
	lose chan struct{}
}

func (s *lossy) Watch(ctx context.Context, prefix string, after int64) <-chan store.Batch {
	out := make(chan store.Batch)
	go func() {
		defer close(out)
		in := s.Store.Watch(ctx, prefix, after)
		for {
			var b store.Batch
			ok := true
			select {
			case b, ok = <-in:
			case <-s.lose:
				b.Err = store.ErrCompacted
			}
			if !ok {
				return
			}
			select {
			case out <- b:
			case <-ctx.Done():
				return
			}
			if b.Err != nil {
				return
			}
		}
	}()
	return out
}

package master

import (
	"net/http"
	"strings"

	"gearmesh.dev/api"
)

// event is one line of a watch.
type event struct {
	Type     api.EventType `json:"type"`
	Revision int64         `json:"revision"`
	Object   api.Resource  `json:"object,omitempty"`
	Error    *api.Error    `json:"error,omitempty" doc:"Only on the last line of a watch that the master ends"`
}

// eventError is the type of the last line of a watch that the master ends.
const eventError api.EventType = "error"

// filter is what a watch asks for.
type filter struct {
	kinds    map[api.Kind]bool
	project  api.Name
	selector api.Selector
}

func (f filter) has(k api.Key) bool {
	switch {
	case !f.kinds[k.Kind]:
		return false
	case f.project == "":
		return true
	case k.Kind == api.KindProject:
		return k.Name == f.project
	}
	return k.Project == f.project
}

// watch answers GET /v1/watch. A reader takes changes from the cache's history at its own pace:
// nothing is kept for it, and one that falls behind the history is told so and dropped.
func (m *Master) watch(c *call) error {
	want, err := c.filter()
	if err != nil {
		return err
	}
	revision, err := c.revision()
	if err != nil {
		return err
	}
	seq, ok := m.cache.place(revision)
	switch {
	case revision == 0:
		if seq, ok = m.sendAll(c, want); !ok {
			return nil
		}
	case !ok:
		return api.Errorf(api.CodeGone, "revision %d is not kept; list again and watch from there", revision)
	default:
		c.w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(c.w).Flush()
	}
	m.follow(c, want, seq)
	return nil
}

// sendAll sends what is there and then the sync event. It is not ok when the client has gone.
func (m *Master) sendAll(c *call, want filter) (seq int64, ok bool) {
	found, seq, revision := m.cache.all(want.has)
	for _, r := range selected(found, want.selector) {
		r = m.withStatus(r)
		if err := c.send(event{Type: api.EventPut, Revision: r.Head().Metadata.Revision, Object: r}); err != nil {
			return 0, false
		}
	}
	return seq, c.send(event{Type: api.EventSync, Revision: revision}) == nil
}

// follow sends changes until the client or the master goes.
func (m *Master) follow(c *call, want filter, seq int64) {
	m.watches.Add(1)
	defer m.watches.Add(-1)
	m.notice.Wake() // what nobody has looked for
	for {
		changes, more, ok := m.cache.since(seq)
		if !ok {
			_ = c.send(event{Type: eventError, Error: api.Errorf(api.CodeGone, "the reader is too slow for the changes, or the master has started anew; list again and watch from there")})
			return
		}
		for _, ch := range changes {
			seq = ch.Seq
			if want.has(ch.Key) && m.sendChange(c, want, ch) != nil {
				return
			}
		}
		select {
		case <-more:
		case <-c.Context().Done():
			return
		case <-m.stopping:
			return
		}
	}
}

// sendChange sends a change. What has lost the labels that the watch asks for is gone for it; a client that never heard of it
// can pass that over.
func (m *Master) sendChange(c *call, want filter, ch change) error {
	if ch.Deleted || !want.selector.Matches(ch.Object) {
		return c.send(event{Type: api.EventDelete, Revision: ch.Revision, Object: ch.Object})
	}
	return c.send(event{Type: api.EventPut, Revision: ch.Revision, Object: m.withStatus(ch.Object)})
}

// filter reads the query of a watch.
func (c *call) filter() (filter, error) {
	q := c.URL.Query()
	f := filter{kinds: map[api.Kind]bool{}, project: api.Name(q.Get("project"))}
	if f.project != "" {
		if err := f.project.Validate(); err != nil {
			return f, api.Errorf(api.CodeBadRequest, "project: %v", err)
		}
	}
	var err error
	if f.selector, err = api.ParseSelector(q.Get("selector")); err != nil {
		return f, api.Errorf(api.CodeBadRequest, "selector: %v", err)
	}
	if q.Get("kinds") == "" {
		for _, k := range api.Kinds() {
			f.kinds[k] = true
		}
		return f, nil
	}
	for word := range strings.SplitSeq(q.Get("kinds"), ",") {
		kind, ok := kindOfPlural(word)
		if !ok {
			return f, api.Errorf(api.CodeBadRequest, "kinds: %.40q is not known; write some of projects,hosts,secrets,services,aliases,pods", word)
		}
		f.kinds[kind] = true
	}
	return f, nil
}

// plural gives a kind as it stands in paths.
func plural(k api.Kind) string {
	if k == api.KindAlias {
		return "aliases"
	}
	return kindWord(k) + "s"
}

func kindOfPlural(word string) (api.Kind, bool) {
	for _, k := range api.Kinds() {
		if plural(k) == word {
			return k, true
		}
	}
	return "", false
}

package master

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
)

const selectorDoc = "only what has these labels: terms parted by commas, each LABEL=VALUE, LABEL!=VALUE, LABEL or !LABEL"

// listQuery gives the query parameters of lists.
func listQuery() []queryParam {
	return []queryParam{{"selector", selectorDoc},
		{"limit", "at most this many items, 1 to 10000; the answer's continue asks for the next page"},
		{"continue", "the next page of a list, as the page before said; all pages are of one revision"}}
}

// list answers GET on a list. In a project that does not exist there is nothing to list.
func (m *Master) list(kind api.Kind) func(*call) error {
	return func(c *call) error {
		v, err := m.freshen(c)
		if err != nil {
			return err
		}
		project := c.name("project")
		if key := (api.Key{Kind: api.KindProject, Name: project}); project != "" && !m.cache.has(key) {
			return notFound(key)
		}
		q, err := c.listRequest()
		if err != nil {
			return err
		}
		q.kind, q.project = kind, project
		all, from, err := m.listing(q)
		if err != nil {
			return err
		}
		items, next := all.page(from, q.limit)
		out := api.List[api.Resource]{Revision: all.revision, Items: make([]api.Resource, len(items)), Remaining: len(all.items) - from - len(items)}
		for i, r := range items {
			out.Items[i] = m.withStatusOf(v, r)
		}
		if out.Remaining > 0 {
			out.Continue = m.pages.keep(all, next, time.Now())
		}
		return c.answer(http.StatusOK, out)
	}
}

// listing gives what a request is about, and the place to begin at.
func (m *Master) listing(q listRequest) (*listing, int, error) {
	if q.page == "" {
		found, revision := m.cache.listAt(q.kind, q.project)
		return &listing{listKey: q.listKey, revision: revision, items: selected(found, q.selector)}, 0, nil
	}
	all, from, ok := m.pages.find(q.page, time.Now())
	switch {
	case !ok:
		return nil, 0, api.Errorf(api.CodeGone, "this list is not kept any more; begin again without continue")
	case all.listKey != q.listKey:
		return nil, 0, api.Errorf(api.CodeBadRequest, "continue belongs to another list; give the same path and selector as for its first page")
	}
	return all, from, nil
}

// listKey names a list but for the time at which it was made.
type listKey struct {
	kind     api.Kind
	project  api.Name
	selector string
}

// listRequest is what a caller asks of a list.
type listRequest struct {
	listKey
	selector api.Selector
	limit    int // 0 for all
	page     string
}

const maxLimit = 10_000

func (c *call) listRequest() (listRequest, error) {
	query := c.URL.Query()
	q := listRequest{page: query.Get("continue")}
	q.listKey.selector = query.Get("selector")
	var err error
	if q.selector, err = api.ParseSelector(q.listKey.selector); err != nil {
		return q, api.Errorf(api.CodeBadRequest, "selector: %v", err)
	}
	if text := query.Get("limit"); text != "" {
		if q.limit, err = strconv.Atoi(text); err != nil || q.limit < 1 || q.limit > maxLimit {
			return q, api.Errorf(api.CodeBadRequest, "limit %.40q is no whole number from 1 to %d", text, maxLimit)
		}
	}
	return q, nil
}

func selected(all []api.Resource, s api.Selector) []api.Resource {
	if len(s) == 0 {
		return all
	}
	var out []api.Resource
	for _, r := range all {
		if s.Matches(r) {
			out = append(out, r)
		}
	}
	return out
}

// listing is a list as it was at one revision. Resources never change in place, so it holds no more than pointers.
type listing struct {
	listKey
	revision int64
	items    []api.Resource
	used     time.Time
}

// page gives the items from a place on, and the place after them.
func (l *listing) page(from, limit int) ([]api.Resource, int) {
	to := len(l.items)
	if limit > 0 {
		to = min(to, from+limit)
	}
	return l.items[from:to], to
}

// How many lists are kept for callers that have not read them to the end, and how long.
const (
	maxListings = 256
	listingLife = 2 * time.Minute
)

// pages keeps lists whose next pages may be asked for. What is asked for again is never too long ago: a list that is forgotten
// is read anew.
type pages struct {
	mu   sync.Mutex
	kept map[string]*listing // by id
	ids  map[*listing]string
}

// keep keeps a list, and gives the word that asks for its items from a place on.
func (p *pages) keep(l *listing, from int, now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept == nil {
		p.kept, p.ids = map[string]*listing{}, map[*listing]string{}
	}
	l.used = now
	id, ok := p.ids[l]
	if !ok {
		p.makeRoomLocked(now)
		id = string(pki.NewUID())
		p.kept[id], p.ids[l] = l, id
	}
	return fmt.Sprintf("%s.%d", id, from)
}

// makeRoomLocked forgets what is too old, and if that is not enough the list that was asked for longest ago.
func (p *pages) makeRoomLocked(now time.Time) {
	var oldest string
	for id, l := range p.kept {
		if now.Sub(l.used) > listingLife {
			p.forgetLocked(id)
		} else if oldest == "" || l.used.Before(p.kept[oldest].used) {
			oldest = id
		}
	}
	if len(p.kept) >= maxListings {
		p.forgetLocked(oldest)
	}
}

func (p *pages) forgetLocked(id string) {
	delete(p.ids, p.kept[id])
	delete(p.kept, id)
}

// find gives a list that was kept, and the place in it.
func (p *pages) find(word string, now time.Time) (*listing, int, bool) {
	id, place, _ := strings.Cut(word, ".")
	from, err := strconv.Atoi(place)
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.kept[id]
	if err != nil || l == nil || from < 0 || from > len(l.items) || now.Sub(l.used) > listingLife {
		return nil, 0, false
	}
	l.used = now
	return l, from, true
}

package master

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/control"
	"gearmesh.dev/master/store"
)

// What happened to resources: written by the leader in the transaction of the deed, kept for a while, read by people.

const (
	// eventPrefix is where events are stored: of each resource one for each reason, so that what goes on and on takes no more room.
	eventPrefix = "event/"
	eventLife   = time.Hour
	maxEvents   = 10000
	// maxEventMessage bounds a message, in bytes: hosts write them too.
	maxEventMessage = 1024
)

// storedEvent is an event with its place in the order in which this master heard of them.
type storedEvent struct {
	api.Event
	seq int64
}

func eventKey(e *api.Event) string {
	parts := []string{kindWord(e.Kind), string(e.Project), string(e.Name), string(e.Reason)}
	return eventPrefix + strings.Join(parts, "/")
}

// recordOf gives the write that tells of a controller's action.
func (m *Master) recordOf(a control.Action) store.Op {
	h := a.Object.Head()
	e := api.Event{Kind: h.Kind, Project: h.Metadata.Project, Name: h.Metadata.Name, Level: api.EventNormal, Reason: a.Reason, Message: deed(a) + ": " + a.Why}
	if p, ok := a.Object.(*api.Pod); ok {
		e.Service, e.Host = p.Spec.Service, p.Spec.Host
	}
	if a.Reason == api.ReasonHostLost || a.Reason == api.ReasonPreempted {
		e.Level = api.EventWarning
	}
	return m.cache.eventOp(e)
}

// deed says what an action does.
func deed(a control.Action) string {
	m := a.Object.Head().Metadata
	switch {
	case a.Op == control.Delete:
		return "removed"
	case m.Deleting:
		return "is to end"
	case m.Revision == 0:
		return "made"
	}
	return "changed"
}

// foundOut gives the events that a pod's new status is: it has become ready, or something is wrong with it for another reason than
// before, or once more. What the host calls the reason must be one that pods have, so that no host can fill the store with names.
func foundOut(p *api.Pod, was, is api.PodStatus) []api.Event {
	e := api.Event{Kind: api.KindPod, Project: p.Metadata.Project, Name: p.Metadata.Name, Service: p.Spec.Service, Host: p.Spec.Host}
	var out []api.Event
	if is.Ready && !was.Ready {
		ready := e
		ready.Level, ready.Reason, ready.Message = api.EventNormal, api.ReasonReady, "its checks pass"
		out = append(out, ready)
	}
	if troubles[is.Reason] && (is.Reason != was.Reason || restarts(is) > restarts(was)) {
		e.Level, e.Reason, e.Message = api.EventWarning, is.Reason, is.Message
		out = append(out, e)
	}
	return out
}

// troubles are the reasons of a pod that are told as events. To wait for one's turn is none.
var troubles = map[api.Reason]bool{
	api.ReasonLinkDown: true, api.ReasonImagePull: true, api.ReasonExited: true, api.ReasonUnhealthy: true, api.ReasonOOMKilled: true,
	api.ReasonCreateFailed: true, api.ReasonEngineDown: true, api.ReasonNoPorts: true, api.ReasonStopped: true, api.ReasonLeaseLapsed: true,
	api.ReasonSecret: true, api.ReasonVolume: true, api.ReasonPolicy: true, api.ReasonHostError: true,
}

func restarts(s api.PodStatus) (n int) {
	for _, c := range s.Containers {
		n += c.Restarts
	}
	return n
}

// hostEvents gives the events that the hosts' health is, beside what it was.
func hostEvents(was, is healthRecord) []api.Event {
	var out []api.Event
	tell := func(host api.Name, level api.EventLevel, reason api.Reason, message string) {
		out = append(out, api.Event{Kind: api.KindHost, Name: host, Level: level, Reason: reason, Message: message})
	}
	for host := range is.Silent {
		if !was.Silent[host] {
			tell(host, api.EventWarning, api.ReasonHostSilent, "it has not reported for longer than its lease")
		}
	}
	for host := range is.Failed {
		if !was.Failed[host] {
			tell(host, api.EventWarning, api.ReasonMeshFailed, "the mesh has found it to be down")
		}
	}
	for host := range was.Silent {
		if !is.Silent[host] {
			tell(host, api.EventNormal, api.ReasonReady, "it reports again")
		}
	}
	return out
}

// eventOp gives the write that counts an event. It has no condition: only the leader writes events, with what they tell of.
func (c *cache) eventOp(e api.Event) store.Op {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.eventOpLocked(e, time.Now())
}

func (c *cache) eventOpLocked(e api.Event, now time.Time) store.Op {
	key := eventKey(&e)
	e.Message = e.Message[:min(len(e.Message), maxEventMessage)]
	e.Message = strings.ToValidUTF8(e.Message, "")
	e.Last = now.UTC().Truncate(time.Millisecond)
	e.First, e.Count = e.Last, 1
	if old, ok := c.events[key]; ok {
		e.First, e.Count = old.First, old.Count+1
	}
	return store.Op{Key: key, Value: mustJSON(e), If: store.Any}
}

// applyEventLocked takes in a stored event.
func (c *cache) applyEventLocked(e store.Event) error {
	var read = map[string]api.Event{}
	if err := set(read, e.Key, e); err != nil {
		return err
	}
	if e.Deleted {
		delete(c.events, e.Key)
		return nil
	}
	c.eventSeq++
	c.events[e.Key] = storedEvent{read[e.Key], c.eventSeq}
	return nil
}

// eventsAfter gives the events that were heard of after a place and that are wanted, in their order, with the place of the last one.
func (c *cache) eventsAfter(seq int64, wanted func(*api.Event) bool) ([]storedEvent, int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var out []storedEvent
	if c.eventSeq > seq {
		for _, e := range c.events {
			if e.seq > seq && wanted(&e.Event) {
				out = append(out, e)
			}
		}
	}
	return out, c.eventSeq
}

// eventFilter is what a reader of events asks for.
type eventFilter struct {
	project, name, service api.Name
	kind                   api.Kind
	since                  time.Duration
	follow                 bool
}

func (f eventFilter) wants(e *api.Event) bool {
	return (f.project == "" || e.Project == f.project || e.Kind == api.KindProject && e.Name == f.project) &&
		(f.kind == "" || e.Kind == f.kind) && (f.name == "" || e.Name == f.name) &&
		(f.service == "" || e.Service == f.service || e.Kind == api.KindService && e.Name == f.service) &&
		(f.since == 0 || time.Since(e.Last) <= f.since)
}

func (c *call) eventFilter() (f eventFilter, err error) {
	q := c.URL.Query()
	for key, to := range map[string]*api.Name{"project": &f.project, "name": &f.name, "service": &f.service} {
		if *to = api.Name(q.Get(key)); *to != "" {
			if err := to.Validate(); err != nil {
				return f, api.Errorf(api.CodeBadRequest, "%s: %v", key, err)
			}
		}
	}
	if word := q.Get("kind"); word != "" {
		i := slices.IndexFunc(api.Kinds(), func(k api.Kind) bool { return kindWord(k) == strings.ToLower(word) })
		if i < 0 {
			return f, api.Errorf(api.CodeBadRequest, "kind %.40q is not known; it is one such as pod or host", word)
		}
		f.kind = api.Kinds()[i]
	}
	if text := q.Get("since"); text != "" {
		if f.since, err = time.ParseDuration(text); err != nil || f.since <= 0 {
			return f, api.Errorf(api.CodeBadRequest, "since is %.40q; want a duration such as 10m", text)
		}
	}
	if text := q.Get("follow"); text != "" {
		if f.follow, err = strconv.ParseBool(text); err != nil {
			return f, api.Errorf(api.CodeBadRequest, "follow is %.40q; want 1 or 0", text)
		}
	}
	return f, nil
}

// listEvents answers GET /v1/events: what is kept, the oldest first, and then what comes.
func (m *Master) listEvents(c *call) error {
	f, err := c.eventFilter()
	if err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(c.w).Flush()
	changed := m.cache.signal()
	found, seq := m.cache.eventsAfter(0, f.wants)
	slices.SortFunc(found, func(a, b storedEvent) int { return cmp.Or(a.Last.Compare(b.Last), cmp.Compare(a.seq, b.seq)) })
	for sendEvents(c, found) && f.follow {
		select {
		case <-changed:
		case <-c.Context().Done():
			return nil
		case <-m.stopping:
			return nil
		}
		changed = m.cache.signal()
		found, seq = m.cache.eventsAfter(seq, f.wants)
		slices.SortFunc(found, func(a, b storedEvent) int { return cmp.Compare(a.seq, b.seq) })
	}
	return nil
}

func sendEvents(c *call, list []storedEvent) bool {
	for _, e := range list {
		if c.send(e.Event) != nil {
			return false // the client has gone
		}
	}
	return true
}

// sweepEvents forgets old events, and the oldest where there are too many.
func (m *Master) sweepEvents(ctx context.Context) {
	for keys := range slices.Chunk(m.cache.staleEvents(time.Now()), 4*maxBatch) {
		ops := make([]store.Op, len(keys))
		for i, key := range keys {
			ops[i] = erase(key)
		}
		if _, err := m.store.Txn(ctx, ops...); err != nil {
			if ctx.Err() == nil {
				m.log.Warn("sweeping old events", "error", err)
			}
			return
		}
	}
}

// staleEvents gives the keys of the events that are to be forgotten.
func (c *cache) staleEvents(now time.Time) []string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	type aged struct {
		key  string
		last time.Time
	}
	all := make([]aged, 0, len(c.events))
	for key, e := range c.events {
		all = append(all, aged{key, e.Last})
	}
	slices.SortFunc(all, func(a, b aged) int { return cmp.Or(b.last.Compare(a.last), strings.Compare(a.key, b.key)) })
	var out []string
	for i, a := range all {
		if i >= maxEvents || now.Sub(a.last) > eventLife {
			out = append(out, a.key)
		}
	}
	return out
}

package master

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
)

// historyLen is how many past events a watch can start from.
const historyLen = 4096

// cache holds all of the store in memory, fed by one watch, so that reads cost the store
// nothing. Its values are replaced by a change and never written to: a pointer taken from it may
// be read without a lock.
type cache struct {
	mu        sync.RWMutex
	synced    bool  // the first list has been read
	revision  int64 // complete up to here
	version   int64 // grows with each change of anything below
	objects   map[api.Kind]map[api.Key]api.Resource
	byHost    map[api.Name]map[api.Key]*api.Pod
	statuses  map[api.Key]podRecord
	table     podTable // the same pods with their statuses, for snapshots
	endpoints map[api.Name]api.HostEndpoints
	hostInfos map[api.Name]hostInfo
	hostKeys  map[api.Name]hostKeys
	masters   map[api.Name]masterRecord
	health    healthRecord // of the hosts, as the leader last saw it
	termBase  int64

	sealed  map[api.Key]sealedRecord // by key of the secret
	sealSeq int64                    // grows when one changes

	podSeq map[api.Name]int64 // grows when the pods of a host change
	dirSeq int64              // grows when the directory may have changed

	history []change // the last historyLen, oldest first
	lastSeq int64    // of the last change
	changed chan struct{}
}

// podRecord is the status of one pod as its host last reported it. The uid tells a status from
// that of an older pod with the same name.
type podRecord struct {
	UID    api.UID       `json:"uid"`
	Status api.PodStatus `json:"status"`
}

// hostInfo is what a host says of itself and seldom changes.
type hostInfo struct {
	Version  string        `json:"version,omitempty"`
	Capacity api.Resources `json:"capacity"`
	api.HostOffer
	Conditions []api.Condition `json:"conditions,omitempty"`
	Seen       time.Time       `json:"seen" doc:"When this was written; the host may have been seen since"`
}

// change is one event of the history: a resource that was put or deleted, or whose status is
// another now. Object is without status; the reader adds that of its own time.
type change struct {
	Seq      int64
	Revision int64
	Key      api.Key
	Deleted  bool
	Object   api.Resource
}

func newCache() *cache {
	c := &cache{changed: make(chan struct{})}
	c.resetLocked()
	return c
}

func (c *cache) resetLocked() {
	c.objects = map[api.Kind]map[api.Key]api.Resource{}
	for _, k := range api.Kinds() {
		c.objects[k] = map[api.Key]api.Resource{}
	}
	c.byHost = map[api.Name]map[api.Key]*api.Pod{}
	c.statuses = map[api.Key]podRecord{}
	c.table = podTable{at: map[api.Key]int{}}
	c.endpoints = map[api.Name]api.HostEndpoints{}
	c.hostInfos = map[api.Name]hostInfo{}
	c.hostKeys = map[api.Name]hostKeys{}
	c.masters, c.health, c.termBase = map[api.Name]masterRecord{}, healthRecord{}, 0
	c.sealed = map[api.Key]sealedRecord{}
	c.sealSeq++
	if c.podSeq == nil { // it only grows, also when all is read anew
		c.podSeq = map[api.Name]int64{}
	}
	c.history = nil
	c.lastSeq++ // readers that are in the middle of the old history find that they have lost it
	c.dirSeq++
}

// fill replaces everything by what the store holds at a revision.
func (c *cache) fill(items []store.Item, revision int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resetLocked()
	for _, it := range items {
		if err := c.applyLocked(store.Event{Item: it}); err != nil {
			return err
		}
	}
	c.history = nil
	c.revision, c.synced = revision, true
	c.version++
	c.wakeLocked()
	return nil
}

// apply takes in what the store's watch says.
func (c *cache) apply(b store.Batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range b.Events {
		if err := c.applyLocked(e); err != nil {
			return err
		}
	}
	c.revision = max(c.revision, b.Revision)
	if len(b.Events) > 0 {
		c.version++
	}
	c.wakeLocked()
	return nil
}

func (c *cache) wakeLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *cache) applyLocked(e store.Event) error {
	if key, ok := parseKey(e.Key); ok {
		return c.applyObjectLocked(key, e)
	}
	prefix, rest, _ := strings.Cut(e.Key, "/")
	host := api.Name(rest)
	switch prefix + "/" {
	case podStatusPrefix:
		project, name, _ := strings.Cut(rest, "/")
		key := api.Key{Kind: api.KindPod, Project: api.Name(project), Name: api.Name(name)}
		if err := set(c.statuses, key, e); err != nil {
			return err
		}
		c.table.say(key, c.statuses[key])
		c.touchLocked(key, e.Revision)
	case endpointsPrefix:
		c.dirSeq++
		return set(c.endpoints, host, e)
	case hostInfoPrefix:
		if err := set(c.hostInfos, host, e); err != nil {
			return err
		}
		c.touchLocked(api.Key{Kind: api.KindHost, Name: host}, e.Revision)
	case sealedPrefix:
		project, name, _ := strings.Cut(rest, "/")
		c.sealSeq++
		return set(c.sealed, api.Key{Kind: api.KindSecret, Project: api.Name(project), Name: api.Name(name)}, e)
	case hostKeyPrefix:
		return set(c.hostKeys, host, e)
	case masterPrefix:
		c.dirSeq++
		return set(c.masters, host, e)
	case termBaseKey + "/":
		return c.setTermBaseLocked(e)
	case healthKey + "/":
		return c.setHealthLocked(e)
	}
	return nil
}

// set puts an event's value into a map, or takes it out.
func set[K comparable, V any](m map[K]V, key K, e store.Event) error {
	if e.Deleted {
		delete(m, key)
		return nil
	}
	var v V
	if err := json.Unmarshal(e.Value, &v); err != nil {
		return fmt.Errorf("reading %q from the store: %w", e.Key, err)
	}
	m[key] = v
	return nil
}

func (c *cache) applyObjectLocked(key api.Key, e store.Event) error {
	old := c.objects[key.Kind][key]
	var now api.Resource
	if e.Deleted {
		delete(c.objects[key.Kind], key)
	} else {
		var err error
		if now, err = decode(key.Kind, e.Item); err != nil {
			return err
		}
		c.objects[key.Kind][key] = now
	}
	c.indexLocked(key, old, now)
	switch {
	case now != nil:
		c.noteLocked(change{Revision: e.Revision, Key: key, Object: now})
	case old != nil:
		gone := bare(old)
		gone.Head().Metadata.Revision = e.Revision
		c.noteLocked(change{Revision: e.Revision, Key: key, Deleted: true, Object: gone})
	}
	return nil
}

// indexLocked keeps the index of pods by host, and counts changes.
func (c *cache) indexLocked(key api.Key, old, now api.Resource) {
	if key.Kind == api.KindProject {
		c.projectChangedLocked(key.Name)
	}
	if key.Kind != api.KindPod {
		c.dirSeq++
		return
	}
	was, had := old.(*api.Pod)
	is, has := now.(*api.Pod)
	if has {
		c.table.put(key, is, c.statuses[key])
	} else {
		c.table.remove(key)
	}
	if had {
		delete(c.byHost[was.Spec.Host], key)
		c.podSeq[was.Spec.Host]++
	}
	if has {
		if c.byHost[is.Spec.Host] == nil {
			c.byHost[is.Spec.Host] = map[api.Key]*api.Pod{}
		}
		c.byHost[is.Spec.Host][key] = is
		c.podSeq[is.Spec.Host]++
	}
	// The directory leaves out the endpoints of pods that are being deleted.
	if !has || is.Metadata.Deleting != (had && was.Metadata.Deleting) {
		c.dirSeq++
	}
}

// touchLocked notes that the status of a resource is another.
func (c *cache) touchLocked(key api.Key, revision int64) {
	if r := c.objects[key.Kind][key]; r != nil {
		c.noteLocked(change{Revision: revision, Key: key, Object: r})
	}
}

func (c *cache) noteLocked(ch change) {
	c.lastSeq++
	ch.Seq = c.lastSeq
	c.history = append(c.history, ch)
	if len(c.history) > 2*historyLen { // trimmed in steps, so that a change costs no copy
		c.history = append([]change(nil), c.history[len(c.history)-historyLen:]...)
	}
}

// touch notes that the status of resources is another for a reason outside the store: time.
func (c *cache) touch(keys []api.Key) {
	if len(keys) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range keys {
		c.touchLocked(k, c.revision)
	}
	c.wakeLocked()
}

// wait blocks until the cache has the revision: what was written is then read.
func (c *cache) wait(ctx context.Context, revision int64) error {
	for {
		c.mu.RLock()
		done, changed := c.synced && c.revision >= revision, c.changed
		c.mu.RUnlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for revision %d: %w", revision, ctx.Err())
		}
	}
}

// since gives the changes after a place in the history, and a channel that closes when there are
// more. ok is false when the history no longer reaches back that far.
func (c *cache) since(seq int64) (changes []change, more <-chan struct{}, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	behind := c.lastSeq - seq
	if behind > int64(len(c.history)) {
		return nil, nil, false
	}
	return c.history[int64(len(c.history))-behind:], c.changed, true
}

// place gives the place in the history right after a revision.
func (c *cache) place(revision int64) (seq int64, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if revision > c.revision {
		return 0, false
	}
	if revision == c.revision {
		return c.lastSeq, true
	}
	for i, ch := range c.history {
		if ch.Revision > revision {
			// Only when an older change is kept too is it sure that nothing between is lost.
			return ch.Seq - 1, i > 0
		}
	}
	return c.lastSeq, len(c.history) > 0
}

// get finds a resource, without its status.
func (c *cache) get(key api.Key) (api.Resource, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	r, ok := c.objects[key.Kind][key]
	return r, ok
}

func (c *cache) has(key api.Key) bool {
	_, ok := c.get(key)
	return ok
}

// list gives the resources of a kind, in one project when it is named, sorted by key.
func (c *cache) list(kind api.Kind, project api.Name) []api.Resource {
	out, _ := c.listAt(kind, project)
	return out
}

// listAt gives also the revision that the list is of.
func (c *cache) listAt(kind api.Kind, project api.Name) ([]api.Resource, int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.listLocked(kind, project), c.revision
}

func (c *cache) listLocked(kind api.Kind, project api.Name) []api.Resource {
	var out []api.Resource
	for key, r := range c.objects[kind] {
		if project == "" || key.Project == project {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b api.Resource) int {
		x, y := a.Head().Metadata, b.Head().Metadata
		return cmp.Or(cmp.Compare(x.Project, y.Project), cmp.Compare(x.Name, y.Name))
	})
	return out
}

// all gives everything that is wanted, in the order in which resources depend on each other, and
// the place in the history and the revision that follow it.
func (c *cache) all(want func(api.Key) bool) (found []api.Resource, seq, revision int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, kind := range api.Kinds() {
		for _, r := range c.listLocked(kind, "") {
			if want(r.Head().Key()) {
				found = append(found, r)
			}
		}
	}
	return found, c.lastSeq, c.revision
}

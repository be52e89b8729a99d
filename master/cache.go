package master

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/control"
	"gearmesh.dev/master/store"
)

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
	leased    map[api.Name]int // pods with leases, by host
	statuses  map[api.Key]podRecord
	table     podTable // the same pods with their statuses, for snapshots
	endpoints map[api.Name]api.HostEndpoints
	hostInfos map[api.Name]hostInfo
	hostKeys  map[api.Name]hostKeys
	masters   map[api.Name]masterRecord
	revoked   map[api.Name]revokedRecord
	gossip    gossipRing
	sealer    Sealer       // opens it; nil when this master has no key
	health    healthRecord // of the hosts, as the leader last saw it
	termBase  int64

	events   map[string]storedEvent // by key in the store
	eventSeq int64                  // grows with each

	sealed  map[api.Key]sealedRecord // by key of the secret
	sealSeq int64                    // grows when one changes

	podSeq  map[api.Name]int64 // grows when the pods of a host change
	signals *signals           // of hosts' streams
	dirSeq  int64              // grows when the directory may have changed

	history  []change // oldest first; at least the last historyLen, and all after the revision complete
	complete int64
	lastSeq  int64 // of the last change
	changed  chan struct{}
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
	api.HostIPv6
	api.HostOffer
	Conditions []api.Condition `json:"conditions,omitempty"`
	Gossip     int64           `json:"gossip,omitempty"` // as api.HostReport has it
	Seen       time.Time       `json:"seen" doc:"When this was written; the host may have been seen since"`
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
	c.byHost, c.leased = map[api.Name]map[api.Key]*api.Pod{}, map[api.Name]int{}
	c.statuses = map[api.Key]podRecord{}
	c.table.reset()
	c.endpoints = map[api.Name]api.HostEndpoints{}
	c.hostInfos = map[api.Name]hostInfo{}
	c.hostKeys = map[api.Name]hostKeys{}
	c.masters, c.health, c.termBase = map[api.Name]masterRecord{}, healthRecord{}, 0
	c.revoked, c.gossip = map[api.Name]revokedRecord{}, gossipRing{}
	c.events = map[string]storedEvent{}
	c.sealed = map[api.Key]sealedRecord{}
	c.sealSeq++
	if c.podSeq == nil { // it only grows, also when all is read anew
		c.podSeq, c.signals = map[api.Name]int64{}, &signals{by: map[api.Name]chan struct{}{}}
	}
	c.signals.wakeAll()
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
	c.revision, c.complete, c.synced = revision, revision, true
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
		before := c.hostInfos[host].HostIPv6
		if err := set(c.hostInfos, host, e); err != nil {
			return err
		}
		if !reflect.DeepEqual(c.hostInfos[host].HostIPv6, before) {
			c.dirSeq++
		}
		c.touchLocked(api.Key{Kind: api.KindHost, Name: host}, e.Revision)
	case sealedPrefix:
		project, name, _ := strings.Cut(rest, "/")
		c.sealSeq++
		c.signals.wakeAll()
		return set(c.sealed, api.Key{Kind: api.KindSecret, Project: api.Name(project), Name: api.Name(name)}, e)
	case hostKeyPrefix:
		return set(c.hostKeys, host, e)
	case eventPrefix:
		return c.applyEventLocked(e)
	case masterPrefix:
		c.dirSeq++
		return set(c.masters, host, e)
	case revokedPrefix:
		c.dirSeq++
		return set(c.revoked, host, e)
	case gossipKey + "/":
		c.signals.wakeAll()
		return c.setGossipLocked(e)
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
		if !control.SameEntry(old, now) {
			c.dirSeq++
		}
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
		c.countLeasedLocked(was, -1)
		c.podsChangedLocked(was.Spec.Host)
	}
	if has {
		if c.byHost[is.Spec.Host] == nil {
			c.byHost[is.Spec.Host] = map[api.Key]*api.Pod{}
		}
		c.byHost[is.Spec.Host][key] = is
		c.countLeasedLocked(is, 1)
		c.podsChangedLocked(is.Spec.Host)
	}
	// The directory leaves out the endpoints of pods that are being deleted.
	if !has || is.Metadata.Deleting != (had && was.Metadata.Deleting) {
		c.dirSeq++
	}
}

// filled tells whether the store has been read.
func (c *cache) filled() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.synced
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

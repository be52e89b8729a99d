package master

import (
	"slices"

	"gearmesh.dev/api"
)

// The history of changes in the cache: what watches are told, from any place that it reaches back to.

// historyLen is how many past events a watch can start from.
const historyLen = 4096

// change is one event of the history: a resource that was put or deleted, or whose status is
// another now. Object is without status; the reader adds that of its own time.
type change struct {
	Seq      int64
	Revision int64
	Key      api.Key
	Deleted  bool
	Object   api.Resource
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
		drop := len(c.history) - historyLen
		c.complete = c.history[drop-1].Revision
		c.history = append([]change(nil), c.history[drop:]...)
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
	if revision > c.revision || revision < c.complete {
		return 0, false
	}
	for _, ch := range c.history {
		if ch.Revision > revision {
			return ch.Seq - 1, true
		}
	}
	return c.lastSeq, true
}

// reached tells whether the store has come to a revision.
func (c *cache) reached(revision int64) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return revision <= c.revision
}

// goneAfter tells whether a resource was deleted after a revision; known is false when the history does not reach back to it.
func (c *cache) goneAfter(key api.Key, revision int64) (gone, known bool) {
	seq, known := c.place(revision)
	if !known {
		return false, false
	}
	changes, _, known := c.since(seq)
	return slices.ContainsFunc(changes, func(ch change) bool { return ch.Key == key && ch.Deleted }), known
}

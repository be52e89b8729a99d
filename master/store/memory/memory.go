// Package memory is a store without a disk: for tests and trials.
package memory

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"gearmesh.dev/master/store"
)

// kept is how many past events a watch can start from.
const kept = 4096

// Store keeps everything in memory. Use New.
type Store struct {
	mu        sync.Mutex
	items     map[string]store.Item
	revision  int64
	compacted int64 // events up to this revision are no longer kept
	events    []store.Event
	changed   chan struct{} // closed and replaced by each write
	leads     string        // the id of who leads
	leader    chan struct{} // holds one token while nobody leads
}

var _ store.Store = (*Store)(nil)

// New gives an empty store at revision 1, as etcd's is.
func New() *Store {
	s := &Store{items: map[string]store.Item{}, revision: 1, changed: make(chan struct{}), leader: make(chan struct{}, 1)}
	s.leader <- struct{}{}
	return s
}

// Get implements store.Store.
func (s *Store) Get(_ context.Context, key string) (store.Item, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it, ok := s.items[key]
	if !ok {
		return store.Item{}, fmt.Errorf("%q: %w", key, store.ErrNotFound)
	}
	return it, nil
}

// List implements store.Store.
func (s *Store) List(_ context.Context, prefix string) ([]store.Item, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []store.Item
	for key, it := range s.items {
		if strings.HasPrefix(key, prefix) {
			out = append(out, it)
		}
	}
	slices.SortFunc(out, func(a, b store.Item) int { return strings.Compare(a.Key, b.Key) })
	return out, s.revision, nil
}

// Txn implements store.Store.
func (s *Store) Txn(ctx context.Context, ops ...store.Op) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if size := sizeOf(ops); len(ops) > store.MaxOps || size > store.MaxBytes {
		return 0, fmt.Errorf("%d ops of %d bytes: %w", len(ops), size, store.ErrTooLarge)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range ops {
		if !s.holdsLocked(op) {
			return 0, fmt.Errorf("%q: %w", op.Key, store.ErrConflict)
		}
	}
	s.applyLocked(ops)
	return s.revision, nil
}

func (s *Store) holdsLocked(op store.Op) bool {
	if op.Kind != store.CheckAll {
		return op.If == store.Any || s.items[op.Key].Revision == op.If
	}
	for key, it := range s.items {
		if strings.HasPrefix(key, op.Key) && it.Revision > op.If {
			return false
		}
	}
	return true
}

func sizeOf(ops []store.Op) (bytes int) {
	for _, op := range ops {
		bytes += len(op.Key) + len(op.Value)
	}
	return bytes
}

func (s *Store) applyLocked(ops []store.Op) {
	revision := s.revision + 1
	var events []store.Event
	remove := func(key string) {
		if _, had := s.items[key]; had {
			delete(s.items, key)
			events = append(events, store.Event{Item: store.Item{Key: key, Revision: revision}, Deleted: true})
		}
	}
	for _, op := range ops {
		switch op.Kind {
		case store.Put:
			it := store.Item{Key: op.Key, Value: bytes.Clone(op.Value), Revision: revision}
			s.items[op.Key] = it
			events = append(events, store.Event{Item: it})
		case store.Delete:
			remove(op.Key)
		case store.DeleteAll:
			for _, key := range slices.Sorted(maps.Keys(s.items)) {
				if strings.HasPrefix(key, op.Key) {
					remove(key)
				}
			}
		}
	}
	if len(events) == 0 {
		return
	}
	s.revision = revision
	s.events = append(s.events, events...)
	for len(s.events) > kept {
		s.compacted = s.events[0].Revision
		s.events = s.events[1:]
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// Watch implements store.Store.
func (s *Store) Watch(ctx context.Context, prefix string, after int64) <-chan store.Batch {
	out := make(chan store.Batch)
	go func() {
		defer close(out)
		for {
			b, changed := s.since(prefix, after)
			after = max(after, b.Revision)
			if b.Err != nil || len(b.Events) > 0 {
				select {
				case out <- b:
				case <-ctx.Done():
					return
				}
			}
			if b.Err != nil {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// since gives what happened after a revision, and a channel that closes when there is more.
func (s *Store) since(prefix string, after int64) (store.Batch, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if after < s.compacted {
		return store.Batch{Err: fmt.Errorf("watching %q from %d: %w", prefix, after, store.ErrCompacted)}, nil
	}
	b := store.Batch{Revision: s.revision}
	for _, e := range s.events {
		if e.Revision > after && strings.HasPrefix(e.Key, prefix) {
			b.Events = append(b.Events, e)
		}
	}
	return b, s.changed
}

// leaderKey is where the leader stands; its revision fences the leader's writes.
const leaderKey = "leader"

// Campaign implements store.Store.
func (s *Store) Campaign(ctx context.Context, id string) (store.Lead, error) {
	select {
	case <-s.leader:
	case <-ctx.Done():
		return store.Lead{}, fmt.Errorf("waiting to lead: %w", ctx.Err())
	}
	revision, err := s.Txn(ctx, store.Op{Key: leaderKey, Value: []byte(id), If: store.Any})
	if err != nil {
		return store.Lead{}, err
	}
	s.setLeader(id)
	lost := make(chan struct{})
	resign := sync.OnceFunc(func() {
		s.setLeader("")
		close(lost)
		s.leader <- struct{}{}
	})
	fence := store.Op{Kind: store.Check, Key: leaderKey, If: revision}
	return store.Lead{Term: revision, Fence: fence, Lost: lost, Resign: resign}, nil
}

func (s *Store) setLeader(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leads = id
}

// Leader implements store.Store.
func (s *Store) Leader(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leads, nil
}

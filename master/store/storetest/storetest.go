// Package storetest is the contract of store.Store as tests, run over every implementation.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"gearmesh.dev/master/store"
)

// Run holds stores to the contract. open gives an empty one that ends with the test.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for name, test := range map[string]func(*testing.T, store.Store){
		"conditions": conditions, "transactions": transactions, "too large transactions": tooLarge, "lists": lists, "deletes": deletes, "prefixes": prefixes,
		"watch": watch, "two watches": twoWatches, "watch from the past": watchPast, "watch ends": watchEnds, "leadership": leadership,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func conditions(t *testing.T, s store.Store) {
	first := put(t, s, "a", "1", store.Absent)
	refused(t, s, store.Op{Key: "a", Value: []byte("2"), If: store.Absent})
	second := put(t, s, "a", "2", first)
	if second <= first {
		t.Errorf("revision %d after %d", second, first)
	}
	refused(t, s, store.Op{Key: "a", Value: []byte("3"), If: first})
	refused(t, s, store.Op{Key: "missing", Value: []byte("3"), If: first})
	put(t, s, "a", "4", store.Any)
	if it, err := s.Get(t.Context(), "a"); err != nil || string(it.Value) != "4" {
		t.Errorf("got %q, %v", it.Value, err)
	}
	if _, err := s.Get(t.Context(), "missing"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a missing key gives %v", err)
	}
}

func transactions(t *testing.T, s store.Store) {
	a := put(t, s, "a", "1", store.Absent)
	refused(t, s, store.Op{Key: "b", Value: []byte("1"), If: store.Absent},
		store.Op{Kind: store.Check, Key: "a", If: a + 100})
	if _, err := s.Get(t.Context(), "b"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("half a transaction was written: %v", err)
	}
	rev, err := s.Txn(t.Context(), store.Op{Key: "b", Value: []byte("1"), If: store.Absent},
		store.Op{Kind: store.Check, Key: "a", If: a}, store.Op{Key: "c", Value: []byte("1"), If: store.Any})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"b", "c"} {
		if it, err := s.Get(t.Context(), key); err != nil || it.Revision != rev {
			t.Errorf("%s has revision %d, %v; want %d", key, it.Revision, err, rev)
		}
	}
}

// tooLarge holds a store to an answer of its own for what it cannot write at once.
func tooLarge(t *testing.T, s store.Store) {
	for name, ops := range map[string][]store.Op{"too many": fresh("too many", store.MaxOps+1, 1), "too long": fresh("too long", 11, 1<<20)} {
		if _, err := s.Txn(t.Context(), ops...); !errors.Is(err, store.ErrTooLarge) || errors.Is(err, store.ErrUnavailable) || len(err.Error()) > 1000 {
			t.Errorf("%s gives %.1000v", name, err)
		}
		if items, _, err := s.List(t.Context(), name); err != nil || len(items) != 0 {
			t.Errorf("%s: %d are stored, %v", name, len(items), err)
		}
	}
}

// TakesAll writes as much at once as store.MaxOps and store.MaxBytes promise of a store that is no etcd cluster of an operator's own.
func TakesAll(t *testing.T, s store.Store) {
	for name, ops := range map[string][]store.Op{"many": fresh("many", store.MaxOps, 1000), "long": fresh("long", 9, 1<<20)} {
		if _, err := s.Txn(t.Context(), ops...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if items, _, err := s.List(t.Context(), name+"/"); err != nil || len(items) != len(ops) {
			t.Errorf("%s: %d are stored, %v", name, len(items), err)
		}
	}
}

// fresh gives ops that make keys with values of that many bytes.
func fresh(prefix string, n, bytes int) []store.Op {
	ops := make([]store.Op, n)
	for i := range ops {
		ops[i] = store.Op{Key: fmt.Sprintf("%s/%d", prefix, i), Value: make([]byte, bytes), If: store.Absent}
	}
	return ops
}

func lists(t *testing.T, s store.Store) {
	put(t, s, "pod/b/x", "1", store.Absent)
	put(t, s, "pod/a/x", "1", store.Absent)
	last := put(t, s, "host/a", "1", store.Absent)
	items, rev, err := s.List(t.Context(), "pod/")
	if err != nil || rev < last {
		t.Fatalf("revision %d, %v; want at least %d", rev, err, last)
	}
	var keys []string
	for _, it := range items {
		keys = append(keys, it.Key)
	}
	if got := strings.Join(keys, " "); got != "pod/a/x pod/b/x" {
		t.Errorf("got %q", got)
	}
}

func deletes(t *testing.T, s store.Store) {
	rev := put(t, s, "a", "1", store.Absent)
	refused(t, s, store.Op{Kind: store.Delete, Key: "a", If: rev + 100})
	if _, err := s.Txn(t.Context(), store.Op{Kind: store.Delete, Key: "a", If: rev}); err != nil {
		t.Fatal(err)
	}
	refused(t, s, store.Op{Kind: store.Delete, Key: "a", If: rev})
	if _, err := s.Txn(t.Context(), store.Op{Kind: store.Delete, Key: "a", If: store.Any}); err != nil {
		t.Errorf("deleting what is gone: %v", err)
	}
	put(t, s, "a", "2", store.Absent)
}

// prefixes removes and compares many keys at once.
func prefixes(t *testing.T, s store.Store) {
	put(t, s, "a/1", "1", store.Absent)
	second := put(t, s, "a/2", "1", store.Absent)
	put(t, s, "ab", "1", store.Absent)
	unchanged := store.Op{Kind: store.CheckAll, Key: "a/", If: second}
	refused(t, s, store.Op{Key: "b", Value: []byte("1"), If: store.Absent}, store.Op{Kind: store.CheckAll, Key: "a/", If: second - 1})
	if _, err := s.Txn(t.Context(), unchanged, store.Op{Kind: store.CheckAll, Key: "none/", If: 1}, store.Op{Key: "c", Value: []byte("1"), If: store.Absent}); err != nil {
		t.Errorf("what has not been written since is taken for changed: %v", err)
	}
	put(t, s, "a/1", "2", store.Any)
	refused(t, s, unchanged)
	_, revision, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	events := s.Watch(t.Context(), "a", revision)
	if _, err := s.Txn(t.Context(), store.Op{Kind: store.DeleteAll, Key: "a/", If: store.Any}, store.Op{Key: "ac", Value: []byte("1"), If: store.Absent}); err != nil {
		t.Fatal(err)
	}
	items, _, err := s.List(t.Context(), "a")
	if err != nil || len(items) != 2 || items[0].Key != "ab" || items[1].Key != "ac" {
		t.Errorf("left are %v, %v", items, err)
	}
	if _, err := s.Txn(t.Context(), store.Op{Kind: store.DeleteAll, Key: "a/", If: store.Any}); err != nil {
		t.Errorf("removing what is gone: %v", err)
	}
	want(t, events, "a/1 deleted", "a/2 deleted", "ac=1")
}

func watch(t *testing.T, s store.Store) {
	_, rev, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	events := s.Watch(t.Context(), "pod/", rev)
	put(t, s, "host/a", "1", store.Absent)
	put(t, s, "pod/a", "1", store.Absent)
	put(t, s, "pod/a", "2", store.Any)
	if _, err := s.Txn(t.Context(), store.Op{Kind: store.Delete, Key: "pod/a", If: store.Any}); err != nil {
		t.Fatal(err)
	}
	want(t, events, "pod/a=1", "pod/a=2", "pod/a deleted")
}

// twoWatches of the same keys do not take events from each other, nor change them.
func twoWatches(t *testing.T, s store.Store) {
	rev := put(t, s, "a", "0", store.Absent)
	one, other := s.Watch(t.Context(), "", rev), s.Watch(t.Context(), "", rev)
	var wanted []string
	for i := range 20 {
		put(t, s, "a", strings.Repeat("x", i), store.Any)
		wanted = append(wanted, "a="+strings.Repeat("x", i))
	}
	want(t, one, wanted...)
	want(t, other, wanted...)
}

func watchPast(t *testing.T, s store.Store) {
	first := put(t, s, "a", "1", store.Absent)
	put(t, s, "a", "2", store.Any)
	put(t, s, "b", "3", store.Any)
	want(t, s.Watch(t.Context(), "", first), "a=2", "b=3")
}

func watchEnds(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	events := s.Watch(ctx, "", 0)
	cancel()
	for range events {
		continue
	}
}

func leadership(t *testing.T, s store.Store) {
	first, err := s.Campaign(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan store.Lead)
	go func() {
		lead, err := s.Campaign(t.Context(), "two")
		if err != nil {
			t.Error(err)
		}
		second <- lead
	}()
	if _, err := s.Txn(t.Context(), first.Fence, store.Op{Key: "a", Value: []byte("1"), If: store.Absent}); err != nil {
		t.Errorf("the leader may not write: %v", err)
	}
	leads(t, s, "one")
	first.Resign()
	first.Resign()
	<-first.Lost
	next := <-second
	if next.Term <= first.Term {
		t.Errorf("term %d after %d", next.Term, first.Term)
	}
	refused(t, s, first.Fence, store.Op{Key: "a", Value: []byte("2"), If: store.Any})
	if _, err := s.Txn(t.Context(), next.Fence, store.Op{Key: "a", Value: []byte("2"), If: store.Any}); err != nil {
		t.Errorf("the new leader may not write: %v", err)
	}
	leads(t, s, "two")
	next.Resign()
	leads(t, s, "")
}

func leads(t *testing.T, s store.Store, id string) {
	t.Helper()
	if got, err := s.Leader(t.Context()); err != nil || got != id {
		t.Errorf("%q leads, %v; want %q", got, err, id)
	}
}

func put(t *testing.T, s store.Store, key, value string, condition int64) int64 {
	t.Helper()
	rev, err := s.Txn(t.Context(), store.Op{Key: key, Value: []byte(value), If: condition})
	if err != nil {
		t.Fatalf("putting %s: %v", key, err)
	}
	return rev
}

func refused(t *testing.T, s store.Store, ops ...store.Op) {
	t.Helper()
	if _, err := s.Txn(t.Context(), ops...); !errors.Is(err, store.ErrConflict) {
		t.Errorf("%+v gives %v, want a conflict", ops, err)
	}
}

// want reads from a watch until it has seen what is wanted, in order and nothing else.
func want(t *testing.T, batches <-chan store.Batch, wanted ...string) {
	t.Helper()
	for len(wanted) > 0 {
		b, ok := <-batches
		if !ok || b.Err != nil {
			t.Fatalf("the watch ended: %v; still wanted: %q", b.Err, wanted)
		}
		for _, e := range b.Events {
			got := e.Key + "=" + string(e.Value)
			if e.Deleted {
				got = e.Key + " deleted"
			}
			if len(wanted) == 0 || got != wanted[0] {
				t.Fatalf("got %q, want %q", got, wanted)
			}
			wanted = wanted[1:]
		}
	}
}

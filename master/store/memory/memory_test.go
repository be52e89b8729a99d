package memory_test

import (
	"errors"
	"testing"

	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/memory"
	"gearmesh.dev/master/store/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return memory.New() })
}

func TestTakesAll(t *testing.T) { storetest.TakesAll(t, memory.New()) }

func TestOldRevisionsAreCompacted(t *testing.T) {
	s := memory.New()
	for range 5000 {
		if _, err := s.Txn(t.Context(), store.Op{Key: "a", If: store.Any}); err != nil {
			t.Fatal(err)
		}
	}
	if b := <-s.Watch(t.Context(), "", 1); !errors.Is(b.Err, store.ErrCompacted) {
		t.Errorf("got %v", b.Err)
	}
}

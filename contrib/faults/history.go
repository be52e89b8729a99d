package main

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// access is one read or write of a register, as a client saw it.
type access struct {
	key      string
	write    bool
	value    string // written, or read
	revision int64  // that the answer named
	call     time.Duration
	done     time.Duration
	unknown  bool // a write without an answer, or with one that promises nothing: it may be done, now or later, or never
}

// history gathers accesses of many clients at once.
type history struct {
	start time.Time
	mu    sync.Mutex
	list  []access
}

func (h *history) now() time.Duration { return time.Since(h.start) }

func (h *history) add(a access) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, a)
}

// register is a register per key: a read gives what was written last.
func register() porcupine.Model {
	return porcupine.Model{
		Partition: func(ops []porcupine.Operation) [][]porcupine.Operation {
			by := map[string][]porcupine.Operation{}
			for _, op := range ops {
				key := op.Input.(access).key
				by[key] = append(by[key], op)
			}
			var out [][]porcupine.Operation
			for _, list := range by {
				out = append(out, list)
			}
			return out
		},
		Init: func() any { return "" },
		Step: func(state, input, _ any) (bool, any) {
			a := input.(access)
			if a.write {
				return true, a.value
			}
			return state == a.value, state
		},
	}
}

// judge tells whether there is an order of all accesses, each between its call and its answer, in which every read
// gives what was written last; and whether the revisions of a key never go back.
func judge(list []access) error {
	switch porcupine.CheckOperationsTimeout(register(), operations(list), 2*time.Minute) {
	case porcupine.Illegal:
		return fmt.Errorf("%d accesses have no order in which each read gives what was written last", len(list))
	case porcupine.Unknown:
		return fmt.Errorf("no order of %d accesses was found in 2 minutes, and none was ruled out", len(list))
	}
	return revisions(list)
}

// operations leaves out the writes of which nothing is known and that no read has seen: such a one can always
// have been done never.
func operations(list []access) []porcupine.Operation {
	seen := map[[2]string]bool{}
	for _, a := range list {
		if !a.write {
			seen[[2]string{a.key, a.value}] = true
		}
	}
	var out []porcupine.Operation
	for _, a := range list {
		end := int64(a.done)
		if a.unknown {
			if !seen[[2]string{a.key, a.value}] {
				continue
			}
			end = math.MaxInt64
		}
		out = append(out, porcupine.Operation{Input: a, Call: int64(a.call), Return: end})
	}
	return out
}

// revisions tells whether an access that began after another had ended ever saw a lower revision of the same key.
func revisions(list []access) error {
	by := slices.Clone(list)
	slices.SortFunc(by, func(a, b access) int { return int(a.call - b.call) })
	ended := slices.Clone(list)
	slices.SortFunc(ended, func(a, b access) int { return int(a.done - b.done) })
	high, n := map[string]int64{}, 0
	for _, a := range by {
		for ; n < len(ended) && ended[n].done < a.call; n++ {
			if e := ended[n]; !e.unknown {
				high[e.key] = max(high[e.key], e.revision)
			}
		}
		if !a.unknown && a.revision < high[a.key] {
			return fmt.Errorf("the revision of %s went back from %d to %d", a.key, high[a.key], a.revision)
		}
	}
	return nil
}

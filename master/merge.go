package master

import (
	"container/heap"
	"context"
	"time"

	"gearmesh.dev/api"
)

// mergeSorted passes on the lines of several sources, each sorted by time, in the order of time.
// It ends when all sources are closed, ctx ends or emit fails.
func mergeSorted(ctx context.Context, sources []<-chan api.LogLine, emit func(api.LogLine) error) error {
	var heads lineHeap
	pull := func(from int) error {
		select {
		case line, ok := <-sources[from]:
			if ok {
				heap.Push(&heads, held{line: line, from: from})
			}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for i := range sources {
		if err := pull(i); err != nil {
			return err
		}
	}
	for len(heads) > 0 {
		first := heap.Pop(&heads).(held)
		if err := emit(first.line); err != nil {
			return err
		}
		if err := pull(first.from); err != nil {
			return err
		}
	}
	return nil
}

// mergeLive passes on lines as they come, each held back for window: of lines that arrive within
// it, the older one goes first. It ends when ctx ends, in is closed or emit fails.
func mergeLive(ctx context.Context, in <-chan api.LogLine, window time.Duration, emit func(api.LogLine) error) error {
	var waiting lineHeap
	tick := time.NewTicker(window / 4)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case line, ok := <-in:
			if !ok {
				return flushLines(&waiting, time.Time{}, emit)
			}
			heap.Push(&waiting, held{line: line, from: n, until: time.Now().Add(window)})
		case now := <-tick.C:
			if err := flushLines(&waiting, now, emit); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// flushLines passes on, oldest first, the lines that have been held back long enough; at the zero
// time all.
func flushLines(waiting *lineHeap, now time.Time, emit func(api.LogLine) error) error {
	for len(*waiting) > 0 && (now.IsZero() || !(*waiting)[0].until.After(now)) {
		if err := emit(heap.Pop(waiting).(held).line); err != nil {
			return err
		}
	}
	return nil
}

// held is a line that waits for its turn.
type held struct {
	line  api.LogLine
	from  int       // its source, or its place in the order of arrival
	until time.Time // when it has waited long enough
}

// lineHeap is a container/heap of lines, the oldest on top; of equal ones the first to come.
type lineHeap []held

func (h lineHeap) Len() int      { return len(h) }
func (h lineHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h lineHeap) Less(i, j int) bool {
	if h[i].line.Time.Equal(h[j].line.Time) {
		return h[i].from < h[j].from
	}
	return h[i].line.Time.Before(h[j].line.Time)
}

// Push implements heap.Interface.
func (h *lineHeap) Push(x any) { *h = append(*h, x.(held)) }

// Pop implements heap.Interface.
func (h *lineHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = held{}
	*h = old[:len(old)-1]
	return last
}

package journal

import (
	"context"
	"iter"
	"time"
)

// RunMarker is the MESSAGE_ID of what gear-run logs when it begins to look after a container: field
// GEAR_CONTAINER_ID names it. One container may be looked after by several invocations of a unit, one after
// the other, so the unit's invocations alone do not tell one run from the next.
const RunMarker = "6f1c0b5d8e2a4c7f9b3d1e5a7c9f2b4d"

// Select streams the entries of a query that keep accepts; Tail counts those alone. keep sees entries
// in their order, once each.
func Select(ctx context.Context, q Query, keep func(Entry) bool) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if q.Tail != All {
			var more bool
			if q, more = selectTail(ctx, q, keep, yield); !more {
				return
			}
		}
		for e, err := range Read(ctx, q) {
			if (err != nil || keep(e)) && !yield(e, err) {
				return
			}
		}
	}
}

// selectTail yields the last entries of what there is, and gives the query for what comes then. Only when
// all has been read is it known which are the last.
func selectTail(ctx context.Context, q Query, keep func(Entry) bool, yield func(Entry, error) bool) (rest Query, more bool) {
	rest = Query{Match: q.Match, Tail: All, Follow: true, From: time.Now()}
	past := q
	past.Tail, past.Follow = All, false
	var last []Entry
	for e, err := range Read(ctx, past) {
		if err != nil {
			yield(Entry{}, err)
			return rest, false
		}
		rest.After = e.Fields["__CURSOR"]
		if !keep(e) || q.Tail == 0 {
			continue
		}
		if len(last) >= 2*q.Tail { // moved once for many entries
			last = append(last[:0], last[len(last)-q.Tail:]...)
		}
		last = append(last, e)
	}
	for _, e := range last[max(0, len(last)-q.Tail):] {
		if !yield(e, nil) {
			return rest, false
		}
	}
	return rest, q.Follow
}

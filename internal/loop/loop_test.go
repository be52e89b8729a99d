package loop_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gearmesh.dev/internal/loop"
)

// passesOf runs a loop whose passes take 3 ms, with 10 ms between their starts and a period of a minute, and gives when each
// pass began. Kicks come at the given times.
func passesOf(t *testing.T, kicks ...time.Duration) (began []time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		start, k := time.Now(), loop.NewKick()
		for _, at := range kicks {
			time.AfterFunc(at, k.Wake)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		loop.Run(ctx, k, 10*time.Millisecond, time.Minute, func(ctx context.Context) {
			began = append(began, time.Since(start))
			loop.Sleep(ctx, 3*time.Millisecond)
		})
	})
	return began
}

func TestRun(t *testing.T) {
	const ms, s = time.Millisecond, time.Second
	for _, tt := range []struct {
		name        string
		kicks, want []time.Duration
	}{
		{"no kick: each period after the end of the pass before", nil, []time.Duration{0, 60*s + 3*ms}},
		{"a kick after a rest is acted on at once", []time.Duration{s}, []time.Duration{0, s, 61*s + 3*ms}},
		{"a kick in a pass is acted on when the gap is over", []time.Duration{s, s + ms}, []time.Duration{0, s, s + 10*ms, 61*s + 13*ms}},
		{"a burst is one pass for its first and one for the rest", []time.Duration{s, s + ms, s + 5*ms, s + 9*ms}, []time.Duration{0, s, s + 10*ms, 61*s + 13*ms}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := passesOf(t, tt.kicks...); !slices.Equal(got, tt.want) {
				t.Errorf("passes began at %v, want %v", got, tt.want)
			}
		})
	}
}

package realhost

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestSeenImages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s seenImages
		if s.lately("a") {
			t.Error("an image was seen that nobody has looked for")
		}
		s.now("a")
		if time.Sleep(seenLately - time.Millisecond); !s.lately("a") || s.lately("b") {
			t.Error("a was seen a moment ago, b was not")
		}
		if time.Sleep(time.Millisecond); s.lately("a") {
			t.Error("a was seen too long ago to count")
		}
		if s.now("b"); len(s.refs) != 1 {
			t.Errorf("what does not count is kept: %v", s.refs)
		}
	})
}

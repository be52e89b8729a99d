package realhost

import (
	"sync"
	"time"
)

// seenImages are the images that were here a moment ago: many pods of one service start together, and each question makes the engine
// read the image's description again. Somebody who removes one in that moment would be as late for the pod before.
type seenImages struct {
	mu   sync.Mutex
	refs map[string]time.Time // when each was last found
}

// seenLately is how long an image counts as here.
const seenLately = time.Second

// now notes that an image is here.
func (s *seenImages) now(ref string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs == nil {
		s.refs = map[string]time.Time{}
	}
	for r, at := range s.refs {
		if time.Since(at) >= seenLately {
			delete(s.refs, r)
		}
	}
	s.refs[ref] = time.Now()
}

// lately tells whether an image was here a moment ago.
func (s *seenImages) lately(ref string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.refs[ref]
	return ok && time.Since(at) < seenLately
}

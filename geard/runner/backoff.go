package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/atomicfile"
)

const (
	firstDelay = time.Second
	maxDelay   = time.Minute
	// goodRun is how long a container must have run for its end not to count as another quick one.
	goodRun = time.Minute
	// goodSickRun is the same of one that liveness ended: it looks well for as long as liveness takes to tell.
	goodSickRun = 10 * time.Minute
)

// history is what a runner must know of the runs before its own.
type history struct {
	Quick   int        `json:"quick"`             // ends in quick succession, up to now
	Ended   time.Time  `json:"ended,omitzero"`    // when the last run ended
	Reason  api.Reason `json:"reason,omitempty"`  // and why
	Message string     `json:"message,omitempty"` // the same for people
}

// delay is how long to wait between the last end and the next try: nothing after a good run,
// then 1 s, 2 s, 4 s … 60 s.
func (h history) delay() time.Duration {
	if h.Quick == 0 {
		return 0
	}
	return min(firstDelay<<min(h.Quick-1, 10), maxDelay)
}

// wait is what is left of the delay. A clock that was set back or forward can only change it
// between nothing and the whole delay.
func (h history) wait(now time.Time) time.Duration {
	return max(0, min(h.delay(), h.Ended.Add(h.delay()).Sub(now)))
}

// after gives the history with one more end, after a run that is a good one from good on.
func (h history) after(ran, good time.Duration, now time.Time, reason api.Reason, message string) history {
	quick := h.Quick + 1
	if ran >= good {
		quick = 0
	}
	return history{Quick: quick, Ended: now, Reason: reason, Message: message}
}

// loadHistory reads the history; one that is missing or damaged is none: the cost is one try too early.
func loadHistory(file string) history {
	var h history
	data, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(data, &h) != nil {
		return history{}
	}
	return h
}

func (h history) save(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keeping the history of a container: %w", err)
	}
	return atomicfile.WriteJSON(file, h, 0o644)
}

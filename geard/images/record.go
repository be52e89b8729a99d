package images

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"sync"
	"time"

	"gearmesh.dev/internal/atomicfile"
)

// Record remembers, on disk, which images the agent has pulled and when each was last used, by reference. A record that
// cannot be read is an empty one: what is not on it is not ours to remove.
type Record struct {
	path string

	mu   sync.Mutex
	used map[string]time.Time // nil before it was read
}

// NewRecord gives the record that is kept in a file.
func NewRecord(path string) *Record { return &Record{path: path} }

func (r *Record) loadLocked() {
	if r.used != nil {
		return
	}
	r.used = map[string]time.Time{}
	data, err := os.ReadFile(r.path)
	if err == nil && json.Unmarshal(data, &r.used) != nil {
		r.used = map[string]time.Time{}
	}
}

// Pulled notes that the agent has fetched an image.
func (r *Record) Pulled(ref string, now time.Time) error {
	return r.Update(func(used map[string]time.Time) { used[ref] = now.UTC().Truncate(time.Second) })
}

// Update changes the record, and writes it when that made a difference.
func (r *Record) Update(change func(used map[string]time.Time)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loadLocked()
	before := maps.Clone(r.used)
	change(r.used)
	if maps.Equal(before, r.used) {
		return nil
	}
	err := atomicfile.WriteJSON(r.path, r.used, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no directory of an agent's: this host keeps no record
	}
	return err
}

// All gives what is recorded.
func (r *Record) All() map[string]time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loadLocked()
	return maps.Clone(r.used)
}

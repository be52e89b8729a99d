package mesh

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"gearmesh.dev/api"
)

// ghosts are the failed hosts of an earlier run. Serf tells a host that joins only of living
// members, so an agent that restarts while another host is dead would take the dead one's endpoints
// back into its links.
type ghosts struct {
	mu    sync.Mutex
	known []ghost
	saved []ghost
}

// ghost is a failed host on disk.
type ghost struct {
	Name    api.Name   `json:"name"`
	Address netip.Addr `json:"address"`
	Since   time.Time  `json:"since"`
}

func (c Config) failedPath() string {
	if c.Snapshot == "" {
		return ""
	}
	return c.Snapshot + ".failed"
}

// loadFailed reads them. A file that is missing or unreadable means none: they are hints.
func loadFailed(path string) *ghosts {
	g := &ghosts{}
	if path == "" {
		return g
	}
	text, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(text, &g.known) != nil {
		g.known = nil
	}
	g.known = slices.DeleteFunc(g.known, func(h ghost) bool { return h.Name.Validate() != nil })
	g.saved = slices.Clone(g.known)
	return g
}

// add gives the members with the ghosts that serf does not know, and drops those it does, or
// that failed before oldest.
func (g *ghosts) add(members []Member, oldest time.Time) []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known = slices.DeleteFunc(g.known, func(h ghost) bool {
		_, known := slices.BinarySearchFunc(members, Member{Name: h.Name}, byName)
		return known || h.Since.Before(oldest)
	})
	for _, h := range g.known {
		members = append(members, Member{Name: h.Name, Address: h.Address, State: Failed, Since: h.Since})
	}
	slices.SortFunc(members, byName)
	return members
}

func (g *ghosts) drop(host api.Name) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.known = slices.DeleteFunc(g.known, func(h ghost) bool { return h.Name == host })
}

// save writes the failed members when they are others than on disk.
func (g *ghosts) save(members []Member, path string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var failed []ghost
	for _, m := range members {
		if m.State == Failed {
			failed = append(failed, ghost{m.Name, m.Address, m.Since.Round(0).UTC()})
		}
	}
	if path == "" || slices.EqualFunc(failed, g.saved, func(a, b ghost) bool { return a.Name == b.Name && a.Since.Equal(b.Since) }) {
		return nil
	}
	text, err := json.Marshal(failed)
	if err != nil {
		return fmt.Errorf("encoding the failed hosts: %w", err)
	}
	if err := replace(path, text); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	g.saved = failed
	return nil
}

// replace writes a file beside path (0600), then renames it: a power cut leaves the old one or the new.
func replace(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".mesh-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // after the rename there is none
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close()) // only then is the new name on disk (fsync(2))
}

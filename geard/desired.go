package geard

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/internal/atomicfile"
	"gearmesh.dev/internal/failpoint"
	"gearmesh.dev/internal/loop"
)

// errStaleTerm is the refusal of a patch from a leader that has been replaced.
var errStaleTerm = errors.New("the patch is of an older leader's term")

// memory is what the host was told, in memory and on disk.
//
// A change of its pods is on disk before anybody sees it, so that nothing is ever done that a reboot
// would not do again. A change of the directory alone is written within flushDelay: nothing is
// begun on its word, links are kept with their pods (links.json), and it changes far more often.
type memory struct {
	path    string
	changed loop.Kick // wakes for each change that is not on disk yet

	mu      sync.Mutex
	state   api.Desired
	unsaved bool
}

const (
	// flushDelay is how long a change of the directory may be in memory alone.
	flushDelay = time.Second
	// flushPeriod is the time between two tries to write what could not be written.
	flushPeriod = 5 * time.Second
)

// openMemory reads what was kept. A file that cannot be read is put aside, never taken for "nothing
// is desired": pods on disk stand by themselves, and the master's next full patch fills it again.
func openMemory(dirs podstate.Dirs, log *slog.Logger) (*memory, error) {
	m := &memory{path: dirs.Desired(), changed: loop.NewKick()}
	var err error
	m.state, err = dirs.LoadDesired()
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		return m, nil
	case !podstate.Damaged(err):
		return nil, fmt.Errorf("reading the desired state: %w", err)
	}
	log.Error("the desired state on disk cannot be read; it is put aside and asked for again", "file", m.path, "err", err)
	if err := os.Rename(m.path, m.path+".corrupt"); err != nil {
		return nil, fmt.Errorf("putting the unreadable desired state aside: %w", err)
	}
	return m, nil
}

// get gives the present desired state; its slices must not be changed.
func (m *memory) get() api.Desired {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// apply takes a patch. On an error nothing has changed, in memory or on disk.
func (m *memory) apply(p api.Patch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.Term < m.state.Term {
		return fmt.Errorf("%w: %d, and %d has been seen", errStaleTerm, p.Term, m.state.Term)
	}
	next := m.state.Apply(p)
	if err := failpoint.Hit(failpoint.DesiredReceived); err != nil {
		return err
	}
	if p.Full || len(p.Pods) > 0 || p.Term > m.state.Term {
		if err := m.writeLocked(next); err != nil {
			return err
		}
	} else {
		m.unsaved = m.unsaved || !p.Empty()
		m.changed.Wake()
	}
	m.state = next
	return failpoint.Hit(failpoint.DesiredKept)
}

// merge takes a host's own word of its endpoints and tells whether it was news.
func (m *memory) merge(h api.HostEndpoints) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, news := m.state.Directory.Merge(h)
	if news {
		m.state.Directory, m.unsaved = d, true
		m.changed.Wake()
	}
	return news
}

// flush writes what is in memory alone.
func (m *memory) flush() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.unsaved {
		return nil
	}
	return m.writeLocked(m.state)
}

func (m *memory) writeLocked(next api.Desired) error {
	next.Secrets = nil // they are kept with their pods, sealed (package secrets)
	next.Gossip = nil  // they are kept by the mesh
	if err := atomicfile.WriteSummed(m.path, next, 0o600); err != nil {
		return fmt.Errorf("keeping the desired state: %w", err)
	}
	m.unsaved = false
	return nil
}

// pod finds a desired pod.
func (m *memory) pod(uid api.UID) (api.Pod, bool) {
	pods := m.get().Pods
	i := slices.IndexFunc(pods, func(p api.Pod) bool { return p.Metadata.UID == uid })
	if i < 0 {
		return api.Pod{}, false
	}
	return pods[i], true
}

package podstate

import (
	"fmt"
	"os"
	"path/filepath"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/atomicfile"
)

// changedLimit bounds changed.json: 1,000 pods with 64 links each stay far below.
const changedLimit = 256 << 20

// ChangedLinks are links of pods whose own links.json may be older. A change of an endpoint is one of the links of many
// pods, and one file of it all is on disk as soon as one pod's.
type ChangedLinks map[api.UID][]api.LinkTarget

func (d Dirs) changedLinks() string { return filepath.Join(d.State, "links", "changed.json") }

// LoadChangedLinks reads them; there are none when there is no file.
func (d Dirs) LoadChangedLinks() (ChangedLinks, error) {
	var c ChangedLinks
	err := atomicfile.ReadSummed(d.changedLinks(), changedLimit, &c)
	if Missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("loading the changed links of pods: %w", err)
	}
	return c, nil
}

// SaveChangedLinks replaces them. None takes the file away, which is right once each pod has its own.
func (d Dirs) SaveChangedLinks(c ChangedLinks) error {
	dir := filepath.Dir(d.changedLinks())
	if len(c) == 0 {
		if err := os.Remove(d.changedLinks()); err != nil && !Missing(err) {
			return fmt.Errorf("forgetting the changed links of pods: %w", err)
		}
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keeping the changed links of pods: %w", err)
	}
	return atomicfile.WriteSummed(d.changedLinks(), c, 0o644)
}

// LoadLinks reads a pod's links, as they were last resolved.
func (d Dirs) LoadLinks(uid api.UID) ([]api.LinkTarget, error) {
	changed, err := d.LoadChangedLinks()
	if err != nil {
		return nil, err
	}
	if links, ok := changed[uid]; ok {
		return links, nil
	}
	return d.LoadOwnLinks(uid)
}

// LoadOwnLinks reads a pod's links.json alone.
func (d Dirs) LoadOwnLinks(uid api.UID) ([]api.LinkTarget, error) {
	return loadSummed[[]api.LinkTarget](filepath.Join(d.Pod(uid), "links.json"))
}

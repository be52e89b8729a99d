package podstate

import (
	"net/netip"
	"path/filepath"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/atomicfile"
)

// Told is an address that a pod was told of by its host's DNS server, and may therefore connect to for a time.
type Told struct {
	Name    string     `json:"name"` // lower case, without the final dot
	Address netip.Addr `json:"address"`
	Until   time.Time  `json:"until"`
}

// LoadTold reads what a pod was told. When that is missing or damaged it is nothing: the pod will ask again.
func (d Dirs) LoadTold(uid api.UID) []Told {
	list, err := loadSummed[[]Told](filepath.Join(d.Pod(uid), "told.json"))
	if err != nil {
		return nil
	}
	for _, t := range list {
		if !t.Address.IsValid() || t.Address.Is4In6() {
			return nil
		}
	}
	return list
}

// SaveTold replaces it.
func (d Dirs) SaveTold(uid api.UID, list []Told) error {
	return atomicfile.WriteSummed(filepath.Join(d.Pod(uid), "told.json"), list, 0o644)
}

package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/store"
)

// How the keys of the mesh lie in the store: sealed, as secrets are. Masters of an earlier version wrote them as they are, and
// cannot read sealed ones.

// gossipContext binds the sealed keys to what they are.
const gossipContext = "mesh/keys"

// storedRing is a gossipRing in the store.
type storedRing struct {
	Seq   int64        `json:"seq"`
	Keys  [][]byte     `json:"keys,omitempty"` // of an earlier version
	Box   []byte       `json:"box,omitempty"`  // the keys as JSON, sealed for gossipContext
	Step  api.MeshStep `json:"step"`
	Since time.Time    `json:"since"`
}

// readRing reads the stored ring.
func readRing(it store.Item, key Sealer) (gossipRing, error) {
	if len(it.Value) == 32 { // as it was stored before keys could be changed
		r := newRing(it.Value, time.Time{})
		r.revision, r.open = it.Revision, true
		return r, nil
	}
	var s storedRing
	if err := json.Unmarshal(it.Value, &s); err != nil {
		return gossipRing{}, fmt.Errorf("reading %q from the store: %w", it.Key, err)
	}
	r := gossipRing{GossipKeys: api.GossipKeys{Seq: s.Seq, Keys: s.Keys}, Step: s.Step, Since: s.Since, revision: it.Revision, open: len(s.Box) == 0}
	if !r.open {
		if err := unseal(key, s.Box, &r.Keys); err != nil {
			return gossipRing{}, fmt.Errorf("opening %q of the store: %w", it.Key, err)
		}
	}
	if len(r.Keys) == 0 {
		return r, fmt.Errorf("reading %q from the store: there is no key in it", it.Key)
	}
	return r, nil
}

func unseal(key Sealer, box []byte, keys *[][]byte) error {
	if key == nil {
		return errNoSealer
	}
	plain, err := key.Open(box, gossipContext)
	if err != nil {
		return err
	}
	return json.Unmarshal(plain, keys)
}

var errNoSealer = errors.New("this master has no key for secrets")

// store gives the ring as it is stored.
func (r gossipRing) store(key Sealer) []byte {
	s := storedRing{Seq: r.Seq, Step: r.Step, Since: r.Since}
	if key != nil {
		s.Box = key.Seal(mustJSON(r.Keys), gossipContext)
	} else {
		s.Keys = r.Keys
	}
	return mustJSON(s)
}

// ringSealer gives what seals the ring: nothing, while there may be masters that could not read it then.
func (m *Master) ringSealer() Sealer {
	m.cache.mu.RLock()
	defer m.cache.mu.RUnlock()
	for _, other := range m.cache.masters {
		if other.Version != m.cfg.Version {
			return nil
		}
	}
	return m.cfg.Secrets
}

// sealKeys seals a ring that lies open in the store.
func (m *Master) sealKeys(ctx context.Context, lead store.Lead) {
	now, _ := m.cache.gossipRing()
	key := m.ringSealer()
	if !now.open || key == nil {
		return
	}
	rev, err := m.store.Txn(ctx, store.Op{Key: gossipKey, Value: now.store(key), If: now.revision}, lead.Fence)
	if err != nil {
		if !errors.Is(err, store.ErrConflict) { // else the cache is behind, or another leads
			m.log.Warn("sealing the keys of the mesh", "error", err)
		}
		return
	}
	m.log.Info("the keys of the mesh are sealed in the store; gear mesh rotate makes the old revisions of it worthless too")
	_ = m.cache.wait(ctx, rev) // when it fails, this master leads no more
}

package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/control"
	"gearmesh.dev/master/store"
)

// healthRecord is how the leader sees the hosts' health: only it hears them. It is written when
// it changes, which heartbeats do not, so that every master can answer with the same states.
type healthRecord struct {
	Silent map[api.Name]bool `json:"silent,omitempty"` // whose lease has run out
	Failed map[api.Name]bool `json:"failed,omitempty"` // that the mesh reports as failed
}

func (c *cache) setHealthLocked(e store.Event) error {
	c.health = healthRecord{}
	if e.Deleted {
		return nil
	}
	if err := json.Unmarshal(e.Value, &c.health); err != nil {
		return fmt.Errorf("reading %q from the store: %w", e.Key, err)
	}
	return nil
}

// setTermBaseLocked takes in what a restore has added to all terms.
func (c *cache) setTermBaseLocked(e store.Event) error {
	c.termBase = 0
	if e.Deleted {
		return nil
	}
	if err := json.Unmarshal(e.Value, &c.termBase); err != nil {
		return fmt.Errorf("reading %q from the store: %w", e.Key, err)
	}
	return nil
}

func (c *cache) termBaseNow() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.termBase
}

// health gives the hosts' health: what this master hears while it leads, else what the leader last wrote.
func (v *views) health(term int64, hosts []api.Host, now time.Time) map[api.Name]control.Health {
	if term != 0 {
		return v.pulses.health(hosts, now)
	}
	v.cache.mu.RLock()
	rec := v.cache.health
	v.cache.mu.RUnlock()
	out := make(map[api.Name]control.Health, len(hosts))
	for i := range hosts {
		name := hosts[i].Metadata.Name
		out[name] = control.Health{LeaseGood: !hosts[i].Status.Seen.IsZero() && !rec.Silent[name], MeshDown: rec.Failed[name]}
	}
	return out
}

// tellHealth writes how the hosts are when that has changed since the last leader or this one wrote it.
func (m *Master) tellHealth(ctx context.Context, lead store.Lead, v *view) {
	rec := healthRecord{Silent: map[api.Name]bool{}, Failed: map[api.Name]bool{}}
	for i := range v.Hosts {
		name := v.Hosts[i].Metadata.Name
		h := v.Health[name]
		if !h.LeaseGood && !v.Hosts[i].Status.Seen.IsZero() {
			rec.Silent[name] = true
		}
		if h.MeshDown {
			rec.Failed[name] = true
		}
	}
	m.cache.mu.RLock()
	was := m.cache.health
	m.cache.mu.RUnlock()
	if maps.Equal(was.Silent, rec.Silent) && maps.Equal(was.Failed, rec.Failed) {
		return
	}
	ops := []store.Op{{Key: healthKey, Value: mustJSON(rec), If: store.Any}, lead.Fence}
	for _, e := range hostEvents(was, rec) {
		if len(ops) < 4*maxBatch { // when all hosts vanish at once, some tell it
			ops = append(ops, m.cache.eventOp(e))
		}
	}
	_, err := m.txn(ctx, ops...)
	if err != nil && !errors.Is(err, store.ErrConflict) && ctx.Err() == nil {
		m.log.Warn("telling the other masters how the hosts are", "error", err)
	}
}

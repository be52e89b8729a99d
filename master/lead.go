package master

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/failpoint"
	"gearmesh.dev/internal/loop"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/master/control"
	"gearmesh.dev/master/store"
)

const (
	// controlPeriod is how often the controllers look without a change: leases run out by time.
	controlPeriod = time.Second
	controlSettle = 10 * time.Millisecond
	// maxBatch is how many actions are written at once. Each is at most four operations, and an
	// outside etcd takes 128 in a transaction unless told otherwise.
	maxBatch = 30
)

// leadAgain leads whenever it can until ctx ends.
func (m *Master) leadAgain(ctx context.Context) {
	for ctx.Err() == nil {
		lead, err := m.store.Campaign(ctx, m.cfg.Name)
		if err != nil {
			if ctx.Err() == nil {
				m.log.Warn("standing for leader", "error", err)
				loop.Sleep(ctx, time.Second)
			}
			continue
		}
		m.leadOnce(ctx, lead)
	}
}

func (m *Master) leadOnce(ctx context.Context, lead store.Lead) {
	defer lead.Resign()
	ctx, cancel := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	defer watcher.Wait()
	defer cancel()
	watcher.Go(func() {
		select {
		case <-lead.Lost:
			cancel()
		case <-ctx.Done():
		}
	})
	if m.cache.wait(ctx, lead.Term) != nil {
		return // plans on what the last leader left, not on less
	}
	lead.Term += m.cache.termBaseNow()
	m.pulses.restart()
	m.lead.Store(&lead)
	defer m.lead.Store(nil)
	m.log.Info("this master leads", "term", lead.Term)
	var swept time.Time
	var planned int64 // generation that had nothing to do
	loop.Run(ctx, m.work, controlSettle, controlPeriod, func(ctx context.Context) {
		if v := m.views.current(lead.Term); v.generation != planned {
			m.tellHealth(ctx, lead, v)
			if m.control(ctx, lead, v) {
				planned = v.generation
			}
		}
		if time.Since(swept) > time.Minute {
			m.sweepTokens(ctx)
			m.sweepOnce(ctx)
			swept = time.Now()
		}
	})
	m.log.Info("this master no longer leads", "term", lead.Term)
}

// control is one pass of the controllers: plan, then write what was planned. It is true when all
// was as wanted: then there is nothing to plan until something changes.
func (m *Master) control(ctx context.Context, lead store.Lead, v *view) (idle bool) {
	actions := v.Plan(pki.NewUID)
	if len(actions) == 0 {
		return true
	}
	for len(actions) > 0 {
		ops, n := batchOf(actions)
		if err := failpoint.Hit(failpoint.MasterPlanned); err != nil {
			m.log.Warn("carrying out a plan", "error", err)
			return false
		}
		rev, err := m.store.Txn(ctx, append(ops, lead.Fence)...)
		switch {
		case errors.Is(err, store.ErrConflict):
			m.work.Wake() // someone else wrote; plan again on what is there now
			loop.Sleep(ctx, controlSettle)
			return false
		case err != nil:
			m.log.Warn("carrying out a plan", "error", err)
			return false
		}
		if err := failpoint.Hit(failpoint.MasterAssigned); err != nil {
			m.log.Warn("carrying out a plan", "error", err)
			return false
		}
		for _, a := range actions[:n] {
			m.log.Info("controller", "op", string(a.Op), "object", a.Object.Head().Key().String(),
				"reason", string(a.Reason), "why", a.Why)
		}
		if m.cache.wait(ctx, rev) != nil {
			return false
		}
		actions = actions[n:]
	}
	m.work.Wake() // what was written is the ground of the next plan
	return false
}

// batchOf gives the operations of as many of the first actions as go into one transaction, in
// which no key may occur twice.
func batchOf(actions []control.Action) (ops []store.Op, n int) {
	used := map[string]bool{}
	for n < len(actions) && n < maxBatch {
		more := opsOf(actions[n])
		if used[more[0].Key] {
			break
		}
		for _, op := range more {
			used[op.Key] = true
		}
		ops = append(ops, more...)
		n++
	}
	return ops, n
}

// opsOf gives the writes of one action. What belongs to a resource goes with it.
func opsOf(a control.Action) []store.Op {
	h := a.Object.Head()
	key := storeKey(h.Key())
	if a.Op == control.Put {
		data, err := encode(a.Object)
		if err != nil { // api types always encode
			return []store.Op{{Kind: store.Check, Key: key, If: h.Metadata.Revision}}
		}
		return []store.Op{{Key: key, Value: data, If: h.Metadata.Revision}}
	}
	ops := []store.Op{{Kind: store.Delete, Key: key, If: h.Metadata.Revision}}
	switch h.Kind {
	case api.KindPod:
		ops = append(ops, erase(podStatusPrefix+string(h.Metadata.Project)+"/"+string(h.Metadata.Name)))
	case api.KindSecret:
		ops = append(ops, erase(sealedKey(h.Key())))
	case api.KindHost:
		name := string(h.Metadata.Name)
		ops = append(ops, erase(endpointsPrefix+name), erase(hostInfoPrefix+name), erase(hostKeyPrefix+name))
	}
	return ops
}

func erase(key string) store.Op { return store.Op{Kind: store.Delete, Key: key, If: store.Any} }

// sweepTokens removes join tokens that can no longer be used.
func (m *Master) sweepTokens(ctx context.Context) {
	items, _, err := m.store.List(ctx, tokenPrefix)
	if err != nil {
		m.log.Warn("sweeping join tokens", "error", err)
		return
	}
	for _, it := range items {
		var t tokenRecord
		if json.Unmarshal(it.Value, &t) == nil && time.Now().Before(t.Expires) {
			continue
		}
		if _, err := m.store.Txn(ctx, store.Op{Kind: store.Delete, Key: it.Key, If: it.Revision}); err != nil {
			m.log.Warn("sweeping join tokens", "error", err)
		}
	}
}

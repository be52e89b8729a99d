package master

import (
	"context"
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
	controlGap    = 10 * time.Millisecond
	// controlRest is how many times longer than a plan took the next one waits: in a large cluster under many changes,
	// requests come first.
	controlRest = 4
	// maxBatch is how many actions are written at once. Each is at most five operations and an event, and an
	// outside etcd takes 128 in a transaction unless told otherwise.
	maxBatch = 20
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
	watcher.Go(func() { m.announce(ctx, lead.Term) })
	m.log.Info("this master leads", "term", lead.Term)
	var swept time.Time
	var planned int64 // generation that had nothing to do
	moves := balancer{rests: control.NewRests(time.Now())}
	loop.Run(ctx, m.work, controlGap, controlPeriod, func(ctx context.Context) {
		start := time.Now()
		v := m.views.current(lead.Term)
		moves.rests.Look(v.View)
		m.cache.signals.wake(m.pulses.overdue(m.cache.hostsWithSingletons())...)
		if v.generation != planned {
			m.tellHealth(ctx, lead, v)
			actions := v.Plan(pki.NewUID)
			spent := time.Since(start)
			moves.rests.Note(v.Now, actions)
			if m.control(ctx, lead, actions) {
				planned = v.generation
			}
			loop.Sleep(ctx, controlRest*spent)
		}
		if v.generation == planned {
			m.rebalance(ctx, lead, v, &moves)
		}
		m.sealKeys(ctx, lead)
		m.turnKeys(ctx, lead)
		if time.Since(swept) > time.Minute {
			m.sweepTokens(ctx)
			m.sweepPending(ctx)
			m.sweepRevoked(ctx)
			m.sweepOnce(ctx)
			m.sweepEvents(ctx)
			swept = time.Now()
		}
	})
	m.log.Info("this master no longer leads", "term", lead.Term)
}

// control writes what was planned. It is true when all was as wanted: then there is nothing to plan until something changes.
func (m *Master) control(ctx context.Context, lead store.Lead, actions []control.Action) (idle bool) {
	if len(actions) == 0 {
		return true
	}
	for len(actions) > 0 {
		ops, n := batchOf(actions, m.recordOf)
		if err := failpoint.Hit(failpoint.MasterPlanned); err != nil {
			m.log.Warn("carrying out a plan", "error", err)
			return false
		}
		rev, err := m.store.Txn(ctx, append(ops, lead.Fence)...)
		switch {
		case errors.Is(err, store.ErrConflict):
			m.work.Wake() // someone else wrote; plan again on what is there now
			loop.Sleep(ctx, controlGap)
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
// which no key may occur twice, each with what tells of it.
func batchOf(actions []control.Action, record func(control.Action) store.Op) (ops []store.Op, n int) {
	used := map[string]bool{}
	for n < len(actions) && n < maxBatch {
		more := append(opsOf(actions[n]), record(actions[n]))
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
	switch a.Op {
	case control.Put:
		return []store.Op{putOf(a.Object, h.Metadata.Revision)}
	case control.Rename:
		return append([]store.Op{putOf(a.Object, store.Absent)}, removalOf(a.From, h.Metadata.Revision)...)
	}
	return removalOf(h.Key(), h.Metadata.Revision)
}

// putOf writes a resource if the stored revision is the given one.
func putOf(r api.Resource, revision int64) store.Op {
	data, err := encode(r)
	if err != nil { // api types always encode
		return store.Op{Kind: store.Check, Key: storeKey(r.Head().Key()), If: revision}
	}
	return store.Op{Key: storeKey(r.Head().Key()), Value: data, If: revision}
}

// removalOf removes a resource if the stored revision is the given one.
func removalOf(key api.Key, revision int64) []store.Op {
	ops := []store.Op{{Kind: store.Delete, Key: storeKey(key), If: revision}}
	switch key.Kind {
	case api.KindPod:
		ops = append(ops, erase(podStatusPrefix+string(key.Project)+"/"+string(key.Name)))
	case api.KindService:
		ops = append(ops, store.Op{Kind: store.DeleteAll, Key: historyOf(key), If: store.Any})
	case api.KindSecret:
		ops = append(ops, erase(sealedKey(key)))
	case api.KindHost:
		ops = append(ops, expulsion(key.Name)...)
		ops = append(ops, erase(hostInfoPrefix+string(key.Name)))
	}
	return ops
}

func erase(key string) store.Op { return store.Op{Kind: store.Delete, Key: key, If: store.Any} }

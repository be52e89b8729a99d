package master

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/pki"
	"gearmesh.dev/internal/seal"
	"gearmesh.dev/master/store"
)

// The change of the gossip's key, step by step.

// gossipRing is the mesh's keys as they are stored, and where a change of them stands. Whoever leads takes the next step, so a change goes
// on over any change of the leader.
type gossipRing struct {
	api.GossipKeys
	Step     api.MeshStep `json:"step"`
	Since    time.Time    `json:"since"`
	revision int64        // of the store
	open     bool         // the keys are not sealed there
}

// newRing is the ring of a new cluster.
func newRing(key []byte, now time.Time) gossipRing {
	return gossipRing{GossipKeys: api.GossipKeys{Seq: 1, Keys: [][]byte{key}}, Step: api.MeshSteady, Since: now}
}

// rotate begins a change: the new key is accepted by all before anybody uses it.
func (r gossipRing) rotate(key []byte, now time.Time) gossipRing {
	return r.to(api.MeshInstall, now, r.Keys[0], key)
}

// next gives the step that follows when all living hosts have taken this one.
func (r gossipRing) next(now time.Time) gossipRing {
	switch {
	case r.Step == api.MeshInstall && len(r.Keys) == 2:
		return r.to(api.MeshUse, now, r.Keys[1], r.Keys[0])
	case r.Step == api.MeshUse:
		return r.to(api.MeshSteady, now, r.Keys[0])
	}
	return r
}

func (r gossipRing) to(step api.MeshStep, now time.Time, keys ...[]byte) gossipRing {
	return gossipRing{GossipKeys: api.GossipKeys{Seq: r.Seq + 1, Keys: keys}, Step: step, Since: now.UTC().Truncate(time.Second), revision: r.revision}
}

// waits gives the living hosts that have not taken the step, and those that are lost, sorted. A host that the mesh or the master still hears is
// alive: without the key it would be cut off from the one that hears it. One that has never reported begins with the key that it joined with.
func (r gossipRing) waits(hosts []api.Host, status func(*api.Host) api.HostState, has map[api.Name]int64) (behind, gone []api.Name) {
	for i := range hosts {
		name := hosts[i].Metadata.Name
		switch state := status(&hosts[i]); {
		case has[name] >= r.Seq:
		case state == api.HostLost:
			gone = append(gone, name)
		case state != api.HostJoining:
			behind = append(behind, name)
		}
	}
	slices.Sort(behind)
	slices.Sort(gone)
	return behind, gone
}

// setGossipLocked takes in the stored ring. One that does not open is none: who needs it reads it from the store, and gets the error.
func (c *cache) setGossipLocked(e store.Event) error {
	c.gossip = gossipRing{}
	if e.Deleted {
		return nil
	}
	r, err := readRing(e.Item, c.sealer)
	if errors.Is(err, seal.ErrOpen) || errors.Is(err, errNoSealer) {
		return nil
	}
	c.gossip = r
	return err
}

// gossipKeys gives what hosts are told; nil before there is a key.
func (c *cache) gossipKeys() *api.GossipKeys {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if len(c.gossip.Keys) == 0 {
		return nil
	}
	keys := c.gossip.GossipKeys
	return &keys
}

// gossipRing gives the ring, and which keys each host has.
func (c *cache) gossipRing() (gossipRing, map[api.Name]int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	has := map[api.Name]int64{}
	for name, info := range c.hostInfos {
		has[name] = info.Gossip
	}
	return c.gossip, has
}

// gossipNow reads the ring from the store, and makes it when the first host joins.
func (m *Master) gossipNow(ctx context.Context) (gossipRing, error) {
	it, err := m.store.Get(ctx, gossipKey)
	if errors.Is(err, store.ErrNotFound) {
		r := newRing(pki.NewGossipKey(), time.Now().UTC().Truncate(time.Second))
		_, err = m.store.Txn(ctx, store.Op{Key: gossipKey, Value: r.store(m.ringSealer()), If: store.Absent})
		if err == nil {
			return r, nil
		}
		if errors.Is(err, store.ErrConflict) { // another host joined at the same moment
			it, err = m.store.Get(ctx, gossipKey)
		}
	}
	if err != nil {
		return gossipRing{}, err
	}
	return readRing(it, m.cfg.Secrets)
}

// turnKeys takes the next step of a change of the key, when all living hosts have taken the last one.
func (m *Master) turnKeys(ctx context.Context, lead store.Lead) {
	now, _ := m.cache.gossipRing()
	if now.Step == api.MeshSteady || len(now.Keys) == 0 {
		return
	}
	if behind, _ := m.gossipWaits(now); len(behind) > 0 {
		return
	}
	next := now.next(time.Now())
	rev, err := m.store.Txn(ctx, store.Op{Key: gossipKey, Value: next.store(m.ringSealer()), If: now.revision}, lead.Fence)
	if err != nil {
		if !errors.Is(err, store.ErrConflict) { // else the cache is behind, or another leads
			m.log.Warn("changing the key of the mesh", "error", err)
		}
		return
	}
	m.log.Info("the key of the mesh is changed", "step", string(next.Step), "seq", next.Seq)
	_ = m.cache.wait(ctx, rev) // when it fails, this master leads no more
}

// gossipWaits gives for whom a step waits, and for whom it does not.
func (m *Master) gossipWaits(r gossipRing) (behind, gone []api.Name) {
	v := m.views.current(m.term())
	_, has := m.cache.gossipRing()
	return r.waits(v.Hosts, func(h *api.Host) api.HostState { return v.HostStatus(h).State }, has)
}

// meshKeys answers GET /v1/mesh.
func (m *Master) meshKeys(c *call) error {
	r, _ := m.cache.gossipRing()
	return c.answer(http.StatusOK, m.tellRing(r))
}

func (m *Master) tellRing(r gossipRing) api.MeshKeys {
	out := api.MeshKeys{Seq: r.Seq, Step: r.Step, Since: r.Since}
	if r.Step == "" {
		out.Step = api.MeshSteady // no host has joined yet
	}
	out.Waits, out.Gone = m.gossipWaits(r)
	return out
}

// rotateMesh answers POST /v1/mesh/rotate: it begins a change of the key.
func (m *Master) rotateMesh(c *call) error {
	now, err := m.gossipNow(c.Context())
	if err != nil {
		return err
	}
	if now.Step != api.MeshSteady {
		behind, _ := m.gossipWaits(now)
		return api.Errorf(api.CodeExists, "the key is being changed already: step %s, which waits for the hosts %v; a host that is off for good is removed by gear host remove", now.Step, behind)
	}
	next := now.rotate(pki.NewGossipKey(), time.Now())
	if _, err := m.txn(c.Context(), store.Op{Key: gossipKey, Value: next.store(m.ringSealer()), If: now.revision}); err != nil {
		return err
	}
	c.object, c.result = "the key of the mesh", "rotation begun"
	return c.answer(http.StatusOK, m.tellRing(next))
}

// meshRoutes are the routes of the mesh's keys.
func (m *Master) meshRoutes() []route {
	answer := reflect.TypeFor[api.MeshKeys]()
	return []route{
		{id: "getMesh", method: "GET", path: "/v1/mesh", who: forPeople, summary: "Where the keys of the mesh stand", answer: answer, handle: m.meshKeys},
		{id: "rotateMesh", method: "POST", path: "/v1/mesh/rotate", prompt: true, who: forPeople, audit: true, summary: "Change the key of the mesh, step by step", answer: answer, handle: m.rotateMesh},
	}
}

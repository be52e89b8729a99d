package master

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/loop"
	"gearmesh.dev/master/control"
)

// viewAge is how long a view may be used as it is: ages are counted in seconds, and leases run
// out by time.
const viewAge = time.Second

// view is the cluster at one moment: what the controllers and the statuses are computed from.
type view struct {
	*control.View
	generation int64 // two views of one generation differ in nothing but their time
	version    int64 // of the cache
	pulseSeq   int64
	cost       time.Duration // what it took to build
}

// views builds the view when it is asked for and the cache or the hosts' health have changed.
type views struct {
	cache  *cache
	pulses *pulses

	latest atomic.Pointer[view] // as now, for those who do not wait for a newer one to be made
	stale  loop.Kick            // wakes who makes a newer one for them
	hashes control.Hashes

	mu  sync.Mutex
	now *view
}

// current gives a view that is not older than the cache.
func (v *views) current(term int64) *view {
	v.mu.Lock()
	defer v.mu.Unlock()
	now, pulseSeq := time.Now(), v.pulses.seqNow()
	if o := v.now; o != nil && o.Term == term && o.version == v.cache.versionNow() && o.pulseSeq == pulseSeq {
		if now.Sub(o.Now) < viewAge {
			return o
		}
		if maps.Equal(o.Health, v.health(term, o.Hosts, now)) {
			return v.keepLocked(o.at(now))
		}
	}
	return v.keepLocked(v.build(term, now, pulseSeq))
}

func (v *views) keepLocked(now *view) *view {
	v.now = now
	v.latest.Store(now)
	return now
}

// at gives the same view at another time.
func (v *view) at(now time.Time) *view {
	next, inner := *v, *v.View
	inner.Now = now
	next.View = &inner
	return &next
}

func (v *views) build(term int64, now time.Time, pulseSeq int64) *view {
	s, version, _ := v.cache.snapshot(v.pulses)
	s.Now, s.Term, s.Hashes = now, term, &v.hashes
	s.Health = v.health(term, s.Hosts, now)
	next := &view{View: control.NewView(s), generation: 1, version: version, pulseSeq: pulseSeq}
	if v.now != nil {
		next.generation = v.now.generation + 1
	}
	next.cost = time.Since(now)
	return next
}

// staleness is how much longer than its making a view may serve reads before a newer one is made for them, and cheapView is what may be
// made for each of them.
const (
	staleness = 20
	cheapView = 2 * time.Millisecond
)

// recent gives a view for a read. In a large cluster, where making one takes a while, it may be a little older than the cache: reads
// and writes do not wait for one, and together take no more than a twentieth of a core for it.
func (v *views) recent(term int64) *view {
	o := v.latest.Load()
	if o == nil || o.Term != term || o.cost <= cheapView || time.Since(o.Now) >= viewAge {
		return v.current(term)
	}
	if time.Since(o.Now) >= min(staleness*o.cost, viewAge/2) {
		v.stale.Wake()
	}
	return o
}

// refresh makes a newer view for reads when the last one gets old.
func (m *Master) refresh(ctx context.Context) {
	for {
		select {
		case <-m.views.stale:
			m.views.current(m.term())
		case <-ctx.Done():
			return
		}
	}
}

func (c *cache) versionNow() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.version
}

// snapshot copies the cluster out of the cache, with what the hosts have last said.
func (c *cache) snapshot(p *pulses) (s control.Snapshot, version, revision int64) {
	from, draft := c.table.draft()
	s, version, revision = c.snapshotNow(from, draft)
	p.see(s.Hosts)
	return s, version, revision
}

// snapshotNow is the part of a snapshot for which the cache is held. A host's status has in it when the host was written last, but not when it
// was heard.
func (c *cache) snapshotNow(from *podCopy, draft []api.Pod) (s control.Snapshot, version, revision int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s = control.Snapshot{
		Projects: values[api.Project](c.objects[api.KindProject]),
		Services: values[api.Service](c.objects[api.KindService]),
		Aliases:  values[api.Alias](c.objects[api.KindAlias]),
		Secrets:  values[api.Secret](c.objects[api.KindSecret]),
		Hosts:    values[api.Host](c.objects[api.KindHost]),
		Pods:     c.table.finish(from, draft), // Status.Seen is that of the host, and not set here
		// A pod that is in the store has a lower one, because its write came after its plan. A restore adds to termBase
		// what makes up for revisions that begin anew.
		Fence: c.termBase + c.revision,
	}
	for i := range s.Hosts {
		s.Hosts[i].Status = c.hostInfos[s.Hosts[i].Metadata.Name].status()
	}
	return s, c.version, c.revision
}

// values copies the resources of one kind out of the cache.
func values[T any](from map[api.Key]api.Resource) []T {
	out := make([]T, 0, len(from))
	for _, r := range from {
		if v, ok := r.(any).(*T); ok {
			out = append(out, *v)
		}
	}
	return out
}

// podStatusLocked gives what a pod's host last said of it.
func (c *cache) podStatusLocked(p *api.Pod, seen *pulses) api.PodStatus {
	rec, ok := c.statuses[p.Key()]
	if !ok || rec.UID != p.Metadata.UID {
		return api.PodStatus{}
	}
	rec.Status.Seen = later(seen.seen(p.Spec.Host), c.hostInfos[p.Spec.Host].Seen)
	return rec.Status
}

// status gives what a host last said of itself, or nothing.
func (info hostInfo) status() api.HostStatus {
	out := api.HostStatus{Version: info.Version, Capacity: info.Capacity, HostIPv6: info.HostIPv6, HostOffer: info.HostOffer, Seen: info.Seen}
	if len(info.Conditions) > 0 {
		out.Reason, out.Message = info.Conditions[0].Reason, info.Conditions[0].Message
	}
	return out
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a.UTC().Truncate(time.Millisecond)
	}
	return b
}

// withStatus gives a copy of a resource with its status as of now.
func (m *Master) withStatus(r api.Resource) api.Resource {
	return m.withStatusOf(m.views.recent(m.term()), r)
}

// withStatusOf gives a copy of a resource with its status in a view.
func (m *Master) withStatusOf(v *view, r api.Resource) api.Resource {
	switch r := bare(r).(type) {
	case *api.Service:
		r.Status = v.ServiceStatus(r)
		return r
	case *api.Host:
		m.cache.mu.RLock()
		r.Status = m.cache.hostInfos[r.Metadata.Name].status()
		m.cache.mu.RUnlock()
		if !r.Status.Seen.IsZero() {
			r.Status.Seen = later(m.pulses.seen(r.Metadata.Name), r.Status.Seen)
		}
		r.Status = v.HostStatus(r)
		return r
	case *api.Pod:
		m.cache.mu.RLock()
		r.Status = m.cache.podStatusLocked(r, m.pulses)
		m.cache.mu.RUnlock()
		r.Status = v.PodStatus(r)
		return r
	case *api.Alias:
		r.Status = v.AliasStatus(r)
		return r
	default:
		return r
	}
}

// derived remembers the statuses that follow from other resources and from time, to tell the
// watches when one becomes another.
type derived struct {
	generation int64
	last       map[api.Key]told
}

// told is a status that the watches know. The resource's own revision belongs to it: at a change
// of the resource they were told a status that this has not seen.
type told struct {
	revision int64
	status   any
}

// changed gives the resources whose status is another than at the last call. Statuses are
// compared without their ages, or a host that is down would be news each second.
func (d *derived) changed(v *view) []api.Key {
	if d.generation == v.generation {
		return nil
	}
	d.generation = v.generation
	now := statusesOf(v)
	var out []api.Key
	for key, status := range now {
		before, known := d.last[key]
		if known && before != status || !known && d.last != nil && key.Kind != api.KindPod {
			out = append(out, key)
		}
	}
	slices.SortFunc(out, func(a, b api.Key) int { return cmp.Compare(a.String(), b.String()) })
	d.last = now
	return out
}

func statusesOf(v *view) map[api.Key]told {
	now := map[api.Key]told{}
	for i := range v.Services {
		s := v.ServiceStatus(&v.Services[i])
		if s.Reason == api.ReasonHostSilent || s.Reason == api.ReasonHostLost {
			s.Message = ""
		}
		now[v.Services[i].Key()] = told{v.Services[i].Metadata.Revision, s}
	}
	for i := range v.Aliases {
		now[v.Aliases[i].Key()] = told{v.Aliases[i].Metadata.Revision, v.AliasStatus(&v.Aliases[i])}
	}
	states := map[api.Name]api.HostState{}
	for i := range v.Hosts {
		s := v.HostStatus(&v.Hosts[i])
		s.Seen, s.Message = time.Time{}, ""
		states[v.Hosts[i].Metadata.Name] = s.State
		now[v.Hosts[i].Key()] = told{v.Hosts[i].Metadata.Revision, string(mustJSON(s))} // it has lists, which do not compare
	}
	for i := range v.Pods { // their own changes are told by the cache; those of their hosts are not
		now[v.Pods[i].Key()] = told{0, states[v.Pods[i].Spec.Host]}
	}
	return now
}

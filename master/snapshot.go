package master

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"gearmesh.dev/api"
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
	dirSeq     int64
	pulseSeq   int64
	directory  *directory
}

// directory is one state of api.Directory; seq tells two apart.
type directory struct {
	api.Directory
	seq int64
}

// views builds the view when it is asked for and the cache or the hosts' health have changed.
type views struct {
	cache  *cache
	pulses *pulses

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
			v.now = o.at(now)
			return v.now
		}
	}
	v.now = v.build(term, now, pulseSeq)
	return v.now
}

// at gives the same view at another time.
func (v *view) at(now time.Time) *view {
	next, inner := *v, *v.View
	inner.Now = now
	next.View = &inner
	return &next
}

func (v *views) build(term int64, now time.Time, pulseSeq int64) *view {
	s, parts := v.cache.snapshot(v.pulses)
	s.Now, s.Term = now, term
	s.Health = v.health(term, s.Hosts, now)
	next := &view{View: control.NewView(s), generation: 1, version: parts.version, dirSeq: parts.dirSeq, pulseSeq: pulseSeq}
	if v.now != nil {
		next.generation = v.now.generation + 1
	}
	if v.now != nil && v.now.dirSeq == next.dirSeq {
		next.directory = v.now.directory
	} else {
		next.directory = &directory{next.Directory(parts.endpoints), parts.dirSeq}
		next.directory.Masters = parts.masters
	}
	return next
}

// snapshotParts is what a view needs beside control's snapshot.
type snapshotParts struct {
	version, dirSeq int64
	revision        int64
	endpoints       []api.HostEndpoints
	masters         []api.MasterEntry
}

func (c *cache) versionNow() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.version
}

// snapshot copies the cluster out of the cache, with what the hosts have last said.
func (c *cache) snapshot(p *pulses) (control.Snapshot, snapshotParts) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s := control.Snapshot{
		Projects: values[api.Project](c.objects[api.KindProject]),
		Services: values[api.Service](c.objects[api.KindService]),
		Aliases:  values[api.Alias](c.objects[api.KindAlias]),
		Secrets:  values[api.Secret](c.objects[api.KindSecret]),
		Hosts:    values[api.Host](c.objects[api.KindHost]),
		Pods:     c.table.all(), // Status.Seen is that of the host, and not set here
	}
	for i := range s.Hosts {
		s.Hosts[i].Status = c.hostStatusLocked(s.Hosts[i].Metadata.Name, p)
	}
	parts := snapshotParts{version: c.version, dirSeq: c.dirSeq, revision: c.revision, masters: c.mastersLocked()}
	for _, e := range c.endpoints {
		parts.endpoints = append(parts.endpoints, e)
	}
	slices.SortFunc(parts.endpoints, func(a, b api.HostEndpoints) int { return cmp.Compare(a.Host, b.Host) })
	return s, parts
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

// hostStatusLocked gives what a host last said of itself.
func (c *cache) hostStatusLocked(name api.Name, seen *pulses) api.HostStatus {
	info, ok := c.hostInfos[name]
	if !ok {
		return api.HostStatus{}
	}
	out := api.HostStatus{Version: info.Version, Capacity: info.Capacity, HostOffer: info.HostOffer, Seen: later(seen.seen(name), info.Seen)}
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
	v := m.views.current(m.term())
	switch r := bare(r).(type) {
	case *api.Service:
		r.Status = v.ServiceStatus(r)
		return r
	case *api.Host:
		m.cache.mu.RLock()
		r.Status = m.cache.hostStatusLocked(r.Metadata.Name, m.pulses)
		m.cache.mu.RUnlock()
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

package master

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/loop"
)

// Every host is told of each change of the directory. With many hosts that takes a while, in which the next change joins: the
// master wakes their streams a few at a time, so that requests are served in between, and begins anew when it is through.
const (
	announceGap     = 20 * time.Millisecond
	announcePerHost = 200 * time.Microsecond // 5,000 hosts: once a second
	announceAtOnce  = 20                     // hosts, of which a small cluster has no more
)

// directory is one state of api.Directory. It never changes; a pointer tells two apart.
type directory struct {
	api.Directory
	full func() []byte // all of it as a part of a patch, encoded once
}

func newDirectory(d api.Directory) *directory {
	return &directory{d, sync.OnceValue(func() []byte { return directoryPart(api.FullPatch(api.Desired{Directory: d})) })}
}

// announcer keeps the directory as hosts are told it, and wakes their streams when it has changed.
type announcer struct {
	cache *cache
	views *views

	making sync.Mutex // one at a time makes a newer directory

	mu      sync.Mutex
	term    int64
	seq     int64 // of the cache's count of changes that now has
	now     *directory
	steps   map[*directory]*step // to now
	streams map[loop.Kick]bool   // that are open; each is woken when now is another
}

// step leads from one directory to the next: the same for all hosts.
type step struct {
	api.Patch
	part []byte // of the line that is sent, without what is removed
}

func newAnnouncer(c *cache, v *views) *announcer {
	return &announcer{cache: c, views: v, streams: map[loop.Kick]bool{}}
}

// join gives what wakes a stream when there is another directory, and what the stream calls at its end.
func (a *announcer) join() (woken loop.Kick, leave func()) {
	woken = loop.NewKick()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.streams[woken] = true
	return woken, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.streams, woken)
	}
}

// after gives the newest directory, and the step to it from the one that a host has. The step is nil when the host has none yet, or the
// newest.
func (a *announcer) after(from *directory, term int64) (now *directory, s *step) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now == nil || a.term != term {
		a.mu.Unlock()
		a.refresh(term)
		a.mu.Lock()
	}
	if from != nil && from != a.now {
		s = a.stepLocked(from)
	}
	return a.now, s
}

// stepLocked gives the step to the newest directory. It is the same for most hosts, and made once.
func (a *announcer) stepLocked(from *directory) *step {
	s := a.steps[from]
	if s == nil { // more than one announcement ago
		p := api.Diff(api.Desired{Directory: from.Directory}, api.Desired{Directory: a.now.Directory})
		s = &step{p, directoryPart(p)}
		a.steps[from] = s
	}
	return s
}

// refresh takes in what has changed, and tells whether that was anything. Streams go on meanwhile with what there was.
func (a *announcer) refresh(term int64) bool {
	a.making.Lock()
	defer a.making.Unlock()
	a.mu.Lock()
	was, current := a.now, a.now != nil && a.term == term && a.seq == a.cache.dirSeqNow()
	a.mu.Unlock()
	if current {
		return false
	}
	seq, endpoints, masters, revoked := a.cache.directoryParts()
	d := a.views.current(term).Directory(endpoints) // of hosts and services it has what the endpoints are of, or newer
	d.Masters, d.Revoked = masters, revoked
	next, steps := was, map[*directory]*step{}
	if was == nil {
		next = newDirectory(d)
	} else if p := api.Diff(api.Desired{Directory: was.Directory}, api.Desired{Directory: d}); !p.Empty() {
		next, steps[was] = newDirectory(d), &step{p, directoryPart(p)}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seq, a.term = seq, term
	if next == was {
		return false
	}
	a.now, a.steps = next, steps
	return true
}

// announce refreshes the directory at each change while this master leads, and wakes all streams for it.
func (m *Master) announce(ctx context.Context, term int64) {
	loop.Run(ctx, m.announces, announceGap, time.Minute, func(ctx context.Context) {
		if m.announcer.refresh(term) {
			m.announcer.wake(ctx)
		}
	})
}

// wake wakes all streams, a few at a time.
func (a *announcer) wake(ctx context.Context) {
	a.mu.Lock()
	all := slices.Collect(maps.Keys(a.streams))
	a.mu.Unlock()
	for some := range slices.Chunk(all, announceAtOnce) {
		for _, stream := range some {
			stream.Wake()
		}
		loop.Sleep(ctx, time.Duration(len(some))*announcePerHost)
	}
}

// directoryPart encodes the lists of a patch that are of the directory, as the last members of a JSON object and its end; nil when there
// is none.
func directoryPart(p api.Patch) []byte {
	all := mustJSON(struct {
		Services  []api.ServiceEntry  `json:"services,omitempty"`
		Hosts     []api.HostEntry     `json:"hosts,omitempty"`
		Aliases   []api.AliasEntry    `json:"aliases,omitempty"`
		Endpoints []api.HostEndpoints `json:"endpoints,omitempty"`
		Masters   []api.MasterEntry   `json:"masters,omitempty"`
		Revoked   []api.RevokedEntry  `json:"revoked,omitempty"`
	}{p.Services, p.Hosts, p.Aliases, p.Endpoints, p.Masters, p.Revoked})
	if len(all) == len("{}") {
		return nil
	}
	return all[1:]
}

// directoryParts gives what the directory needs beside a view, and the number of changes that it has of it.
func (c *cache) directoryParts() (seq int64, endpoints []api.HostEndpoints, masters []api.MasterEntry, revoked []api.RevokedEntry) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	endpoints = make([]api.HostEndpoints, 0, len(c.endpoints))
	for _, e := range c.endpoints {
		endpoints = append(endpoints, e)
	}
	slices.SortFunc(endpoints, func(a, b api.HostEndpoints) int { return cmp.Compare(a.Host, b.Host) })
	return c.dirSeq, endpoints, c.mastersLocked(), c.revokedLocked()
}

func (c *cache) dirSeqNow() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.dirSeq
}

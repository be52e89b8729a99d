package geard

import (
	"log/slog"
	"maps"
	"os"
	"reflect"
	"sync"

	"golang.org/x/sync/errgroup"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

// fewLinks is of how many pods the links are written to their own files at once; those of more are written to one file first.
const fewLinks = 4

// linkFiles keeps the links of this host's pods on disk. They are there before they are laid, so that a reboot lays no older ones;
// yet a thousand files take a second to reach a disk, and one file takes no longer than one. So what changes for many pods is one file,
// which counts before theirs, and theirs follow when there is time (settle).
type linkFiles struct {
	dirs podstate.Dirs

	mu      sync.Mutex
	changed podstate.ChangedLinks // as the one file has them
	settled map[api.UID]bool      // of these, those whose own files have them too
}

// newLinkFiles reads what was not settled. What cannot be read is forgotten: the links are resolved again anyway.
func newLinkFiles(dirs podstate.Dirs, log *slog.Logger) *linkFiles {
	f := &linkFiles{dirs: dirs, settled: map[api.UID]bool{}}
	var err error
	if f.changed, err = dirs.LoadChangedLinks(); err != nil {
		log.Warn("the last change of links cannot be read, and they are resolved again", "err", err)
		if err := dirs.SaveChangedLinks(nil); err != nil {
			log.Warn("pods that start now resolve their links themselves", "err", err)
		}
	}
	return f
}

// load gives a pod's links.
func (f *linkFiles) load(uid api.UID) ([]api.LinkTarget, error) {
	f.mu.Lock()
	links, ok := f.changed[uid]
	f.mu.Unlock()
	if ok {
		return links, nil
	}
	return f.dirs.LoadOwnLinks(uid)
}

// save brings links of pods to disk, and gives those that it could not.
func (f *linkFiles) save(links podstate.ChangedLinks) map[api.UID]error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(links) <= fewLinks && len(f.changed) == 0 {
		return f.saveOwn(links)
	}
	next := maps.Clone(f.changed)
	if next == nil {
		next = podstate.ChangedLinks{}
	}
	maps.Copy(next, links)
	failed := map[api.UID]error{}
	if err := f.dirs.SaveChangedLinks(next); err != nil {
		for uid := range links {
			failed[uid] = err
		}
		return failed
	}
	f.changed = next
	for uid := range links {
		delete(f.settled, uid)
	}
	return failed
}

// saveOwn writes files of pods side by side.
func (f *linkFiles) saveOwn(links podstate.ChangedLinks) map[api.UID]error {
	failed := map[api.UID]error{}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(relinkers)
	for uid, l := range links {
		g.Go(func() error {
			if err := f.dirs.SaveLinks(uid, l); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed[uid] = err
			}
			return nil
		})
	}
	_ = g.Wait() // what failed is in failed
	return failed
}

// settle writes what is in the one file to the pods' own, a few at a time for as long as there is time, and then takes it away.
func (f *linkFiles) settle(more func() bool) error {
	for more() {
		if done, err := f.settleSome(); done || err != nil {
			return err
		}
	}
	return nil
}

func (f *linkFiles) settleSome() (done bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.changed) == 0 {
		return true, nil
	}
	some := podstate.ChangedLinks{}
	for uid, l := range f.changed {
		if !f.settled[uid] && len(some) < 4*relinkers {
			some[uid] = l
		}
	}
	if len(some) == 0 {
		if err := f.dirs.SaveChangedLinks(nil); err != nil {
			return false, err
		}
		f.changed, f.settled = nil, map[api.UID]bool{}
		return true, nil
	}
	failed := f.saveOwn(some)
	for uid := range some {
		if err := failed[uid]; err != nil && !f.gone(uid) {
			return false, err
		}
		f.settled[uid] = true
	}
	return false, nil
}

// gone tells whether there is nothing of a pod any more that could have links.
func (f *linkFiles) gone(uid api.UID) bool {
	_, err := os.Stat(f.dirs.Pod(uid))
	return podstate.Missing(err)
}

// differ tells whether a pod's links on disk are others than these.
func differ(old []api.LinkTarget, err error, want []api.LinkTarget) bool {
	return err != nil || !reflect.DeepEqual(old, want)
}

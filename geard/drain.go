package geard

import (
	"slices"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/linker"
)

// drain is what drains of a pod's links, as it is on disk.
type drain struct {
	known bool // it was read
	list  []linker.Drain
}

// due tells whether some backend's time is over.
func (d drain) due(now time.Time) bool {
	over, _ := linker.Over(d.list, now)
	return len(over) > 0
}

// draining notes which backends drain, on disk before anything else is done, and gives those whose time is over.
// A restart of the agent does not begin their time anew.
func (a *Agent) draining(uid api.UID, old, want []api.LinkTarget) (over []linker.Drain, err error) {
	now := time.Now()
	list := linker.Drains(a.drains(uid), old, want, now)
	if err := a.keepDrains(uid, list); err != nil {
		return nil, err
	}
	over, rest := linker.Over(list, now)
	for _, d := range rest {
		time.AfterFunc(d.Until.Sub(now), a.networkKick.Wake)
	}
	return over, nil
}

// drains gives what is known to drain. A file that cannot be read is one that knows of nothing.
func (a *Agent) drains(uid api.UID) []linker.Drain {
	a.mu.Lock()
	d := a.workLocked(uid).drain
	a.mu.Unlock()
	if d.known {
		return d.list
	}
	list, err := a.cfg.Dirs.LoadDrains(uid)
	if err != nil && !podstate.Missing(err) {
		a.log.Warn("connections to backends that are gone stay as long as they like", "uid", uid, "err", err)
	}
	return list
}

// keepDrains replaces what drains, where that is something else.
func (a *Agent) keepDrains(uid api.UID, list []linker.Drain) error {
	if !slices.EqualFunc(a.drains(uid), list, func(x, y linker.Drain) bool {
		return x.Backend == y.Backend && x.Local == y.Local && x.Port == y.Port && x.Until.Equal(y.Until)
	}) {
		if err := a.cfg.Dirs.SaveDrains(uid, list); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.workLocked(uid).drain = drain{true, list}
	return nil
}

// drained forgets backends whose connections have ended.
func (a *Agent) drained(uid api.UID, over []linker.Drain) error {
	if len(over) == 0 {
		return nil
	}
	return a.keepDrains(uid, slices.DeleteFunc(slices.Clone(a.drains(uid)), func(d linker.Drain) bool { return slices.Contains(over, d) }))
}

package geard

import (
	"context"
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
func (a *Agent) draining(ctx context.Context, uid api.UID, old, want []api.LinkTarget) (over []linker.Drain, err error) {
	now := time.Now()
	known, err := a.drains(uid)
	if err != nil {
		known = a.findDrains(ctx, uid, want, err)
	}
	list := linker.Drains(known, old, want, now)
	if err := a.keepDrains(uid, list); err != nil {
		return nil, err
	}
	over, rest := linker.Over(list, now)
	for _, d := range rest {
		time.AfterFunc(d.Until.Sub(now), a.networkKick.Wake)
	}
	return over, nil
}

// drains gives what is known to drain.
func (a *Agent) drains(uid api.UID) ([]linker.Drain, error) {
	a.mu.Lock()
	d := a.workLocked(uid).drain
	a.mu.Unlock()
	if d.known {
		return d.list, nil
	}
	list, err := a.cfg.Dirs.LoadDrains(uid)
	if podstate.Missing(err) {
		return nil, nil
	}
	return list, err
}

// findDrains makes anew what cannot be read, from the connections that the pod has.
func (a *Agent) findDrains(ctx context.Context, uid api.UID, links []api.LinkTarget, bad error) []linker.Drain {
	a.log.Warn("it is not known since when connections to backends that are gone stay; their time begins anew", "uid", uid, "err", bad)
	states, err := a.cfg.Machine.LinkStates(ctx, uid, links, nil)
	if err != nil {
		a.log.Warn("connections to backends that are gone stay as long as they like", "uid", uid, "err", err)
		return nil
	}
	return linker.FindDrains(links, states, time.Now())
}

// keepDrains replaces what drains, where that is something else.
func (a *Agent) keepDrains(uid api.UID, list []linker.Drain) error {
	known, err := a.drains(uid)
	if err != nil || !slices.EqualFunc(known, list, func(x, y linker.Drain) bool {
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
	known, err := a.drains(uid)
	if err != nil {
		return err
	}
	return a.keepDrains(uid, slices.DeleteFunc(slices.Clone(known), func(d linker.Drain) bool { return slices.Contains(over, d) }))
}

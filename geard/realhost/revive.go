package realhost

import (
	"context"
	"time"

	"gearmesh.dev/internal/loop"
	"gearmesh.dev/internal/systemd"
)

// engineUnits are the container engine's, in the order in which they start. On a host whose engine is
// another one they are not loaded, and nothing is done.
func engineUnits() []string { return []string{"docker.socket", "containerd.service", "docker.service"} }

// How often the engine's units are looked at, and how long a revived one must hold to count as well again.
const (
	revivePeriod = 5 * time.Second
	reviveLimit  = time.Minute
)

// KeepEngine brings the container engine's units back when systemd has given them up, until ctx ends:
// a dockerd that dies three times in a minute hits its StartLimitBurst= and stays down for good
// (systemd.unit(5)). One that the operator stopped is inactive, not failed, and stays so.
func (h *Host) KeepEngine(ctx context.Context) error {
	var r revival
	loop.Run(ctx, nil, 0, revivePeriod, func(ctx context.Context) {
		units, err := h.systemd.List(ctx, engineUnits()...)
		if err != nil {
			h.log.Warn("looking at the container engine's units", "err", err)
			return
		}
		if failed := givenUp(units); r.due(len(failed) > 0, time.Now()) {
			h.revive(ctx, failed)
		}
	})
	return nil
}

// revive forgets the failures, with them the count of starts, and starts the units.
func (h *Host) revive(ctx context.Context, failed []string) {
	h.log.Warn("systemd had given up the container engine; it is started again", "units", failed)
	for _, unit := range failed {
		if err := h.systemd.ResetFailed(ctx, unit); err != nil {
			h.log.Error("reviving the container engine", "err", err)
			return
		}
	}
	for _, unit := range failed {
		if err := h.systemd.Enqueue(ctx, systemd.Start, unit); err != nil {
			h.log.Error("reviving the container engine", "err", err)
		}
	}
}

// givenUp gives those of the engine's units that systemd starts no more, in the order of starting.
func givenUp(units []systemd.Unit) []string {
	failed := map[string]bool{}
	for _, u := range units {
		failed[u.Name] = u.Load == "loaded" && u.Active == "failed" && u.Job == ""
	}
	var out []string
	for _, name := range engineUnits() {
		if failed[name] {
			out = append(out, name)
		}
	}
	return out
}

// revival spaces the tries: at once, then after 2 s, 4 s … 60 s, as long as it does not hold.
type revival struct {
	tries int
	last  time.Time
}

// due tells whether to try now, and counts it.
func (r *revival) due(failed bool, now time.Time) bool {
	since := now.Sub(r.last)
	if r.tries > 0 && since >= 2*reviveLimit {
		r.tries = 0 // it held for longer than any pause
	}
	if !failed || r.tries > 0 && since < min(time.Second<<min(r.tries, 6), reviveLimit) {
		return false
	}
	r.tries, r.last = r.tries+1, now
	return true
}

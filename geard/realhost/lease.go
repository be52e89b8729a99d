package realhost

import (
	"context"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/systemd"
	"gearmesh.dev/unitgen"
)

// Lease implements geard.Machine: a timer that is started anew begins from the full time.
func (h *Host) Lease(ctx context.Context, p api.Pod) error {
	return h.systemd.Restart(ctx, unitgen.LeaseTimer(p.Metadata.Project, p.Metadata.Name))
}

// Lapse implements geard.Machine.
func (h *Host) Lapse(ctx context.Context, p api.Pod) error {
	return h.systemd.Enqueue(ctx, systemd.Start, unitgen.LapsedUnit(p.Metadata.Project, p.Metadata.Name))
}

// leased tells whether a singleton's timer is set. One that is being started anew has a job and no moment in which it is not.
func leased(p api.Pod, units map[string]systemd.Unit) bool {
	u := units[unitgen.LeaseTimer(p.Metadata.Project, p.Metadata.Name)]
	return u.Active == "active" || u.Job != ""
}

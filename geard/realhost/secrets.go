package realhost

import (
	"context"
	"errors"
	"slices"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/runner"
	"gearmesh.dev/internal/systemd"
)

// Renew implements geard.Machine.
func (h *Host) Renew(ctx context.Context, p api.Pod, container api.Name, signal string) error {
	if signal != "" {
		err := h.engine.Kill(ctx, runner.ContainerName(p.Metadata.Project, p.Metadata.Name, container), signal)
		if errors.Is(err, engine.ErrNoContainer) {
			return nil // it has the new values when it starts
		}
		return err
	}
	i := slices.IndexFunc(p.Spec.Template.All(), func(c api.Container) bool { return c.Name == container })
	if i < 0 {
		return nil
	}
	return h.systemd.Enqueue(ctx, systemd.Restart, containerUnits(p)[i])
}

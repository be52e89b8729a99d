package realhost

import (
	"context"
	"errors"
	"slices"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/runner"
	"gearmesh.dev/geard/secrets"
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

// login gives what a pod's project has to show the registry of an image; nothing when its project says nothing of it.
func (h *Host) login(p api.Pod, ref string) (engine.Login, error) {
	host := engine.RegistryOf(ref)
	i := slices.IndexFunc(p.Spec.Registries, func(r api.Registry) bool { return r.Host == host })
	if i < 0 {
		return engine.Login{}, nil
	}
	s, err := secrets.Open(h.dirs)
	if err != nil {
		return engine.Login{}, err
	}
	v, err := s.Load(p.Metadata.UID)
	if err != nil {
		return engine.Login{}, err
	}
	values := v[p.Spec.Registries[i].Secret]
	return engine.Login{Username: string(values[api.UsernameKey]), Password: string(values[api.PasswordKey])}, nil
}

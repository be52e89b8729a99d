package runner

import (
	"context"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/podstate"
)

// Stopped ends what is left of a container when its unit has come to its end. Run has done that itself, unless it was
// killed and the unit stopped before systemd had started the next one. idle tells whether the unit has ended and is
// not about to start: what somebody looks after again is left alone.
func Stopped(ctx context.Context, c Config, idle func(unit string) (bool, error)) error {
	r, err := load(c)
	if podstate.Missing(err) {
		return nil // the pod is gone, and its containers with it
	}
	if err != nil {
		return err
	}
	switch r.keep.get().State {
	case api.RunStopped, api.RunDone:
		return nil // in good order, which is nearly always
	}
	unit := r.keep.get().Unit
	found, err := r.leftover(ctx)
	if err != nil {
		return err
	}
	// Asked last: starting the unit meanwhile makes the container that one's.
	if is, err := idle(unit); err != nil || !is {
		return err
	}
	if found.ID != "" {
		r.Log.Warn("the unit was stopped while its gear-run was dead; its container is stopped now", "unit", unit, "id", found.ID)
		if err := r.stopLeftover(ctx, found); err != nil {
			return err
		}
	}
	r.keep.set(func(s *api.ContainerStatus) { *s = stoppedStatus(*s) })
	return nil
}

// leftover finds the container, whose zero value means that there is none.
func (r *run) leftover(ctx context.Context) (engine.Container, error) {
	name := ContainerName(r.pod.Metadata.Project, r.pod.Metadata.Name, r.Container)
	var found engine.Container
	err := r.insist(ctx, func() (err error) {
		found, err = r.Engine.Inspect(ctx, name)
		return err
	})
	if err != nil || !same(Labels(r.pod, r.Container), found.Labels) {
		return engine.Container{}, err
	}
	return found, nil
}

func (r *run) stopLeftover(ctx context.Context, found engine.Container) error {
	if found.Running {
		if err := r.stop(ctx, found.ID); err != nil {
			return err
		}
	}
	return r.clear(ctx, r.output(found.ID))
}

// stoppedStatus is the state of a container that was stopped.
func stoppedStatus(s api.ContainerStatus) api.ContainerStatus {
	return api.ContainerStatus{Name: s.Name, Unit: s.Unit, Init: s.Init, State: api.RunStopped, Restarts: s.Restarts, Reason: api.ReasonStopped}
}

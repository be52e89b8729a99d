package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
)

// Container is what the engine knows of a container.
type Container struct {
	ID        string
	Labels    map[string]string // ours and others
	Running   bool
	Pid       int // of its first process as the host sees it; 0 when it does not run
	ExitCode  int
	OOMKilled bool
	Started   time.Time
	Finished  time.Time
}

// Create makes a container and gives its id. The error is ErrExists when the name is taken, ErrNoImage when the
// image is not on this host.
func (e *Engine) Create(ctx context.Context, s Spec) (string, error) {
	r, err := e.api.ContainerCreate(ctx, s.config(), s.hostConfig(), nil, nil, s.Name)
	switch {
	case errdefs.IsConflict(err):
		return "", fmt.Errorf("creating container %q: %w: %w", s.Name, ErrExists, err)
	case errdefs.IsNotFound(err):
		return "", fmt.Errorf("creating container %q: image %q: %w on this host", s.Name, s.Image, ErrNoImage)
	}
	return r.ID, explain(err, "creating container %q", s.Name)
}

// Start starts a created container.
func (e *Engine) Start(ctx context.Context, id string) error {
	return explainContainer(e.api.ContainerStart(ctx, id, container.StartOptions{}), "starting container %q", short(id))
}

// Inspect describes a container by id or name. The error is ErrNoContainer when there is none.
func (e *Engine) Inspect(ctx context.Context, idOrName string) (Container, error) {
	r, err := e.api.ContainerInspect(ctx, idOrName)
	if err != nil {
		return Container{}, explainContainer(err, "looking at container %q", idOrName)
	}
	c := Container{ID: r.ID}
	if r.Config != nil {
		c.Labels = r.Config.Labels
	}
	if s := r.State; s != nil {
		c.Running, c.Pid, c.ExitCode, c.OOMKilled = s.Running, s.Pid, s.ExitCode, s.OOMKilled
		c.Started, c.Finished = engineTime(s.StartedAt), engineTime(s.FinishedAt)
	}
	return c, nil
}

// engineTime reads a time of the engine, which writes the year 1 for "never".
func engineTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// Wait blocks until the container does not run and gives its exit code. An engine that goes away meanwhile gives ErrDown.
func (e *Engine) Wait(ctx context.Context, id string) (int, error) {
	done, errs := e.api.ContainerWait(ctx, id, container.WaitConditionNotRunning)
	select {
	case r := <-done:
		if r.Error != nil {
			return 0, explain(errors.New(r.Error.Message), "waiting for container %q", id)
		}
		return int(r.StatusCode), nil
	case err := <-errs:
		return 0, explainContainer(err, "waiting for container %q", id)
	}
}

// Stop sends the container its stop signal, waits its grace, then kills it. It returns when it does not run.
func (e *Engine) Stop(ctx context.Context, id string) error {
	return explainContainer(e.api.ContainerStop(ctx, id, container.StopOptions{}), "stopping container %q", id)
}

// Kill sends a signal, such as SIGHUP, to the container's first process.
func (e *Engine) Kill(ctx context.Context, id, signal string) error {
	return explainContainer(e.api.ContainerKill(ctx, id, signal), "sending %s to container %q", signal, id)
}

// Remove takes a container away, killing it when it runs. One that is gone already is no error.
func (e *Engine) Remove(ctx context.Context, id string) error {
	err := e.api.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return explain(err, "removing container %q", id)
}

// ListByLabel gives all containers, running or not, that have the label (with any value when
// value is empty). Of each only ID, Labels and Running are filled in.
func (e *Engine) ListByLabel(ctx context.Context, label, value string) ([]Container, error) {
	match := label
	if value != "" {
		match += "=" + value
	}
	list, err := e.api.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", match))})
	if err != nil {
		return nil, explain(err, "listing containers with label %q", match)
	}
	var out []Container
	for _, c := range list {
		out = append(out, Container{ID: c.ID, Labels: c.Labels, Running: c.State == container.StateRunning})
	}
	return out, nil
}

// short gives the part of an id that people use, as docker ps shows it.
func short(id string) string { return id[:min(12, len(id))] }

package runner

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

// lookAround is how often a container that waits for others looks at their states.
const lookAround = 200 * time.Millisecond

// turn waits until the containers that come before this one are where they must be, and tells whether ctx still
// lives. systemd keeps that order too (After=), but when one of the others fails at first, it goes on
// with those that wait for it.
func (r *run) turn(ctx context.Context) bool {
	for ctx.Err() == nil {
		why := r.before()
		if why == "" {
			return true
		}
		r.keep.set(func(s *api.ContainerStatus) {
			s.State, s.Ready, s.ID, s.Reason, s.Message = api.RunWaiting, false, "", api.ReasonWaiting, why
		})
		sleep(ctx, lookAround)
	}
	return false
}

// before says what has to happen before this container may start, or "".
func (r *run) before() string {
	if why := AwaitsLink(r.Dirs, r.pod); why != "" {
		return why
	}
	for _, c := range r.pod.Spec.Template.InitContainers {
		if c.Name == r.Container {
			return ""
		}
		if s, err := r.Dirs.LoadRun(r.UID, c.Name); err != nil || s.State != api.RunDone {
			return fmt.Sprintf("waits for init container %q to end well", c.Name)
		}
	}
	for _, c := range r.pod.Spec.Template.Containers {
		if !slices.Contains(r.spec.After, c.Name) {
			continue
		}
		// One that the operator has stopped does not become ready; who stops it has it so.
		s, err := r.Dirs.LoadRun(r.UID, c.Name)
		if err != nil || !s.Ready && s.State != api.RunStopped {
			return fmt.Sprintf("waits for container %q to be ready", c.Name)
		}
	}
	return ""
}

// AwaitsLink says which link of a pod, that its containers wait for, has no backend by what is on disk, or "". After a boot
// that is what the host knew last.
func AwaitsLink(dirs podstate.Dirs, pod api.Pod) string {
	if !slices.ContainsFunc(pod.Spec.Template.Links, func(l api.Link) bool { return l.WaitFor != "" }) {
		return ""
	}
	links, err := dirs.LoadLinks(pod.Metadata.UID)
	if err != nil {
		return "waits until the agent has laid its links: " + oneLine(err.Error(), 200)
	}
	if l, waits := api.Waits(links); waits {
		return "waits: " + l.Lacks()
	}
	return ""
}

// done keeps that an init container has ended well. The next one starts when its unit has.
func (r *run) done(ctx context.Context, id string) {
	if err := r.remove(ctx, id); err != nil {
		r.Log.Warn("the init container could not be removed; the next run does it", "error", err)
	}
	r.history = history{}
	if err := r.history.save(r.file(".history")); err != nil {
		r.Log.Warn("the history of the container could not be saved", "error", err)
	}
	r.keep.set(func(s *api.ContainerStatus) {
		s.State, s.Ready, s.ID, s.ExitCode, s.Reason, s.Message = api.RunDone, false, "", 0, "", ""
	})
}

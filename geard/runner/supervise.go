package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/secrets"
)

// supervise looks after a running container until it ends, or ctx does and it is stopped.
func (r *run) supervise(ctx context.Context, id string, started time.Time) (int, error) {
	out := r.output(id)
	// The helpers go on while the container is being stopped: its last words count.
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var helpers sync.WaitGroup
	helpers.Go(func() { out.follow(inner) })
	if r.keep.get().Ready {
		r.Notify("READY=1")
	}
	helpers.Go(func() { r.ask(ctx, inner, id, started) })
	helpers.Go(func() { r.watchOOM(inner, id) })
	code, err := r.wait(ctx, id)
	if ctx.Err() != nil {
		err = r.stop(context.WithoutCancel(ctx), id)
	}
	cancel()
	helpers.Wait()
	if ctx.Err() != nil {
		return 0, errors.Join(err, r.clear(context.WithoutCancel(ctx), out))
	}
	if err != nil {
		return 0, r.vanished(id, started, err)
	}
	return r.ended(ctx, out, time.Since(started), code)
}

// ready gives the function that takes the checks' results. They do not count any more once the container is
// being stopped, nor while the engine, which the command checks need, does not answer.
func (r *run) ready(ctx context.Context) func(bool, error) {
	told := false
	return func(ready bool, why error) {
		if ctx.Err() != nil || errors.Is(why, engine.ErrDown) || r.vitals.sick.Load() != nil {
			return
		}
		r.keep.set(func(s *api.ContainerStatus) {
			if s.Reason != api.ReasonEngineDown {
				s.Ready = ready
				r.sayReady(s, why)
			} else {
				s.Ready = ready
			}
		})
		if ready && !told {
			r.Notify("READY=1")
			told = true
		}
	}
}

// wait gives the exit code of the container; or an error when ctx is done or the container is no more. An engine
// that goes away is noted and waited for.
func (r *run) wait(ctx context.Context, id string) (int, error) {
	for {
		code, err := r.Engine.Wait(ctx, id)
		if err == nil || ctx.Err() != nil || errors.Is(err, engine.ErrNoContainer) {
			return code, err
		}
		if errors.Is(err, engine.ErrDown) {
			r.awaitEngine(ctx)
			continue
		}
		r.Log.Warn("the engine gives no exit code; asking again", "error", err)
		sleep(ctx, time.Second)
	}
}

// awaitEngine waits until the engine answers. Whether the container runs does not depend on it, so
// nothing in the state changes but the reason.
func (r *run) awaitEngine(ctx context.Context) {
	pause := 100 * time.Millisecond
	for first := true; ctx.Err() == nil; first = false {
		err := r.ping(ctx)
		if err == nil {
			r.engineBack()
			return
		}
		if first {
			r.Log.Warn("waiting for the container engine", "error", err)
		}
		r.keep.set(func(s *api.ContainerStatus) {
			s.Reason, s.Message = api.ReasonEngineDown, "the container engine does not answer; what runs, runs on"
			if s.State == "" {
				s.State = api.RunWaiting
			}
		})
		sleep(ctx, pause)
		pause = min(2*pause, 2*time.Second)
	}
}

// ping asks the engine. While systemd holds dockerd's socket, a call to a dockerd that is not there hangs.
func (r *run) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return r.Engine.Ping(ctx)
}

// engineBack takes back what awaitEngine has said.
func (r *run) engineBack() {
	r.keep.set(func(s *api.ContainerStatus) {
		if s.Reason != api.ReasonEngineDown {
			return
		}
		s.Reason, s.Message = "", ""
		if s.State == api.RunRunning {
			r.sayReady(s, nil)
		}
	})
}

// stop ends the container: its stop signal, its grace, SIGKILL. First it is taken out of all links.
func (r *run) stop(ctx context.Context, id string) error {
	r.Notify("STOPPING=1")
	r.keep.set(func(s *api.ContainerStatus) {
		s.Ready, s.Reason, s.Message = false, api.ReasonStopped, "stopping"
	})
	return r.insist(ctx, func() error { return r.Engine.Stop(ctx, id) })
}

// clear takes a stopped container away, with its output passed on.
func (r *run) clear(ctx context.Context, out *output) error {
	out.rest(ctx)
	return r.insist(ctx, func() error { return r.remove(ctx, out.id) })
}

// insist repeats what an engine that is down did not do. systemd puts an end to it (TimeoutStopSec).
func (r *run) insist(ctx context.Context, do func() error) error {
	for {
		err := do()
		if errors.Is(err, engine.ErrNoContainer) {
			return nil
		}
		if !errors.Is(err, engine.ErrDown) {
			return err
		}
		r.awaitEngine(ctx)
	}
}

// remove takes a container, its record and its secrets away. It is not broken off in the middle: a container
// that is gone without an answer would leave its record behind.
func (r *run) remove(ctx context.Context, id string) error {
	ctx = context.WithoutCancel(ctx)
	if err := r.Engine.Remove(ctx, id); err != nil {
		return err
	}
	if err := os.Remove(r.Dirs.Record(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the record of container %q: %w", id, err)
	}
	return secrets.Clear(r.Dirs, r.UID, r.spec)
}

// ended keeps why the container ended and takes it away.
func (r *run) ended(ctx context.Context, out *output, ran time.Duration, code int) (int, error) {
	out.rest(ctx)
	if r.init && code == 0 {
		r.done(ctx, out.id)
		return 0, nil
	}
	reason, message := api.ReasonExited, fmt.Sprintf("exit status %d", code)
	good := goodRun
	// An engine that has just gone away cannot say so; then it was an exit like others.
	if c, err := r.Engine.Inspect(ctx, out.id); err == nil && c.OOMKilled {
		reason, message = api.ReasonOOMKilled, fmt.Sprintf("killed by the kernel over its memory limit of %s", r.spec.Resources.Memory)
	} else if code != 0 && r.lateOOM(time.Now()) {
		reason, message = api.ReasonOOMKilled, fmt.Sprintf("exit status %d, after the kernel had killed a process of it over its memory limit", code)
	} else if s := r.vitals.sick.Load(); s != nil {
		reason, message, good = api.ReasonUnhealthy, s.why, goodSickRun
	}
	if last := out.last(); last != "" {
		message += "; it last wrote:\n" + last
	}
	r.keep.set(func(s *api.ContainerStatus) { s.ExitCode = code })
	r.endedNow(ran, good, reason, message)
	if err := r.remove(ctx, out.id); err != nil {
		r.Log.Warn("the container that ended could not be removed; the next run does it", "error", err)
	}
	return code, nil
}

// vanished keeps that somebody else removed the container.
func (r *run) vanished(id string, started time.Time, cause error) error {
	r.endedNow(time.Since(started), goodRun, api.ReasonExited, "the container was removed by someone else")
	_ = os.Remove(r.Dirs.Record(id))
	return fmt.Errorf("container %q was removed by someone else: %w", id, cause)
}

// endedNow makes the end part of the history and of the state. A run shorter than good was a quick one.
func (r *run) endedNow(ran, good time.Duration, reason api.Reason, message string) {
	r.history = r.history.after(ran, good, time.Now(), reason, message)
	if err := r.history.save(r.file(".history")); err != nil {
		r.Log.Warn("the history of the container could not be saved", "error", err)
	}
	r.sayBackOff(r.history)
}

package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/geard/secrets"
	"gearmesh.dev/internal/atomicfile"
	"gearmesh.dev/internal/failpoint"
)

// Config is one container to look after.
type Config struct {
	Engine    Engine
	Dirs      podstate.Dirs
	UID       api.UID
	Container api.Name
	// Unit and Slice name the container's systemd unit and the slice of its pod.
	Unit  func(pod api.Pod, container api.Name) string
	Slice func(pod api.Pod) string
	// Notify speaks sd_notify(3).
	Notify func(state string)
	// Watchdog is systemd's WatchdogSec=, how long this process may be silent; 0 when nobody listens.
	Watchdog       time.Duration
	Stdout, Stderr io.Writer // get the container's output
	// Mark is called with the engine's id of a container before its output is passed on; nil for nobody.
	Mark func(id string)
	Log  *slog.Logger
}

// run is a Config with what is on disk about it.
type run struct {
	Config
	pod     api.Pod
	spec    api.Container
	init    bool // runs to its end before the others start
	net     podstate.Net
	links   []api.LinkTarget
	history history
	keep    *keeper
	vitals  vitals
}

// Run looks after the container until it ends, and gives its exit code; or until ctx is done, and
// then stops it and gives 0. An error means that it could not be started; the state says why.
func Run(ctx context.Context, c Config) (int, error) {
	r, err := load(c)
	if err != nil {
		return 0, err
	}
	stop := r.feeding(ctx)
	code, err := r.start(ctx)
	stop()
	if ctx.Err() != nil {
		r.keep.set(func(s *api.ContainerStatus) { *s = stoppedStatus(*s) })
		return 0, err
	}
	return code, err
}

// feeding feeds the watchdog until the function it gives is called.
func (r *run) feeding(ctx context.Context) (stop func()) {
	if r.Watchdog <= 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var feeder sync.WaitGroup
	feeder.Go(func() { r.feed(ctx) })
	return func() { cancel(); feeder.Wait() }
}

// load reads what is on disk of the container and its pod.
func load(c Config) (*run, error) {
	pod, err := c.Dirs.LoadPod(c.UID)
	if err != nil {
		return nil, err
	}
	r := &run{Config: c, pod: pod}
	if r.spec, r.init, err = container(pod, c.Container); err != nil {
		return nil, err
	}
	if r.net, err = c.Dirs.LoadNet(c.UID); err != nil {
		return nil, err
	}
	if r.links, err = c.Dirs.LoadLinks(c.UID); err != nil {
		c.Log.Warn("the pod's links could not be read", "error", err)
	}
	last, err := c.Dirs.LoadRun(c.UID, c.Container)
	if err != nil {
		c.Log.Warn("the last state of the container could not be read", "error", err)
	}
	last.Init = r.init
	last.Name, last.Unit = c.Container, c.Unit(pod, c.Container)
	r.history = loadHistory(r.file(".history"))
	r.keep = &keeper{dirs: c.Dirs, uid: c.UID, notify: c.Notify, log: c.Log, status: last}
	return r, nil
}

// file gives the path of a file of the container's runtime state.
func (r *run) file(suffix string) string {
	return filepath.Join(r.Dirs.RunPod(r.UID), string(r.Container)+suffix)
}

// start finds out what there is, and goes on from there. An engine that goes away meanwhile is waited for.
//
// When the last state says that nothing runs, the first try does not look: the engine gives a name once,
// so a container that is there after all makes it fail, and the next try looks.
func (r *run) start(ctx context.Context) (int, error) {
	try := r.look
	if r.keep.get().State != api.RunRunning {
		try = r.fresh
	}
	for ; ; try = r.look {
		code, err := try(ctx)
		if ctx.Err() != nil || !errors.Is(err, engine.ErrDown) && !errors.Is(err, engine.ErrExists) {
			return code, err
		}
		r.awaitEngine(ctx)
	}
}

// look does what decide says.
func (r *run) look(ctx context.Context) (int, error) {
	name := ContainerName(r.pod.Metadata.Project, r.pod.Metadata.Name, r.Container)
	found, err := r.Engine.Inspect(ctx, name)
	exists := err == nil
	if err != nil && !errors.Is(err, engine.ErrNoContainer) {
		return 0, err
	}
	last := r.keep.get()
	switch decide(Labels(r.pod, r.Container), last, found, exists) {
	case adopt:
		r.Log.Info("adopting the running container", "id", found.ID)
		return r.adopt(ctx, found, last)
	case collect:
		return r.ended(ctx, r.output(found.ID), found.Finished.Sub(found.Started), found.ExitCode)
	case replace:
		r.Log.Info("removing what is left of an earlier container", "id", found.ID)
		if err := r.remove(ctx, found.ID); err != nil {
			return 0, err
		}
	}
	return r.fresh(ctx)
}

// fresh makes a new container when the next try is due.
func (r *run) fresh(ctx context.Context) (int, error) {
	if !r.turn(ctx) || !r.backOff(ctx) {
		return 0, nil
	}
	return r.create(ctx)
}

// backOff waits until the next try is due, and tells whether ctx still lives.
func (r *run) backOff(ctx context.Context) bool {
	if wait := r.history.wait(time.Now()); wait > 0 {
		r.sayBackOff(r.history)
		sleep(ctx, wait)
	}
	return ctx.Err() == nil
}

// sayBackOff makes the state say why nothing runs, and when it will be tried again.
func (r *run) sayBackOff(h history) {
	r.keep.set(func(s *api.ContainerStatus) {
		s.State, s.Ready, s.ID, s.Reason = api.RunBackOff, false, "", h.Reason
		s.Message = h.Message
		if d := h.delay(); d > 0 {
			s.Message += fmt.Sprintf("; next try in %s, at %s", d, h.Ended.Add(d).UTC().Format("15:04:05 MST"))
		}
	})
}

// create makes and starts a new container.
func (r *run) create(ctx context.Context) (int, error) {
	if err := ensureVolumes(r.Dirs, r.pod, r.spec); err != nil {
		return r.notCreated(ctx, "", err)
	}
	if err := r.Dirs.MakeLinks(r.UID); err != nil {
		return r.notCreated(ctx, "", err)
	}
	if err := failpoint.Hit(failpoint.RunBeforeCreate); err != nil {
		return r.notCreated(ctx, "", err)
	}
	if err := layIn(r.Dirs, r.pod, r.spec); err != nil {
		return r.notCreated(ctx, "", err)
	}
	id := r.madeAhead(ctx)
	ahead := id != ""
	if !ahead {
		var err error
		if id, err = r.Engine.Create(ctx, MakeSpec(r.Dirs, r.pod, r.spec, r.Slice(r.pod))); err != nil {
			return r.notCreated(ctx, "", err)
		}
	}
	if err := failpoint.Hit(failpoint.RunAfterCreate); err != nil {
		return r.notCreated(ctx, id, err)
	}
	// Before the start: the runtime refuses a container without a record.
	if err := r.record(id); err != nil {
		return r.notCreated(ctx, id, err)
	}
	if err := failpoint.Hit(failpoint.RunAfterRecord); err != nil {
		return r.notCreated(ctx, id, err)
	}
	err := r.Engine.Start(ctx, id)
	if ahead && errors.Is(err, engine.ErrNoContainer) { // somebody has removed it meanwhile
		if err := os.Remove(r.Dirs.Record(id)); err != nil {
			return r.notCreated(ctx, "", err)
		}
		return r.create(ctx) // which finds none that was made ahead
	}
	if err != nil {
		return r.notCreated(ctx, id, err)
	}
	if err := secrets.DropEnv(r.Dirs, r.UID, r.spec); err != nil {
		r.Log.Warn("the container's secret variables could not be removed", "error", err)
	}
	if err := failpoint.Hit(failpoint.RunAfterStart); err != nil {
		return r.notCreated(ctx, id, err)
	}
	now := time.Now()
	r.keep.set(func(s *api.ContainerStatus) {
		if !s.Started.IsZero() {
			s.Restarts++
		}
		s.State, s.Ready, s.ID, s.Started = api.RunRunning, r.readyAtOnce(), id, now
		r.sayReady(s, nil)
	})
	return r.supervise(ctx, id, now)
}

// record tells the OCI runtime what the container gets that the engine does not know of.
func (r *run) record(id string) error {
	file := r.Dirs.Record(id)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("recording the network of container %q: %w", id, err)
	}
	return atomicfile.Write(file, onRecord(r.Dirs, r.pod, r.spec).Text(), 0o644)
}

// notCreated keeps why the engine refused.
func (r *run) notCreated(ctx context.Context, id string, cause error) (int, error) {
	if ctx.Err() != nil {
		if id != "" {
			_ = r.remove(ctx, id)
		}
		return 0, nil
	}
	if errors.Is(cause, engine.ErrDown) || errors.Is(cause, engine.ErrExists) {
		return 0, cause // not the container's fault; the next try removes what is there
	}
	if id != "" {
		if err := r.remove(ctx, id); err != nil {
			r.Log.Warn("a container that did not start could not be removed", "id", id, "error", err)
		}
	}
	r.endedNow(0, goodRun, api.ReasonCreateFailed, oneLine(plain(cause.Error()), 1000))
	return 0, cause
}

// adopt takes over a running container, with its readiness as it was: nothing has happened to it.
func (r *run) adopt(ctx context.Context, found engine.Container, last api.ContainerStatus) (int, error) {
	ready := r.readyAtOnce() || last.Ready && last.ID == found.ID
	r.keep.set(func(s *api.ContainerStatus) {
		s.State, s.Ready, s.ID, s.Started = api.RunRunning, ready, found.ID, found.Started
		r.sayReady(s, nil)
	})
	return r.supervise(ctx, found.ID, found.Started)
}

// readyAtOnce tells whether the container is ready as soon as it runs.
func (r *run) readyAtOnce() bool { return r.spec.Ready == nil && r.spec.Startup == nil && !r.init }

// sayReady sets the reason that goes with s.Ready: while it serves, why the run before ended.
func (r *run) sayReady(s *api.ContainerStatus, why error) {
	s.Reason, s.Message = r.history.Reason, r.history.Message
	if !s.Ready {
		s.Reason, s.Message = api.ReasonNotReady, "the readiness check has not passed yet"
		if r.init {
			s.Message = "an init container: it has to end well first"
		}
		if why != nil {
			s.Message = oneLine(why.Error(), 300)
		}
	}
}

func (r *run) output(id string) *output {
	o := &output{logs: r.Engine, id: id, stdout: r.Stdout, stderr: r.Stderr, file: r.file(".position"), log: r.Log}
	o.load()
	if r.Mark != nil {
		r.Mark(id)
	}
	return o
}

// checker gives what asks the container whether it is ready.
func (r *run) checker(id string, check api.Check) checker {
	c := checker{check: check}
	switch {
	case check.TCP != nil:
		c.hosts = checkHosts(r.net.Address, r.pod.Spec.Template.Ports, r.links, check.TCP.Port)
	case check.HTTP != nil:
		c.hosts = checkHosts(r.net.Address, r.pod.Spec.Template.Ports, r.links, check.HTTP.Port)
	case check.GRPC != nil:
		c.hosts = checkHosts(r.net.Address, r.pod.Spec.Template.Ports, r.links, check.GRPC.Port)
	}
	c.dial = func(ctx context.Context, address string) (net.Conn, error) {
		return DialIn(ctx, r.Dirs.Namespace(r.UID), address)
	}
	c.exec = func(ctx context.Context, argv []string) (int, string, error) { return r.Engine.Exec(ctx, id, argv) }
	return c
}

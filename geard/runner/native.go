package runner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/internal/atomicfile"
)

// A native container is a program of the host, and systemd itself looks after it. Around it run short
// commands: one before it, one until it is ready, one when it is asked to stop, one after it. They keep the
// same state and history as Run does, so the agent sees no difference.

// NativeWait waits for the program's turn among the containers of its pod, and for its back-off. Then it makes what the unit
// mounts, and puts the program's command line into dir, which belongs to the program's user.
func NativeWait(ctx context.Context, c Config, dir string) error {
	r, err := load(c)
	if err != nil {
		return err
	}
	if !r.turn(ctx) || !r.backOff(ctx) {
		r.nativeStopped()
		return ctx.Err()
	}
	n, err := nativeCommand(r.pod, r.spec)
	if err != nil {
		return err
	}
	if err := r.Dirs.MakeLinks(r.UID); err != nil {
		return err
	}
	return n.save(dir)
}

// NativeReady notes that the program runs, then waits until it has started and is ready. It ends with an error when
// the program has not started in time or has ended; systemd then starts it anew. alive tells whether it still
// runs: systemd itself waits for this command before it looks (systemd.service(5), ExecStartPost=).
func NativeReady(ctx context.Context, c Config, alive func() bool) error {
	r, err := load(c)
	if err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		for ctx.Err() == nil {
			if !alive() {
				end(errProgramEnded)
			}
			sleep(ctx, lookAround)
		}
	})
	err = r.nativeReady(ctx)
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	end(nil)
	watch.Wait()
	return err
}

var errProgramEnded = errors.New("the program has ended")

func (r *run) nativeReady(ctx context.Context) error {
	now := time.Now()
	r.keep.set(func(s *api.ContainerStatus) {
		if !s.Started.IsZero() {
			s.Restarts++
		}
		s.State, s.Ready, s.Started = api.RunRunning, r.readyAtOnce(), now
		r.sayReady(s, nil)
	})
	if r.readyAtOnce() {
		return nil
	}
	defer func() {
		// systemd ends this command when the program is to be stopped, and also when it has ended; NativeEnded knows.
		if errors.Is(context.Cause(ctx), context.Canceled) {
			r.keep.set(func(s *api.ContainerStatus) { s.Ready, s.Reason = false, api.ReasonStopped })
		}
	}()
	ready := r.ready(ctx)
	if r.spec.Startup != nil {
		if err := r.starting(ctx, r.checker("", *r.spec.Startup), now, ready); err != nil {
			why := oneLine("it has not started: "+err.Error(), 300)
			r.keep.set(func(s *api.ContainerStatus) { s.Reason, s.Message = api.ReasonUnhealthy, why })
			return errors.New(why)
		}
	}
	return r.becomeReady(ctx, ready)
}

// becomeReady waits until the readiness check passes once.
func (r *run) becomeReady(ctx context.Context, report func(bool, error)) error {
	if r.spec.Ready == nil {
		report(true, nil)
		return nil
	}
	inner, pass := context.WithCancel(ctx)
	defer pass()
	c := r.checker("", *r.spec.Ready)
	sleep(inner, c.check.Delay.Std())
	c.watch(inner, false, func(ready bool, why error) {
		report(ready, why)
		if ready {
			pass()
		}
	})
	return ctx.Err()
}

// NativeStop notes that systemd has been asked to stop the program. systemd runs it after the program's own end
// too; then there is no main process (systemd.service(5), ExecStop=).
func NativeStop(c Config, mainPID string) error {
	if mainPID == "" {
		return nil
	}
	r, err := load(c)
	if err != nil {
		return err
	}
	r.nativeStopped()
	return nil
}

func (r *run) nativeStopped() {
	r.keep.set(func(s *api.ContainerStatus) {
		s.State, s.Ready, s.Reason, s.Message = api.RunStopped, false, api.ReasonStopped, ""
	})
}

// NativeExit is how systemd says that a program ended: SERVICE_RESULT, EXIT_CODE and EXIT_STATUS of systemd.exec(5).
type NativeExit struct{ Result, Code, Status string }

// reason tells why the program ended.
func (e NativeExit) reason() (api.Reason, string, int) {
	code, err := strconv.Atoi(e.Status)
	message := fmt.Sprintf("exit status %d", code)
	if err != nil {
		code, message = 255, "killed by SIG"+oneLine(e.Status, 20)
	}
	switch e.Result {
	case "oom-kill":
		return api.ReasonOOMKilled, "killed by the kernel over its memory limit", code
	case "success", "exit-code", "signal", "core-dump":
		return api.ReasonExited, message, code
	}
	return api.ReasonCreateFailed, fmt.Sprintf("systemd says %q; %s; see systemctl status", oneLine(e.Result, 40), message), code
}

// NativeEnded keeps how the program ended, unless it was stopped.
func NativeEnded(c Config, e NativeExit) error {
	r, err := load(c)
	if err != nil {
		return err
	}
	s := r.keep.get()
	if s.State == api.RunStopped {
		return nil
	}
	if s.Reason == api.ReasonStopped && e.Result == "success" && e.Code == "killed" {
		r.nativeStopped()
		return nil
	}
	ran := time.Duration(0)
	if s.State == api.RunRunning {
		ran = time.Since(s.Started)
	}
	reason, message, code := e.reason()
	if s.Reason == api.ReasonUnhealthy {
		reason, message = s.Reason, s.Message
	}
	r.keep.set(func(s *api.ContainerStatus) { s.ExitCode = code })
	r.endedNow(ran, goodRun, reason, message)
	return nil
}

// Native is what a program of the host is started with.
type Native struct {
	Argv []string          `json:"argv"`
	Env  map[string]string `json:"env"`
}

// nativeCommand gives what a native container is started with.
func nativeCommand(pod api.Pod, c api.Container) (Native, error) {
	if c.Native == nil || len(c.Native.Command) == 0 || !filepath.IsAbs(c.Native.Command[0]) {
		return Native{}, fmt.Errorf("container %q of pod %q is no program of the host", c.Name, pod.Metadata.Name)
	}
	return Native{Argv: c.Native.Command, Env: podstate.Environ(pod, c)}, nil
}

// nativeFile is the name of what LoadNative reads.
const nativeFile = "command.json"

// save puts n into a directory for the user who owns that, and nobody else.
func (n Native) save(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("giving a program its command line: %w", err)
	}
	file := filepath.Join(dir, nativeFile)
	if err := atomicfile.WriteJSON(file, n, 0o400); err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		return os.Chown(file, int(owner.Uid), -1)
	}
	return nil
}

// LoadNative reads what NativeWait has put into a directory.
func LoadNative(dir string) (Native, error) {
	var n Native
	data, err := os.ReadFile(filepath.Join(dir, nativeFile))
	if err == nil {
		err = json.Unmarshal(data, &n)
	}
	if err != nil {
		return n, fmt.Errorf("reading the program's command line: %w", err)
	}
	if len(n.Argv) == 0 {
		return n, errors.New("the program has no command line")
	}
	return n, nil
}

// Environ gives the environment of the program as execve(2) takes it. Of the environment that systemd made, only what
// is about the user is passed on.
func (n Native) Environ(env []string) []string {
	all := map[string]string{"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, e := range env {
		if k, v, ok := strings.Cut(e, "="); ok && slices.Contains([]string{"USER", "LOGNAME", "HOME", "LANG", "PATH"}, k) {
			all[k] = cmp.Or(v, all[k])
		}
	}
	maps.Copy(all, n.Env)
	var out []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		out = append(out, k+"="+all[k])
	}
	return out
}

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/geard/runner"
	"gearmesh.dev/unitgen"
)

// runContainer looks after a container, given as UID/CONTAINER.
func runContainer(ctx context.Context, arg string, stdout, stderr io.Writer) error {
	uid, container, err := splitArg(arg)
	if err != nil {
		return err
	}
	eng, err := engine.New(engine.Socket)
	if err != nil {
		return err
	}
	defer eng.Close()
	dirs := podstate.Host()
	stdout = &journalWriter{socket: journalSocket, name: journalName(dirs, uid, container), priority: 6, out: stdout}
	stderr = &journalWriter{socket: journalSocket, name: journalName(dirs, uid, container), priority: 6, out: stderr}
	code, err := runner.Run(ctx, runner.Config{
		Engine:    eng,
		Dirs:      dirs,
		UID:       uid,
		Container: container,
		Unit:      unit,
		Slice:     func(pod api.Pod) string { return unitgen.PodSlice(pod.Metadata.Project, pod.Metadata.Name) },
		Notify:    notify,
		Watchdog:  watchdog(),
		Stdout:    stdout,
		Stderr:    stderr,
		Mark:      markRun,
		Log:       slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{ReplaceAttr: withoutTime})),
	})
	if err == nil && code != 0 {
		err = exitError(code)
	}
	return err
}

func splitArg(arg string) (api.UID, api.Name, error) {
	u, c, _ := strings.Cut(arg, "/")
	uid, container := api.UID(u), api.Name(c)
	if err := uid.Validate(); err != nil {
		return "", "", fmt.Errorf("%w: %w", err, errUsage)
	}
	if err := container.Validate(); err != nil {
		return "", "", fmt.Errorf("container: %w: %w", err, errUsage)
	}
	return uid, container, nil
}

// unit names a container's unit.
func unit(pod api.Pod, container api.Name) string {
	first := len(pod.Spec.Template.Containers) > 0 && pod.Spec.Template.Containers[0].Name == container
	return unitgen.ContainerUnit(pod.Metadata.Project, pod.Metadata.Name, container, first)
}

// journalName gives what a stream of the journal is opened with.
func journalName(dirs podstate.Dirs, uid api.UID, container api.Name) func() (identifier, unitName string) {
	return func() (string, string) {
		pod, err := dirs.LoadPod(uid)
		if err != nil {
			return "gear-run", ""
		}
		return string(pod.Metadata.Name), unit(pod, container)
	}
}

// notify speaks to systemd. Without systemd nobody listens, and that is fine.
func notify(state string) {
	_, _ = daemon.SdNotify(false, state)
	if state == "READY=1" {
		// What starting took is not needed again, and there is one of us for each container.
		time.AfterFunc(restAfter, rest)
	}
}

// watchdog gives the time that systemd lets pass without a word of us, or 0.
func watchdog() time.Duration {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0
	}
	return d
}

// withoutTime leaves out what the journal adds itself.
func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

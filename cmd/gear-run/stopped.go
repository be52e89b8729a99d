package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	systemd "github.com/coreos/go-systemd/v22/journal"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/geard/runner"
	"gearmesh.dev/internal/hostexec"
)

// stopped ends what is left of a container, given as UID/CONTAINER, whose unit has come to its end.
func stopped(ctx context.Context, arg string, stderr io.Writer) error {
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
	last := lastWords{fields: containerFields(dirs, uid, container)}
	return runner.Stopped(ctx, runner.Config{
		Engine: eng, Dirs: dirs, UID: uid, Container: container, Unit: unit,
		Notify: func(string) {},
		Stdout: last, Stderr: last,
		Log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{ReplaceAttr: withoutTime})),
	}, func(name string) (bool, error) { return idle(ctx, name) })
}

// idle tells whether a unit has ended and is not about to start.
func idle(ctx context.Context, unit string) (bool, error) {
	out, err := hostexec.Run(ctx, hostexec.Cmd{Argv: []string{"systemctl", "show", "-P", "ActiveState", "-P", "Job", "--", unit}})
	if err != nil {
		return false, fmt.Errorf("asking whether %s has ended: %w", unit, err)
	}
	state, job, _ := strings.Cut(strings.TrimRight(string(out), "\n"), "\n")
	return (state == "inactive" || state == "failed") && strings.TrimSpace(job) == "", nil
}

// lastWords writes output to the journal with the fields that the container's own unit would have given it.
type lastWords struct{ fields map[string]string }

// Write implements io.Writer: a line, or a part of one, for each call.
func (w lastWords) Write(b []byte) (int, error) {
	return len(b), systemd.Send(strings.TrimSuffix(string(b), "\n"), systemd.PriInfo, w.fields)
}

// containerFields gives the fields of a container's lines; of a pod that cannot be read there are none.
func containerFields(dirs podstate.Dirs, uid api.UID, container api.Name) map[string]string {
	pod, err := dirs.LoadPod(uid)
	if err != nil {
		return nil
	}
	return map[string]string{"GEAR_PROJECT": string(pod.Metadata.Project), "GEAR_SERVICE": string(pod.Spec.Service), "GEAR_POD": string(pod.Metadata.Name),
		"GEAR_CONTAINER": string(container), "SYSLOG_IDENTIFIER": string(pod.Metadata.Name)}
}

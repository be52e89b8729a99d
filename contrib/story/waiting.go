package story

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gearmesh.dev/api"
)

// Waiting shows a pod that needs a link: it starts when the target on another host is ready, counts as ready while it is, and is
// never stopped. All of that stands in systemd too.
func Waiting() []Step {
	x := &waiting{}
	return []Step{
		{"a pod waits for its link, and systemd says for which", x.wait},
		{"the target is there, on another host: the pod starts", x.start},
		{"the target goes: the pod runs on and is not ready; the target comes back: it is", x.dip},
	}
}

// waiting is what the steps tell each other.
type waiting struct {
	app      api.Pod
	unit     string // of its container
	linkUnit string
	started  string // when its container was
}

const (
	needsManifest = `
kind: Project
metadata: {name: order}
---
kind: Service
metadata: {name: app, project: order}
spec:
  containers: [{image: "registry.lab:5000/guestbook/web:1", ready: {http: {port: 8080, path: /healthz}}}]
  ports: [{port: 8080}]
  links: [{service: store, localPort: 6379, waitFor: always}]
  placement: {require: [{label: host, in: [h1]}]}
`
	neededManifest = `
kind: Service
metadata: {name: store, project: order}
spec:
  replicas: %d
  containers: [{image: "registry.lab:5000/guestbook/redis:1", ready: {tcp: {port: 6379}}}]
  ports: [{port: 6379}]
  placement: {require: [{label: host, in: [h2]}]}
`
)

func (x *waiting) wait(ctx context.Context, w *World) error {
	if _, err := w.Apply(ctx, needsManifest, "--no-wait"); err != nil {
		return err
	}
	err := Until(ctx, Patience, func() error { return x.says(ctx, w, false, api.ReasonLinkDown) })
	if err != nil {
		return err
	}
	name := string(x.app.Metadata.Name)
	x.unit, x.linkUnit = "gear-order-"+name+".service", "gear-order-"+name+"-link.1.service"
	out, err := w.Exec(ctx, "h1", "systemctl", "list-dependencies", "--plain", x.unit)
	if err != nil || !strings.Contains(out, x.linkUnit) {
		return fmt.Errorf("systemctl list-dependencies %s: %v\n%s", x.unit, err, out)
	}
	// The agent says so of a pod whose units it has not started yet, too.
	if err := Until(ctx, Patience, func() error { return x.linkIs(ctx, w, "activating") }); err != nil {
		return err
	}
	if out, err := w.Exec(ctx, "h1", "docker", "ps", "-aq", "-f", "label=dev.gearmesh.uid="+string(x.app.Metadata.UID)); err != nil || out != "" {
		return fmt.Errorf("it has a container before its link has a backend: %q, %v", out, err)
	}
	return Until(ctx, Patience, func() error {
		out, err := w.Gear(ctx, "why", "-p", "order", name)
		if err != nil || !strings.Contains(out, "store:6379 has no ready backend") {
			return fmt.Errorf("gear why does not say what it waits for: %v\n%s", err, out)
		}
		return nil
	})
}

func (x *waiting) start(ctx context.Context, w *World) error {
	start := time.Now()
	if _, err := w.Apply(ctx, fmt.Sprintf(neededManifest, 1), "--no-wait"); err != nil {
		return err
	}
	if err := Until(ctx, Patience, func() error { return x.says(ctx, w, true, "") }); err != nil {
		return err
	}
	w.Say("ready %.1f s after its target was applied", time.Since(start).Seconds())
	x.started = x.app.Status.Containers[0].Started.String()
	return Until(ctx, Patience, func() error { return x.linkIs(ctx, w, "active") })
}

func (x *waiting) dip(ctx context.Context, w *World) error {
	if _, err := w.Apply(ctx, fmt.Sprintf(neededManifest, 0), "--no-wait"); err != nil {
		return err
	}
	down := func() error {
		return errors.Join(x.says(ctx, w, false, api.ReasonLinkDown), x.linkIs(ctx, w, "inactive"))
	}
	if err := Until(ctx, Patience, down); err != nil {
		return err
	}
	if _, err := w.Apply(ctx, fmt.Sprintf(neededManifest, 1), "--no-wait"); err != nil {
		return err
	}
	up := func() error { return errors.Join(x.says(ctx, w, true, ""), x.linkIs(ctx, w, "active")) }
	if err := Until(ctx, Patience, up); err != nil {
		return err
	}
	if s := x.app.Status.Containers[0]; s.Started.String() != x.started || s.Restarts != 0 {
		return fmt.Errorf("its container was started at %s and is %+v", x.started, s)
	}
	_, err := w.Gear(ctx, "delete", "project", "order", "--confirm", "order", "--wait")
	return err
}

// says asks for the pod, which must be as ready as that, and for that reason.
func (x *waiting) says(ctx context.Context, w *World, ready bool, reason api.Reason) error {
	var list api.List[api.Pod]
	if err := w.JSON(ctx, &list, "get", "pods", "-p", "order"); err != nil {
		return err
	}
	apps := slices.DeleteFunc(list.Items, func(p api.Pod) bool { return p.Spec.Service != "app" })
	if len(apps) != 1 {
		return fmt.Errorf("app has %d pods", len(apps))
	}
	x.app = apps[0]
	if s := x.app.Status; s.Ready != ready || s.Reason != reason {
		return fmt.Errorf("the pod says %+v; wanted are ready: %t and reason %q", s, ready, reason)
	}
	return nil
}

func (x *waiting) linkIs(ctx context.Context, w *World, state string) error {
	out, err := w.Exec(ctx, "h1", "systemctl", "show", "-P", "ActiveState", x.linkUnit)
	if err == nil && strings.TrimSpace(out) != state {
		err = fmt.Errorf("%s is %s, want %s", x.linkUnit, strings.TrimSpace(out), state)
	}
	return err
}

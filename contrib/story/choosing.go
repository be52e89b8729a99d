package story

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gearmesh.dev/api"
)

// Choosing shows which backend a connection finds, with a copy of a service on every host and clients on h1: each in turn by a link that
// the project gives, always the same by a sticky one, and the nearest by one that asks for it.
func Choosing() []Step {
	return []Step{
		{"a project links its services: every pod of it reaches one by its name, all copies of it, without saying so", linkedByProject},
		{"a sticky link stays with its copy while that is ready, and no longer", stickTo},
		{"a nearest link goes to the own host, then to its zone, then anywhere, and back", goNearest},
		{"the resolvers of busybox and glibc in a container find the names", askFromContainers},
	}
}

// echoes has a copy of echo on every host, and clients on h1. Who answers is told by redis.
const echoes = `
kind: Project
metadata: {name: choice}
spec: {linkServices: true}
---
kind: Service
metadata: {name: echo, project: choice}
spec:
  replicas: 3
  containers: [{image: "registry.lab:5000/guestbook/redis:1", command: [redis-server, --save, "", --protected-mode, "no"], ready: {tcp: {port: 6379}, interval: 500ms}}]
  ports: [{port: 6379}]
  placement: {maxPerHost: 1}
---
kind: Service
metadata: {name: plain, project: choice}
spec:
  containers: [{image: "registry.lab:5000/guestbook/redis:1", command: [sh, -c, "exec sleep infinity"], stopGrace: 1s}]
  placement: {require: [{label: host, in: [h1]}]}
---
kind: Service
metadata: {name: loyal, project: choice}
spec:
  containers: [{image: "registry.lab:5000/guestbook/redis:1", command: [sh, -c, "exec sleep infinity"], stopGrace: 1s}]
  links: [{service: echo, localPort: 7000, balance: sticky}]
  placement: {require: [{label: host, in: [h1]}]}
---
kind: Service
metadata: {name: local, project: choice}
spec:
  containers: [{image: "registry.lab:5000/guestbook/redis:1", command: [sh, -c, "exec sleep infinity"], stopGrace: 1s}]
  links: [{service: echo, localPort: 7000, nearest: true}]
  placement: {require: [{label: host, in: [h1]}]}
`

func linkedByProject(ctx context.Context, w *World) error {
	for host, zone := range map[string]string{"h1": "a", "h2": "a", "h3": "b"} {
		if _, err := w.Gear(ctx, "host", "label", host, "zone="+zone); err != nil {
			return err
		}
	}
	if out, err := w.Apply(ctx, echoes); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return Until(ctx, Patience, func() error { return w.reached(ctx, "plain", "-h echo -p 6379", "h1", "h2", "h3") })
}

// reached asks 30 times from a client's container, each time by a new connection, and compares the hosts whose copies answer.
func (w *World) reached(ctx context.Context, client, to string, hosts ...string) error {
	got, err := w.answering(ctx, client, to)
	if err == nil && !slices.Equal(got, hosts) {
		err = fmt.Errorf("%s reaches the copies on %q, want %q", client, got, hosts)
	}
	return err
}

// answering gives the hosts whose copies of echo answer a client's 30 connections.
func (w *World) answering(ctx context.Context, client, to string) (hosts []string, err error) {
	out, err := w.Gear(ctx, "exec", "-p", "choice", client, "--", "sh", "-c",
		"for i in $(seq 30); do timeout 20 redis-cli "+to+" info server | grep ^run_id || echo none; done")
	if err != nil {
		return nil, err
	}
	ids, err := w.echoIDs(ctx)
	if err != nil {
		return nil, err
	}
	for id := range strings.FieldsSeq(out) {
		host, ok := ids[id]
		if !ok {
			return nil, fmt.Errorf("%s is answered by %q, and the copies are %v", client, id, ids)
		}
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

// echoIDs gives the host of each running copy of echo by what that calls itself, as its container tells.
func (w *World) echoIDs(ctx context.Context) (map[string]string, error) {
	ids := map[string]string{}
	for _, host := range []string{"h1", "h2", "h3"} {
		out, err := w.Exec(ctx, host, "sh", "-c", `for c in $(docker ps -q -f label=dev.gearmesh.project=choice -f label=dev.gearmesh.service=echo); do docker exec $c redis-cli info server | grep ^run_id; done`)
		if err != nil {
			return nil, err
		}
		for id := range strings.FieldsSeq(out) {
			ids[id] = host
		}
	}
	return ids, nil
}

// stopEcho stops a host's copy as its operator would; startEcho starts it again.
func (w *World) stopEcho(ctx context.Context, host string) error {
	return w.echoUnit(ctx, host, "stop")
}
func (w *World) startEcho(ctx context.Context, host string) error {
	return w.echoUnit(ctx, host, "start")
}

func (w *World) echoUnit(ctx context.Context, host, verb string) error {
	_, err := w.Exec(ctx, host, "sh", "-euc", `cd /etc/systemd/system; for u in gear-choice-echo-*.service; do case $u in *-net.service) ;; *) systemctl "$1" "$u" ;; esac; done`, "sh", verb)
	return err
}

func stickTo(ctx context.Context, w *World) error {
	const to = "-p 7000"
	// It may choose anew when a copy is added. Its host knows all three by now, or the other client would not have reached them.
	if err := Until(ctx, Patience, func() error { return w.linkStands(ctx, "loyal") }); err != nil {
		return err
	}
	own, err := w.answering(ctx, "loyal", to)
	if err != nil || len(own) != 1 {
		return fmt.Errorf("a sticky link reaches the copies on %q: %w", own, err)
	}
	others := slices.DeleteFunc([]string{"h1", "h2", "h3"}, func(h string) bool { return h == own[0] })
	other := others[0]
	if err := w.stopEcho(ctx, other); err != nil {
		return err
	}
	gone := func(host string) func() error {
		return func() error {
			seen, err := w.answering(ctx, "plain", "-h echo -p 6379")
			if err == nil && slices.Contains(seen, host) {
				err = fmt.Errorf("the copy on %s, which is stopped, answers", host)
			}
			return err
		}
	}
	if err := Until(ctx, Patience, gone(other)); err != nil {
		return err
	}
	if err := w.reached(ctx, "loyal", to, own...); err != nil {
		return fmt.Errorf("another copy has gone: %w", err)
	}
	if err := errors.Join(w.startEcho(ctx, other), w.stopEcho(ctx, own[0])); err != nil {
		return err
	}
	if err := Until(ctx, Patience, gone(own[0])); err != nil {
		return err
	}
	err = Until(ctx, Patience, func() error {
		after, err := w.answering(ctx, "loyal", to)
		if err != nil || len(after) != 1 || after[0] == own[0] {
			return fmt.Errorf("its copy on %s is gone, and a sticky link reaches those on %q: %w", own[0], after, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.startEcho(ctx, own[0])
}

// linkStands tells whether the link of a client's pod stands in its namespace as its host wants it now.
func (w *World) linkStands(ctx context.Context, client string) error {
	var list api.List[api.Pod]
	if err := w.JSON(ctx, &list, "get", "pods", "-p", "choice"); err != nil {
		return err
	}
	for _, p := range list.Items {
		if string(p.Spec.Service) != client {
			continue
		}
		var why api.Why
		if err := w.JSON(ctx, &why, "why", "-p", "choice", string(p.Metadata.Name)); err != nil {
			return err
		}
		for i, l := range why.Links {
			if l.Port == 7000 && len(l.Backends) > 0 && i < len(why.LinkStates) && why.LinkStates[i].Applied {
				return nil
			}
		}
		return fmt.Errorf("%s has the links %+v, and of them stand %+v", client, why.Links, why.LinkStates)
	}
	return fmt.Errorf("%s has no pod", client)
}

func goNearest(ctx context.Context, w *World) error {
	near := func(host string) error {
		return Until(ctx, Patience, func() error { return w.reached(ctx, "local", "-p 7000", host) })
	}
	for _, do := range []func() error{
		func() error { return near("h1") },
		func() error { return errors.Join(w.stopEcho(ctx, "h1"), near("h2")) },
		func() error { return errors.Join(w.stopEcho(ctx, "h2"), near("h3")) },
		func() error { return errors.Join(w.startEcho(ctx, "h1"), near("h1"), w.startEcho(ctx, "h2")) },
	} {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// askFromContainers asks by busybox, whose nslookup and wget are linked with the C library of its image.
func askFromContainers(ctx context.Context, w *World) error {
	for _, q := range []struct{ ask, want string }{
		{"busybox nslookup echo.choice.gear.internal", "Address: 127."}, // the link that the project gives
		{"busybox nslookup h2.host.gear.internal", w.Address("h2").String()},
		{"busybox nslookup -type=srv echo.choice.gear.internal", "6379 echo.choice.gear.internal"},
		{"busybox nslookup -type=a h3.host.gear.internal", w.Address("h3").String()},
		{"busybox nslookup nobody.choice.gear.internal; true", "NXDOMAIN"},
		{"getent hosts echo", "127."},
	} {
		err := Until(ctx, Patience, func() error {
			out, err := w.Gear(ctx, "exec", "-p", "choice", "plain", "--", "sh", "-c", q.ask+" 2>&1")
			if err != nil || !strings.Contains(out, q.want) {
				err = fmt.Errorf("%q: %v, want %q in\n%s", q.ask, err, q.want, out)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	_, err := w.Gear(ctx, "delete", "project", "choice", "--confirm", "choice", "--wait")
	return err
}

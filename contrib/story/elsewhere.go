package story

import (
	"context"
	"fmt"
	"strings"
)

// Elsewhere shows a link that is led to another service while the program that uses it runs: nothing of it restarts.
func Elsewhere() []Step {
	x := &elsewhere{}
	return []Step{
		{"a program has a link by the name store, and a connection open to the service behind it", x.begin},
		{"the link leads to another service: a plan says that no pod restarts, the open connection ends, the next ones go there", x.lead},
		{"the container, its variables and its names are the same; without a name of its own the link would have cost a restart", x.same},
	}
}

// elsewhere is what the steps tell each other.
type elsewhere struct {
	container string            // id and start of the program's
	stores    map[string]string // what each store calls itself
	variables string
}

// stores are two services that tell them apart by their run_id, and a client whose link leads to one of them.
func stores(to string) string {
	return strings.ReplaceAll(`
kind: Project
metadata: {name: elsewhere}
---
kind: Service
metadata: {name: blue, project: elsewhere}
spec:
  containers: [{image: "registry.lab:5000/guestbook/redis:1", command: [redis-server, --save, "", --protected-mode, "no"], ready: {tcp: {port: 6379}, interval: 500ms}}]
  ports: [{port: 6379}]
  placement: {require: [{label: host, in: [h2]}]}
---
kind: Service
metadata: {name: green, project: elsewhere}
spec:
  containers: [{image: "registry.lab:5000/guestbook/redis:1", command: [redis-server, --save, "", --protected-mode, "no"], ready: {tcp: {port: 6379}, interval: 500ms}}]
  ports: [{port: 6379}]
  placement: {require: [{label: host, in: [h3]}]}
---
kind: Service
metadata: {name: app, project: elsewhere}
spec:
  containers: [{image: "registry.lab:5000/guestbook/redis:1", command: [sh, -c, "exec sleep infinity"], stopGrace: 1s}]
  links: [{TARGET, localPort: 7000, retarget: cut}]
  placement: {require: [{label: host, in: [h1]}]}
`, "TARGET", to)
}

func (x *elsewhere) begin(ctx context.Context, w *World) (err error) {
	if out, err := w.Apply(ctx, stores("name: store, service: blue")); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	x.stores = map[string]string{}
	for service, host := range map[string]string{"blue": "h2", "green": "h3"} {
		id, err := w.Exec(ctx, host, "sh", "-c", `docker exec $(docker ps -q -f label=dev.gearmesh.project=elsewhere -f label=dev.gearmesh.service="$1") redis-cli info server | grep ^run_id`, "sh", service)
		if err != nil {
			return err
		}
		x.stores[service] = strings.TrimSpace(id)
	}
	if x.container, err = x.running(ctx, w); err != nil {
		return err
	}
	if x.variables, err = x.inside(ctx, w, "env | grep ^STORE | sort; grep store /etc/hosts"); err != nil {
		return err
	}
	if err := Until(ctx, Patience, func() error { return x.answers(ctx, w, "blue") }); err != nil {
		return err
	}
	if _, err := x.inside(ctx, w, "(redis-cli -p 7000 blpop never 0; echo ended >/tmp/ended) >/dev/null 2>&1 &"); err != nil {
		return err
	}
	return Until(ctx, Patience, func() error {
		_, err := x.inside(ctx, w, "redis-cli -p 7000 client list | grep cmd=blpop && test ! -e /tmp/ended")
		return err
	})
}

func (x *elsewhere) lead(ctx context.Context, w *World) error {
	manifest := stores("name: store, service: green")
	plan, err := w.pipe(ctx, strings.NewReader(manifest), "h1", "gear", "plan", "-f", "-")
	if err != nil || strings.Contains(plan, "replace") || !strings.Contains(plan, "link store") {
		return fmt.Errorf("the plan says (%v)\n%s", err, plan)
	}
	if out, err := w.Apply(ctx, manifest); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	if err := Until(ctx, Patience, func() error { return x.answers(ctx, w, "green") }); err != nil {
		return err
	}
	return Until(ctx, Patience, func() error {
		if _, err := x.inside(ctx, w, "test -e /tmp/ended"); err != nil {
			return fmt.Errorf("the program, which only waits, has not heard of the end: %w", err)
		}
		return nil
	})
}

func (x *elsewhere) same(ctx context.Context, w *World) error {
	if now, err := x.running(ctx, w); err != nil || now != x.container {
		return fmt.Errorf("the container was %q and is %q: %w", x.container, now, err)
	}
	if now, err := x.inside(ctx, w, "env | grep ^STORE | sort; grep store /etc/hosts"); err != nil || now != x.variables || !strings.Contains(now, "STORE_PORT=7000") {
		return fmt.Errorf("the container's variables and names were\n%sand are\n%s: %w", x.variables, now, err)
	}
	err := Until(ctx, Patience, func() error {
		out, err := w.Gear(ctx, "events", "-p", "elsewhere")
		if err != nil || !strings.Contains(out, "ChangedLive") {
			err = fmt.Errorf("no event tells of it (%v):\n%s", err, out)
		}
		return err
	})
	if err != nil {
		return err
	}
	plan, err := w.pipe(ctx, strings.NewReader(stores("service: blue")), "h1", "gear", "plan", "-f", "-")
	if err != nil || !strings.Contains(plan, "replace") {
		return fmt.Errorf("without a name the plan says (%v)\n%s", err, plan)
	}
	_, err = w.Gear(ctx, "delete", "project", "elsewhere", "--confirm", "elsewhere", "--wait")
	return err
}

// answers asks ten times by new connections which store is behind the link, at localhost and by its name.
func (x *elsewhere) answers(ctx context.Context, w *World, want string) error {
	out, err := x.inside(ctx, w, "for i in $(seq 5); do timeout 20 redis-cli -p 7000 info server | grep ^run_id; timeout 20 redis-cli -h store -p 7000 info server | grep ^run_id; done")
	if err != nil {
		return err
	}
	ids := strings.Fields(out)
	if len(ids) != 10 {
		return fmt.Errorf("%d of 10 connections were answered", len(ids))
	}
	for _, id := range ids {
		if id != x.stores[want] {
			return fmt.Errorf("%s answers, want that of %s of %v", id, want, x.stores)
		}
	}
	return nil
}

// inside runs a script in the client's container.
func (x *elsewhere) inside(ctx context.Context, w *World, script string) (string, error) {
	return w.Gear(ctx, "exec", "-p", "elsewhere", "app", "--", "sh", "-c", script)
}

// running gives the client's container and when it was started, as the engine has them.
func (x *elsewhere) running(ctx context.Context, w *World) (string, error) {
	return w.Exec(ctx, "h1", "sh", "-c", `docker inspect -f '{{.Id}} {{.State.StartedAt}}' $(docker ps -q -f label=dev.gearmesh.project=elsewhere -f label=dev.gearmesh.service=app)`)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/story"
	"gearmesh.dev/internal/failpoint"
)

// Images of the guestbook; the second has a shell and coreutils.
const (
	webImage   = "registry.lab:5000/guestbook/web:1"
	shellImage = "registry.lab:5000/guestbook/redis:1"
)

// target is the host that most faults strike: no master is on it, and no first router.
const target = "h2"

func hosts() []string { return []string{"h1", "h2", "h3"} }

// rig is a lab with the guestbook on it that harm is done to.
type rig struct {
	*story.World
	scale int
	loss  time.Duration // how long F17 loses packets
	say   func(format string, args ...any)
	self  string // the path of this program

	cuts, starts, removals []failpoint.Name // the points at which F1 cuts the power, and F2 kills

	first     view            // at rest, before the first fault
	acked     ledger          // what the master has acknowledged
	mayChange map[string]bool // hosts whose containers a fault takes away, such as by a reboot
}

// boot makes the lab, the cluster and the guestbook.
func (r *rig) boot(ctx context.Context) error {
	done := func(s story.Step, took time.Duration, err error) { r.say("%-66s %6.1f s", s.Name, took.Seconds()) }
	if err := r.Run(ctx, append(story.Boot(), story.Guestbook()[0]), done); err != nil {
		return err
	}
	if _, err := r.Apply(ctx, ticker); err != nil {
		return err
	}
	return r.runs(ctx, "ticker", target, 1)
}

// ticker writes a line with a number five times a second, to see whether output goes on.
const ticker = `
kind: Service
metadata: {name: ticker, project: guestbook}
spec:
  containers:
    - image: ` + shellImage + `
      command: ["/bin/sh", "-c", "i=0; while true; do i=$((i+1)); echo tick $i; sleep 0.2; done"]
      stopSignal: SIGKILL
  links: [{service: db, localPort: 6379}]
  placement: {require: [{label: host, in: [` + target + `]}]}
`

// one does a fault and looks at the invariants after it.
func (r *rig) one(ctx context.Context, f fault) (rows []figures.Row, err error) {
	start := time.Now()
	defer func() { r.say("%s done in %.1f s: %v", f.ID, time.Since(start).Seconds(), err) }()
	r.mayChange = map[string]bool{}
	if onThree(f.ID) {
		if err := r.grow(ctx); err != nil {
			return nil, err
		}
	}
	before, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	if r.first == nil {
		r.first = before
	}
	s, err := r.openSession(ctx)
	if err != nil {
		return nil, err
	}
	rows, err = f.Do(ctx, r)
	broken := s.close()
	if err != nil {
		// The world is put in order for the next fault as far as it can be.
		return append(rows, failure(f.ID, err)), errors.Join(err, r.settle(ctx))
	}
	settled := r.settle(ctx)
	after, err := r.calm(ctx, before)
	if err != nil {
		return rows, err
	}
	stored := story.Until(ctx, story.Patience, func() error { return r.storeAgrees(ctx, after) })
	return append(rows, r.invariants(f.ID, before, after, broken, settled, stored)), nil
}

// calm looks at all hosts, again for a while when something there is ill or large: what the work after a fault has taken is given back, and
// what is lost or leaked stays.
func (r *rig) calm(ctx context.Context, before view) (now view, err error) {
	ill := story.Until(ctx, story.Patience, func() error {
		if now, err = r.look(ctx); err != nil {
			return err
		}
		units, ports := now.healthy()
		return errors.Join(units, ports, now.residue(), bounded(before, now), bounded(r.first, now))
	})
	if err == nil && ill != nil {
		r.say("it does not come to rest: %v", ill)
	}
	return now, err
}

// failure is the row of a fault that did not go as it must.
func failure(id string, err error) figures.Row {
	what, _, _ := strings.Cut(err.Error(), "\n")
	return figures.Row{ID: id, What: "the fault did not end as it must: " + what, Value: 1, Unit: "failures"}.WithGoal("0 failures", false)
}

// sh runs a shell script in a host; it ends with the script's first error.
func (r *rig) sh(ctx context.Context, host, script string, args ...string) (string, error) {
	return r.Exec(ctx, host, append([]string{"sh", "-euc", script, "sh"}, args...)...)
}

// service is a manifest of a service with one web container on one host.
func service(name, host string, more ...string) string {
	return fmt.Sprintf(`
kind: Service
metadata: {name: %s, project: guestbook}
spec:
  containers: [{image: %q}]
  ports: [{port: 8080}]
  placement: {require: [{label: host, in: [%s]}]}
%s
`, name, webImage, host, strings.Join(more, "\n"))
}

// running counts a service's containers that run on a host, as dockerd tells it.
func (r *rig) running(ctx context.Context, svc, host string) (int, error) {
	out, err := r.sh(ctx, host, `docker ps -q -f label=dev.gearmesh.service="$1" | wc -l`, svc)
	if err != nil {
		return 0, err
	}
	var n int
	_, err = fmt.Sscan(out, &n)
	return n, err
}

// up tells whether a host runs n copies of a service: containers run, and their units are active.
func (r *rig) up(ctx context.Context, svc, host string, n int) error {
	have, err := r.running(ctx, svc, host)
	if err != nil {
		return err
	}
	units, err := r.sh(ctx, host, `systemctl list-units --state=active --plain --no-legend "gear-guestbook-$1-*.service" | grep -vc -e -net.service || true`, svc)
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(units); have != n || got != fmt.Sprint(n) {
		return fmt.Errorf("%s has %d containers of %s and %s active units, want %d", host, have, svc, got, n)
	}
	return nil
}

// runs waits until a host runs n copies of a service.
func (r *rig) runs(ctx context.Context, svc, host string, n int) error {
	return story.Until(ctx, story.Patience, func() error { return r.up(ctx, svc, host, n) })
}

// remove deletes services and waits until the master has forgotten them.
func (r *rig) remove(ctx context.Context, names ...string) error {
	for _, name := range names {
		if _, err := r.Gear(ctx, "delete", "service", name, "-p", story.Project, "--confirm", name); err != nil && !strings.Contains(err.Error(), "there is no service") {
			return err
		}
	}
	for _, name := range names {
		err := story.Until(ctx, story.Patience, func() error {
			if _, err := r.Gear(ctx, "get", "service", name, "-p", story.Project); err == nil {
				return fmt.Errorf("service %s is still there", name)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// settle waits until the cluster is at rest: every host ready, the guestbook serving, and on no host
// anything that is not a pod's. It is no part of what is measured.
func (r *rig) settle(ctx context.Context) error {
	return story.Until(ctx, story.Patience, func() error {
		for _, h := range hosts() {
			var host api.Host
			if err := r.JSON(ctx, &host, "get", "host", h); err != nil {
				return err
			}
			if host.Status.State != api.HostReady {
				return fmt.Errorf("host %s is %s", h, host.Status.State)
			}
		}
		if _, _, err := r.Visit(ctx, "h1"); err != nil {
			return err
		}
		now, err := r.look(ctx)
		if err != nil {
			return err
		}
		return errors.Join(now.residue(), r.complete(now))
	})
}

//go:build lab

package story

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// balancedShop is an app with a balanced link to two copies of a service.
const balancedShop = `
kind: Project
metadata: {name: shop}
---
kind: Service
metadata: {name: db, project: shop}
spec:
  replicas: 2
  containers: [{image: "registry.lab:5000/guestbook/redis:1", command: [redis-server, --save, "", --protected-mode, "no"]}]
  ports: [{name: main, port: 6379}]
---
kind: Service
metadata: {name: app, project: shop}
spec:
  containers: [{image: "registry.lab:5000/guestbook/redis:1", command: [sh, -c, "exec sleep infinity"], stopGrace: 1s}]
  links: [{service: db, localPort: 6379, mode: balanced}]
`

// TestNodeBalanced shows a balanced link with real clients.
func TestNodeBalanced(t *testing.T) {
	tell(t, "balanced", []Step{
		{"a host with a cluster of its own", bootVault},
		{"two copies and an app with a balanced link are ready", applyBalanced},
		{"a connection goes to the copy with fewer", fewestConnections},
		{"the app reads its links from the socket in its container: a copy more is an event, also after the agent was killed", streamLinks},
		{"a copy is killed: at most what it was answering fails, and the app does not restart", loseCopy},
		{"HAProxy is killed with -9: the link is back", killBalancer},
		{"the agent is stopped: the link goes on", stopAgent},
		{"the host is powered off and on without its agent: the link is back from disk", rebootBalanced},
		{"without the link HAProxy does not run", unlinkBalanced},
	})
}

func applyBalanced(ctx context.Context, w *World) error {
	if out, err := w.Apply(ctx, balancedShop); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return Until(ctx, Patience, func() error {
		out, err := w.inApp(ctx, "redis-cli -p 6379 ping")
		if err == nil && !strings.Contains(out, "PONG") {
			err = fmt.Errorf("ping: %q", out)
		}
		if err == nil {
			out, err = w.Gear(ctx, "get", "services", "-p", "shop")
			if err == nil && !strings.Contains(out, "2/2") {
				err = fmt.Errorf("%s", out)
			}
		}
		return err
	})
}

// inApp runs a shell's text in the app's container.
func (w *World) inApp(ctx context.Context, text string) (string, error) {
	return w.Exec(ctx, "h1", "sh", "-c", `exec docker exec "$(docker ps -q -f name=app)" sh -c '`+text+`'`)
}

// answers gives which copies answer n connections, one after the other.
func (w *World) answers(ctx context.Context, n int) ([]string, error) {
	out, err := w.inApp(ctx, fmt.Sprintf("for i in $(seq %d); do redis-cli -p 6379 info server | grep ^run_id; sleep 0.05; done", n))
	ids := slices.Sorted(slices.Values(strings.Fields(out)))
	if err == nil && len(ids) != n {
		err = fmt.Errorf("%d connections had %d answers: %q", n, len(ids), ids)
	}
	return slices.Compact(ids), err
}

func fewestConnections(ctx context.Context, w *World) error {
	// HAProxy is told of the second copy when that is ready.
	answer := func(n int) error {
		return Until(ctx, Patience, func() error {
			ids, err := w.answers(ctx, 8)
			if err == nil && len(ids) != n {
				err = fmt.Errorf("%q answer, want %d", ids, n)
			}
			return err
		})
	}
	if err := answer(2); err != nil {
		return fmt.Errorf("without another connection: %w", err)
	}
	if _, err := w.inApp(ctx, "redis-cli -p 6379 blpop none 0 >/dev/null 2>&1 &"); err != nil {
		return err
	}
	// It is open in a moment. HAProxy may still count a connection that has just ended: then one of eight goes elsewhere.
	if err := answer(1); err != nil {
		return fmt.Errorf("beside a long connection: %w", err)
	}
	return nil
}

// appUnit tells since when the app's unit runs, and how often systemd has restarted it.
func (w *World) appUnit(ctx context.Context) (string, error) {
	return w.Exec(ctx, "h1", "sh", "-c", "systemctl show -p NRestarts -p ActiveEnterTimestampMonotonic 'gear-shop-app-*.service'")
}

// loseCopy kills a copy under connections that come one after the other: what the copy was answering fails with it
// (and what its kernel had taken for it until its last thread was gone), every later one is answered by the other.
func loseCopy(ctx context.Context, w *World) error {
	before, err := w.appUnit(ctx)
	if err != nil {
		return err
	}
	lost := make(chan error, 1)
	go func() {
		time.Sleep(time.Second)
		_, err := w.Exec(ctx, "h1", "sh", "-c", `docker kill "$(docker ps -q -f name=db | head -n 1)"`)
		lost <- err
	}()
	const tries = 150
	out, err := w.inApp(ctx, fmt.Sprintf("for i in $(seq %d); do redis-cli -p 6379 ping; sleep 0.02; done 2>&1", tries))
	if err := <-lost; err != nil {
		return err
	}
	n, open := strings.Count(out, "PONG\n"), strings.Count(out, "Error: ")
	if err != nil || n+open != tries || open > 2 {
		return fmt.Errorf("%d of %d connections were answered: %w: %.400s", n, tries, err, strings.ReplaceAll(out, "PONG\n", ""))
	}
	after, err := w.appUnit(ctx)
	if err == nil && after != before {
		err = fmt.Errorf("the app's unit was %s and is %s", before, after)
	}
	return err
}

func (w *World) pong(ctx context.Context) error {
	out, err := w.inApp(ctx, "timeout 20 redis-cli -p 6379 ping 2>&1")
	if err == nil && !strings.Contains(out, "PONG") {
		err = fmt.Errorf("ping: %q", out)
	}
	return err
}

func killBalancer(ctx context.Context, w *World) error {
	start := time.Now()
	if _, err := w.Exec(ctx, "h1", "systemctl", "kill", "-s", "KILL", "gear-links.service"); err != nil {
		return err
	}
	// The connection is refused, or cut when the dying HAProxy has still taken it, or answered by the next one: silence is what must not be.
	out, err := w.inApp(ctx, "timeout 20 redis-cli -p 6379 ping 2>&1; true")
	if err != nil || strings.TrimSpace(out) == "" {
		return fmt.Errorf("without HAProxy: %q: %w", out, err)
	}
	w.Say("at once: %s", strings.TrimSpace(out))
	if err := Until(ctx, Patience, func() error { return w.pong(ctx) }); err != nil {
		return err
	}
	w.Say("the link is back %.1f s after the kill", time.Since(start).Seconds())
	return nil
}

func stopAgent(ctx context.Context, w *World) error {
	if _, err := w.Exec(ctx, "h1", "systemctl", "disable", "--now", "gear-agent.service"); err != nil {
		return err
	}
	return w.pong(ctx)
}

func rebootBalanced(ctx context.Context, w *World) error {
	if err := w.Lab.PowerOff(ctx, "h1"); err != nil {
		return err
	}
	if err := w.Lab.Boot(ctx, "h1"); err != nil {
		return err
	}
	if err := Until(ctx, Patience, func() error { return w.pong(ctx) }); err != nil {
		return err
	}
	_, err := w.Exec(ctx, "h1", "systemctl", "enable", "--now", "gear-agent.service")
	return err
}

func unlinkBalanced(ctx context.Context, w *World) error {
	if out, err := w.Apply(ctx, strings.Replace(balancedShop, ", mode: balanced", "", 1)); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return Until(ctx, Patience, func() error {
		out, err := w.Exec(ctx, "h1", "sh", "-c", "systemctl is-active gear-links.service; iptables-save | grep -c '^-A GEAR-BALANCED'; true")
		if err == nil && strings.TrimSpace(out) != "inactive\n0" {
			err = fmt.Errorf("%q", out)
		}
		if err == nil {
			err = w.pong(ctx)
		}
		return err
	})
}

package story

import (
	"context"
	"fmt"
	"strings"
	"time"

	"gearmesh.dev/api"
)

// Trust shows how h3 loses the cluster's trust and gets it back: the key of the gossip is changed while it is off, it is removed, and
// it joins anew with a person's approval.
func Trust() []Step {
	return []Step{
		{"the key of the gossip is changed while h3 is off; h3 is back, gets the new key and is a member again", rotateGossip},
		{"h3 is removed: master and agents refuse its certificate", removeHost},
		{"h3 joins anew by a token that waits for approval, and nothing happens before that", joinApproved},
		{"h3 was broken into: gear host remove --now cuts it off, and its pod runs elsewhere though h3 never lets go of its own", expelHost},
		{"h3 joins once more; what still ran there is told, and removed when that is meant", joinClean},
	}
}

func rotateGossip(ctx context.Context, w *World) error {
	if err := w.Lab.PowerOff(ctx, "h3"); err != nil {
		return err
	}
	keys := func(host string) (string, error) {
		return w.Exec(ctx, host, "sha256sum", "/var/lib/gear/agent/gossip.keys")
	}
	before, err := keys("h1")
	if err != nil {
		return err
	}
	if out, err := w.Gear(ctx, "mesh", "rotate", "--timeout", "10m"); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	now, err := keys("h1")
	if err != nil || now == before {
		return fmt.Errorf("h1 has the keys %s as before: %w", now, err)
	}
	if err := w.Lab.Boot(ctx, "h3"); err != nil {
		return err
	}
	return Until(ctx, Patience, func() error {
		if has, err := keys("h3"); err != nil || has != now {
			return fmt.Errorf("h3 has the keys %s, h1 %s: %w", has, now, err)
		}
		return w.hostsReady(ctx, "h1", "h2", "h3")
	})
}

// asOld calls the master and h1's agent with the certificate that h3 had, and prints the status codes; 000 is a handshake that was refused.
const asOld = `for url in "https://$1:7443/v1/hosts/h3/desired" "https://$1:7444/v1/endpoints"; do
curl -sk -m 5 --cert /root/old/host.crt --key /root/old/host.key -o /dev/null -w '%{http_code} ' "$url" || true; done`

func removeHost(ctx context.Context, w *World) error {
	if err := keepIdentity(ctx, w); err != nil {
		return err
	}
	if out, err := w.Gear(ctx, "host", "remove", "h3", "--confirm", "h3"); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return refusedIdentity(ctx, w)
}

// keepIdentity copies h3's certificate, which is good, for later.
func keepIdentity(ctx context.Context, w *World) error {
	if _, err := w.Exec(ctx, "h3", "sh", "-euc", "mkdir -p /root/old; cp /var/lib/gear/agent/host.crt /var/lib/gear/agent/host.key /root/old/"); err != nil {
		return err
	}
	return Until(ctx, Patience, func() error {
		out, err := w.Exec(ctx, "h3", "sh", "-uc", asOld, "sh", w.Address("h1").String())
		if err != nil || out != "200 200 " {
			return fmt.Errorf("before, its certificate is answered %q: %w", out, err)
		}
		return nil
	})
}

func refusedIdentity(ctx context.Context, w *World) error {
	return Until(ctx, Patience, func() error {
		out, err := w.Exec(ctx, "h3", "sh", "-uc", asOld, "sh", w.Address("h1").String())
		if err == nil && out != "401 000 " {
			err = fmt.Errorf("its certificate is answered %q, want 401 by the master and no handshake with the agent", out)
		}
		return err
	})
}

func joinApproved(ctx context.Context, w *World) error {
	var token api.JoinToken
	if err := w.JSON(ctx, &token, "token", "create", "--approve"); err != nil {
		return err
	}
	if _, err := w.Exec(ctx, "h3", "sh", "-euc", "systemctl disable -q --now gear-agent; rm -rf /var/lib/gear/agent"); err != nil {
		return err
	}
	joined := make(chan error, 1)
	go func() {
		out, err := w.Exec(ctx, "h3", "gear", "join", w.Address("h1").String(), token.Token, "--name", "h3", "--address", w.Address("h3").String())
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
		joined <- err
	}()
	err := Until(ctx, Patience, func() error {
		out, err := w.Gear(ctx, "host", "pending")
		if err == nil && !strings.Contains(out, "h3") {
			err = fmt.Errorf("nobody waits: %q", out)
		}
		return err
	})
	if err != nil {
		return err
	}
	if _, err := w.Exec(ctx, "h3", "test", "!", "-e", "/var/lib/gear/agent/host.crt"); err != nil {
		return fmt.Errorf("h3 has a certificate that nobody approved: %w", err)
	}
	if out, err := w.Gear(ctx, "host", "approve", "h3"); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	if err := <-joined; err != nil {
		return err
	}
	return Until(ctx, Patience, func() error { return w.hostsReady(ctx, "h1", "h2", "h3") })
}

// exposed is a service whose pod may run on the hosts that fill in %s.
const exposed = `
kind: Project
metadata: {name: guestbook}
---
kind: Service
metadata: {name: exposed, project: guestbook}
spec:
  containers: [{image: "registry.lab:5000/guestbook/web:1"}]
  ports: [{port: 8080}]
  placement: {require: [{label: host, in: [%s]}]}
`

// expelHost removes h3 while it is well and runs a pod.
func expelHost(ctx context.Context, w *World) error {
	if _, err := w.Apply(ctx, fmt.Sprintf(exposed, "h3")); err != nil {
		return err
	}
	if _, err := w.Apply(ctx, fmt.Sprintf(exposed, "h2, h3")); err != nil { // it stays where it is
		return err
	}
	if _, err := w.only(ctx, "exposed", "h3"); err != nil {
		return err
	}
	if err := keepIdentity(ctx, w); err != nil {
		return err
	}
	start := time.Now()
	if out, err := w.Gear(ctx, "host", "remove", "h3", "--now", "--confirm", "h3"); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	if err := Until(ctx, Patience, func() error { _, err := w.only(ctx, "exposed", "h2"); return err }); err != nil {
		return err
	}
	elsewhere := time.Since(start)
	if err := refusedIdentity(ctx, w); err != nil {
		return err
	}
	for _, h := range []string{"h1", "h2"} {
		err := Until(ctx, Patience, func() error {
			answer, err := w.Dig(ctx, h, "exposed.guestbook.gear.internal", "A")
			if err == nil && answer != w.Address("h2").String()+"\n" {
				err = fmt.Errorf("%s answers %q", h, answer)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	runs, err := w.Exec(ctx, "h3", "docker", "ps", "-q")
	if err != nil || runs == "" {
		return fmt.Errorf("h3 has let go of its pod, so that this shows nothing: %w", err)
	}
	w.Say("its pod runs on h2 after %.1f s, while h3 still runs its own", elsewhere.Seconds())
	return nil
}

// joinClean brings h3 back, which has kept a pod that nobody knows.
func joinClean(ctx context.Context, w *World) error {
	if err := joinApproved(ctx, w); err != nil {
		return err
	}
	uid, err := w.Exec(ctx, "h3", "ls", "/var/lib/gear/pods")
	if err != nil {
		return err
	}
	uid = strings.TrimSpace(uid)
	err = Until(ctx, Patience, func() error {
		out, err := w.Gear(ctx, "host", "forget-pod", "h3", uid, "--confirm")
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := Until(ctx, Patience, func() error { return w.onlyKnownPods(ctx, "h3") }); err != nil {
		return err
	}
	return w.delete(ctx, "service", "exposed")
}

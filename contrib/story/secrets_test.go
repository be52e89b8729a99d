//go:build lab

package story

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"gearmesh.dev/contrib/lab"
)

// canary is a secret that must be found nowhere but in the container that it is for.
const canary = "canary-Zm9vYmFy"

// vault is a service with a secret and with one of each kind of Docker's options.
const vault = `
kind: Project
metadata: {name: vault}
spec: {policy: baseline}
---
kind: Secret
metadata: {name: db, project: vault}
spec: {text: {password: %[1]s, user: ann}}
---
kind: Service
metadata: {name: again, project: vault}
spec:
  cpuWeight: 50
  containers:
    - image: registry.lab:5000/guestbook/redis:1
      command: [sh, -c, "exec sleep infinity"]
      stopGrace: 1s
      secretEnv: {PASSWORD: {secret: db, key: password}}
      secrets: [{secret: db, path: /secrets}, {secret: db, key: password, path: /run/password}]
      capAdd: [CHOWN]
      readOnlyRoot: true
      tmpfs: [{path: /tmp, size: 1Mi}]
      ulimits: [{name: nofile, soft: 500, hard: 600}]
      sysctls: {net.core.somaxconn: "77"} # the lab keeps those of kernel. for itself
      pids: 50
      init: true
      groups: ["20"]
      shmSize: 2Mi
      labels: {team: blue}
      mounts: [{volume: scratch, path: /scratch}, {volume: data, path: /data}]
  volumes: [{name: scratch, tmpfs: true, size: 3Mi}, {name: data, onDelete: delete, size: 1Gi}]
---
kind: Service
metadata: {name: hup, project: vault}
spec:
  containers:
    - image: registry.lab:5000/guestbook/redis:1
      command: [sh, -c, "trap 'echo told' HUP; while :; do sleep 0.2; done"]
      stopGrace: 1s
      secrets: [{secret: db, key: password, path: /run/password}]
      onSecretChange: SIGHUP
`

// TestNodeSecrets runs containers with secrets and options on a real host, and looks for the secrets where they
// must not be.
func TestNodeSecrets(t *testing.T) {
	tell(t, "vault", []Step{
		{"a host with a cluster of its own", bootVault},
		{"a service that its policy does not allow is refused", refuseByPolicy},
		{"containers have their secrets and options", lookInside},
		{"no secret is anywhere else", lookForCanary},
		{"a change restarts one container and is signalled to another", changeSecret},
		{"no secret is anywhere else after that", lookForCanary},
		{"a pod that stops leaves no secret in memory", stopVault},
		{"it starts again with neither master nor agent", startAlone},
		{"deletion leaves nothing", deleteVault},
	})
}

func bootVault(ctx context.Context, w *World) error {
	if err := w.Lab.Up(ctx, 1); err != nil {
		return err
	}
	if err := w.Look(ctx); err != nil {
		return err
	}
	if _, err := w.Lab.Load(ctx, lab.Image{Name: "guestbook/redis:1", Packages: []string{"redis-server"}, Cmd: []string{"redis-server"}}); err != nil {
		return err
	}
	return gearUp(ctx, w)
}

func refuseByPolicy(ctx context.Context, w *World) error {
	text := strings.Replace(fmt.Sprintf(vault, canary), "{policy: baseline}", "{description: strict}", 1)
	out, err := w.Apply(ctx, text)
	if err == nil || !strings.Contains(out+err.Error(), `spec.containers[0].capAdd: capability "CHOWN" is not allowed by policy "restricted"`) {
		return fmt.Errorf("it was taken, or refused with other words: %w\n%s", err, out)
	}
	out, err = w.Apply(ctx, fmt.Sprintf(vault, canary))
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return vaultReady(ctx, w)
}

func vaultReady(ctx context.Context, w *World) error {
	return Until(ctx, Patience, func() error {
		out, err := w.Gear(ctx, "get", "services", "-p", "vault")
		if err == nil && strings.Count(out, "1/1") != 2 {
			err = errors.New(out)
		}
		return err
	})
}

// inside runs a shell in a container, as docker exec does.
func inside(ctx context.Context, w *World, service, script string) (string, error) {
	find := `docker exec $(docker ps -q --filter label=dev.gearmesh.service=` + service + `) sh -c "$0"`
	out, err := w.Exec(ctx, "h1", "sh", "-c", find, script)
	return strings.TrimSpace(out), err
}

// want compares what shells in a container say.
func want(ctx context.Context, w *World, service string, answers map[string]string) error {
	var errs []error
	for script, answer := range answers {
		if got, err := inside(ctx, w, service, script); err != nil || got != answer {
			errs = append(errs, fmt.Errorf("%s: %q, want %q: %w", script, got, answer, err))
		}
	}
	return errors.Join(errs...)
}

func lookInside(ctx context.Context, w *World) error {
	// Of the first process below docker-init: commands that are executed later do not have the variables.
	// A container without a check counts as ready when it has been started.
	return Until(ctx, Patience, func() error { return want(ctx, w, "again", vaultAnswers()) })
}

// vaultAnswers is what shells in the container say.
func vaultAnswers() map[string]string {
	return map[string]string{
		"tr '\\0' '\\n' </proc/1/environ | grep ^PASSWORD=":                                 "PASSWORD=" + canary,
		"cat /secrets/password /run/password":                                               canary + canary,
		"ls /secrets; stat -c '%a %u' /secrets/user":                                        "password\nuser\n400 0",
		"touch /x 2>/dev/null || echo no; touch /tmp/x && echo y":                           "no\ny",
		"cat /proc/sys/net/core/somaxconn":                                                  "77",
		"ulimit -n; id -G":                                                                  "500\n0 20",
		"grep CapEff /proc/self/status | cut -f2":                                           "0000000000000401",
		"df -k /dev/shm /tmp /scratch | awk 'NR>1 {print $2}'":                              "2048\n1024\n3072",
		"touch /scratch/x /data/x && stat -c %a /scratch":                                   "1777",
		"tr '\\0' ' ' </proc/1/cmdline | cut -d' ' -f1":                                     "/sbin/docker-init",
		"grep -c . /proc/self/status >/dev/null; grep NoNewPrivs /proc/self/status|cut -f2": "1",
	}
}

// lookForCanary looks where secrets must not be. Only the container's own files in memory, and its bundle, have them.
func lookForCanary(ctx context.Context, w *World) error {
	script := `
word="canary-$0|Y2FuYXJ5$1" # put together here, so that this command's own line does not have it; the second is base64
docker inspect $(docker ps -aq) >/tmp/look.inspect
systemctl show 'gear-*' >/tmp/look.show
journalctl -q --no-pager -o export >/tmp/look.journal
gear get secrets,services,pods -A -o json >/tmp/look.gear 2>/dev/null || for k in secrets services pods; do gear get $k -o json; done >/tmp/look.gear
cat /proc/[0-9]*/cmdline >/tmp/look.cmdline 2>/dev/null
test -s /tmp/look.inspect && test -s /tmp/look.show && test -s /tmp/look.journal && test -s /tmp/look.gear || echo nothing was looked at
grep -rlaE "$word" /tmp/look.* /etc /var/lib/gear /run/gear --exclude-dir=secrets
grep -rlaE "$word" /var/lib/docker/containers /run/systemd /run/log /var/log 2>/dev/null
find /run/gear/secrets -name '*.env'
rm -f /tmp/look.*`
	out, err := w.Exec(ctx, "h1", "sh", "-c", script+"; true", strings.TrimPrefix(canary, "canary-"), "LVptOXZZbUZ5")
	if err == nil && strings.TrimSpace(out) != "" {
		err = fmt.Errorf("found in: %s", out)
	}
	return err
}

func changeSecret(ctx context.Context, w *World) error {
	before, err := w.Exec(ctx, "h1", "docker", "ps", "-q", "--filter", "label=dev.gearmesh.service=hup")
	if err != nil {
		return err
	}
	if out, err := w.Apply(ctx, fmt.Sprintf(vault, canary+"2")); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	err = Until(ctx, Patience, func() error {
		return errors.Join(
			want(ctx, w, "again", map[string]string{"cat /run/password; tr '\\0' '\\n' </proc/1/environ | grep ^PASSWORD=": canary + "2PASSWORD=" + canary + "2"}),
			want(ctx, w, "hup", map[string]string{"cat /run/password": canary + "2"}))
	})
	if err != nil {
		return err
	}
	if after, err := w.Exec(ctx, "h1", "docker", "ps", "-q", "--filter", "label=dev.gearmesh.service=hup"); err != nil || after != before {
		return fmt.Errorf("the container that wants a signal was restarted: %s, %s, %w", before, after, err)
	}
	return Until(ctx, Patience, func() error {
		out, err := w.Exec(ctx, "h1", "journalctl", "-q", "-o", "cat", "GEAR_SERVICE=hup")
		if err == nil && strings.Count(out, "told") != 1 {
			err = fmt.Errorf("it was told %d times:\n%s", strings.Count(out, "told"), out)
		}
		return err
	})
}

func stopVault(ctx context.Context, w *World) error {
	out, err := w.Exec(ctx, "h1", "sh", "-c", "systemctl stop gear-master gear-agent; systemctl stop 'gear-vault-*'; ls /run/gear/secrets /run/gear/volumes; mount | grep -c /run/gear/volumes; true")
	if got := strings.Fields(out); err == nil && strings.Join(got, " ") != "/run/gear/secrets: /run/gear/volumes: 0" {
		err = fmt.Errorf("left in memory: %q", out)
	}
	return err
}

func startAlone(ctx context.Context, w *World) error {
	if _, err := w.Exec(ctx, "h1", "systemctl", "start", "gear.target"); err != nil {
		return err
	}
	if _, err := w.Exec(ctx, "h1", "sh", "-c", "systemctl start $(ls /etc/systemd/system/gear.target.wants | grep gear-vault)"); err != nil {
		return err
	}
	err := Until(ctx, Patience, func() error {
		return want(ctx, w, "again", map[string]string{"cat /run/password; ls /scratch; ls /data": canary + "2x"})
	})
	if err != nil {
		return err
	}
	if _, err := w.Exec(ctx, "h1", "systemctl", "start", "gear-master", "gear-agent"); err != nil {
		return err
	}
	return vaultReady(ctx, w)
}

func deleteVault(ctx context.Context, w *World) error {
	if out, err := w.Gear(ctx, "delete", "project", "vault", "--confirm", "vault"); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return Until(ctx, Patience, func() error {
		out, err := w.Exec(ctx, "h1", "sh", "-c", "ls -A /run/gear/secrets /run/gear/volumes /run/gear/containers /var/lib/gear/pods /var/lib/gear/volumes; mount | grep /run/gear/volumes; docker ps -aq --filter label=dev.gearmesh.project=vault; true")
		var left []string
		for _, line := range strings.Fields(out) {
			if !strings.HasSuffix(line, ":") {
				left = append(left, line)
			}
		}
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("left: %s", left)
		}
		return err
	})
}

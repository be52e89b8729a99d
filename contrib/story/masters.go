package story

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gearmesh.dev/api"
)

// Masters shows several masters: how they are made, that one may die and two may not, how one is replaced, and
// how a cluster comes back from a backup.
func Masters() []Step {
	return []Step{
		{"h2 and h3 become masters too, with a token each, and have a vote", GrowMasters},
		{"the leader is killed: another one leads, and what is applied runs", loseLeader},
		{"two of three masters are down: writes are 503, reads and the guestbook go on", loseQuorum},
		{"both are back: all three have a vote and take writes", masterQuorumBack},
		{"h3's master loses its disk: it is removed, and joins anew", replaceMaster},
		{"all masters are lost, h1's is restored from an older backup: nothing stops, the later pod shows as unknown", restoreBackup},
	}
}

// GrowMasters makes every host a master.
func GrowMasters(ctx context.Context, w *World) error {
	for _, h := range []string{"h2", "h3"} {
		if err := w.joinMaster(ctx, h); err != nil {
			return err
		}
	}
	if err := w.voters(ctx, 3); err != nil {
		return err
	}
	// Masters elect anew whenever the leader is slow to speak.
	return Until(ctx, Patience, func() error { _, err := w.Gear(ctx, "master", "list", "--save"); return err })
}

func (w *World) joinMaster(ctx context.Context, host string) error {
	var token api.JoinToken
	// Masters that have just lost another one may be electing.
	err := Until(ctx, Patience, func() error { return w.JSON(ctx, &token, "token", "create", "--master") })
	if err != nil {
		return err
	}
	_, err = w.Exec(ctx, host, "gear", "join", w.hosts["h1"].String(), token.Token, "--name", host, "--address", w.hosts[host].String(), "--master")
	return err
}

// voters waits until there are n masters with a vote and no others, and one leads.
func (w *World) voters(ctx context.Context, n int) error {
	return Until(ctx, Patience, func() error {
		var list api.MasterList
		if err := w.JSON(ctx, &list, "master", "list"); err != nil {
			return err
		}
		leads := 0
		for _, m := range list.Items {
			if m.State != api.MasterVoter {
				return fmt.Errorf("master %q is a %s", m.Name, m.State)
			}
			if m.Leads {
				leads++
			}
		}
		if len(list.Items) != n || leads != 1 {
			return fmt.Errorf("there are %d masters, %d lead: %+v", len(list.Items), leads, list.Items)
		}
		return nil
	})
}

// Leader gives the name of the master that leads.
func (w *World) Leader(ctx context.Context) (string, error) {
	var list api.MasterList
	if err := w.JSON(ctx, &list, "master", "list"); err != nil {
		return "", err
	}
	for _, m := range list.Items {
		if m.Leads {
			return string(m.Name), nil
		}
	}
	return "", errors.New("no master leads")
}

// stopMaster kills a master and keeps it down.
func (w *World) stopMaster(ctx context.Context, host string) error {
	_, err := w.Exec(ctx, host, "sh", "-euc", "systemctl kill --signal=KILL gear-master.service; systemctl stop gear-master.service")
	return err
}

const extra = `
kind: Service
metadata: {name: %s, project: guestbook}
spec:
  containers: [{image: "registry.lab:5000/guestbook/web:1"}]
  ports: [{port: 8080}]
  placement: {require: [{label: host, in: [h2]}]}
`

func loseLeader(ctx context.Context, w *World) error {
	var err error
	if w.webs, err = w.startTimes(ctx, "web"); err != nil {
		return err
	}
	var leader string
	if err := Until(ctx, Patience, func() (err error) { leader, err = w.Leader(ctx); return err }); err != nil {
		return err
	}
	if err := w.stopMaster(ctx, leader); err != nil {
		return err
	}
	start := time.Now()
	// It ends when it runs. gear tries for a few seconds by itself; an election between two slow masters may take longer.
	err = Until(ctx, Patience, func() error { _, err := w.Apply(ctx, fmt.Sprintf(extra, "after")); return err })
	if err != nil {
		return err
	}
	w.Say("killed %s; applied and running %.1f s later", leader, time.Since(start).Seconds())
	return errors.Join(w.Count(ctx, 10, "h1", "h2"), w.untouched(ctx))
}

// untouched tells whether no web unit was restarted since startTimes.
func (w *World) untouched(ctx context.Context) error {
	now, err := w.startTimes(ctx, "web")
	if err != nil {
		return err
	}
	for pod, at := range w.webs {
		if now[pod] != at {
			return fmt.Errorf("pod %s was started at %s, and now at %q", pod, at, now[pod])
		}
	}
	return nil
}

// Write puts a project by one master and gives the status, "000" without an answer, and the seconds it took.
func (w *World) Write(ctx context.Context, host, project string) (status string, took time.Duration, err error) {
	return w.curl(ctx, "-X", "PUT", "-d", "{}", "https://"+w.hosts[host].String()+":7443/v1/projects/"+project)
}

// curl asks as h1's administrator, and gives the status and how long that took by curl's own watch.
func (w *World) curl(ctx context.Context, args ...string) (status string, took time.Duration, err error) {
	const script = `token=$(sed -n 's/.*"token": "\(.*\)".*/\1/p' /root/.config/gear/config.json)
		exec curl -sk -m 60 -o /dev/null -w '%{http_code} %{time_total}' -H "Authorization: Bearer $token" "$@"`
	out, err := w.Exec(ctx, "h1", append([]string{"sh", "-uc", script, "sh"}, args...)...)
	if err != nil {
		return "", 0, err
	}
	var seconds float64
	if _, err := fmt.Sscan(out, &status, &seconds); err != nil {
		return "", 0, fmt.Errorf("curl says %q: %w", out, err)
	}
	return status, time.Duration(seconds * float64(time.Second)), nil
}

func loseQuorum(ctx context.Context, w *World) error {
	var up []string
	for _, h := range []string{"h1", "h2", "h3"} {
		if _, err := w.Exec(ctx, h, "systemctl", "is-active", "-q", "gear-master"); err == nil {
			up = append(up, h)
		}
	}
	if len(up) != 2 {
		return fmt.Errorf("masters run on %v, want two", up)
	}
	if err := w.stopMaster(ctx, up[0]); err != nil {
		return err
	}
	status, took, err := w.Write(ctx, up[1], "lonely")
	if err != nil || status != "503" {
		return fmt.Errorf("a write gives %s, %w", status, err)
	}
	w.Say("a write without a quorum is 503 after %.1f s", took.Seconds())
	err = Until(ctx, Patience, func() error {
		if status, _, err := w.curl(ctx, "https://"+w.hosts[up[1]].String()+":7443/v1/hosts"); err != nil || status != "200" {
			return fmt.Errorf("a read gives %s, %w", status, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return errors.Join(w.Count(ctx, 10, "h1", "h2"), w.untouched(ctx))
}

func masterQuorumBack(ctx context.Context, w *World) error {
	for _, h := range []string{"h1", "h2", "h3"} {
		if _, err := w.Exec(ctx, h, "systemctl", "start", "--no-block", "gear-master"); err != nil {
			return err
		}
	}
	if err := w.voters(ctx, 3); err != nil {
		return err
	}
	for _, h := range []string{"h1", "h2", "h3"} {
		err := Until(ctx, Patience, func() error {
			if status, _, err := w.Write(ctx, h, "by-"+h); err != nil || status != "201" && status != "200" {
				return fmt.Errorf("a write by %s gives %s, %w", h, status, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return w.untouched(ctx)
}

func replaceMaster(ctx context.Context, w *World) error {
	if err := w.stopMaster(ctx, "h3"); err != nil {
		return err
	}
	if _, err := w.Exec(ctx, "h3", "rm", "-rf", "/var/lib/gear/master"); err != nil {
		return err
	}
	// h3 may have led: until another one does, joining fails for other reasons.
	var refused error
	err := Until(ctx, Patience, func() error {
		if refused = w.joinMaster(ctx, "h3"); refused != nil && !strings.Contains(refused.Error(), "gear master remove h3") {
			return refused
		}
		return nil
	})
	if err != nil || refused == nil {
		return fmt.Errorf("a second h3 joins: %w", err)
	}
	if _, err := w.Gear(ctx, "master", "remove", "h3", "--confirm"); err != nil {
		return err
	}
	if err := w.joinMaster(ctx, "h3"); err != nil {
		return err
	}
	return errors.Join(w.voters(ctx, 3), w.untouched(ctx))
}

func restoreBackup(ctx context.Context, w *World) error {
	if _, err := w.Exec(ctx, "h1", "sh", "-euc", "cd /root && GEAR_PASSPHRASE='correct horse' gear backup old.backup && [ $(stat -c %a old.backup) = 600 ]"); err != nil {
		return err
	}
	if _, err := w.Apply(ctx, fmt.Sprintf(extra, "later")); err != nil {
		return err
	}
	for _, h := range []string{"h1", "h2", "h3"} {
		if _, err := w.Exec(ctx, h, "sh", "-euc", "systemctl disable -q --now gear-master; rm -rf /var/lib/gear/master"); err != nil {
			return err
		}
	}
	if _, err := w.Exec(ctx, "h1", "sh", "-euc", "cd /root && GEAR_PASSPHRASE='correct horse' gear restore old.backup && gear up --router --name h1 --address "+w.hosts["h1"].String()); err != nil {
		return err
	}
	if err := Until(ctx, Patience, func() error { return w.hostsReady(ctx, "h1", "h3") }); err != nil {
		return err
	}
	// h2 says that it runs a pod that nobody assigned to it. It is shown, and goes on.
	uid := ""
	err := Until(ctx, Patience, func() error {
		var h api.Host
		if err := w.JSON(ctx, &h, "get", "host", "h2"); err != nil {
			return err
		}
		uid, _, _ = strings.Cut(after(h.Status.Message, "("), ")")
		if h.Status.Reason != api.ReasonUnknownPod || !strings.Contains(h.Status.Message, "guestbook/later-") {
			return fmt.Errorf("h2 is %s, %s: %s", h.Status.State, h.Status.Reason, h.Status.Message)
		}
		return nil
	})
	if err != nil {
		return err
	}
	out, err := w.Exec(ctx, "h2", "docker", "ps", "-q", "-f", "label=dev.gearmesh.service=later")
	if err != nil || strings.TrimSpace(out) == "" {
		return fmt.Errorf("the later pod does not run: %q, %w", out, err)
	}
	err = Until(ctx, Patience, func() error {
		// A busy host may answer too late, and do it; and until it has heard the new master it goes by what the old one wanted.
		_, forgot := w.Gear(ctx, "host", "forget-pod", "h2", uid, "--confirm")
		if out, err := w.Exec(ctx, "h2", "docker", "ps", "-q", "-f", "label=dev.gearmesh.service=later"); err != nil || strings.TrimSpace(out) != "" {
			return fmt.Errorf("the later pod is still there: %w, %w", forgot, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return errors.Join(w.Count(ctx, 10, "h1", "h2"), w.untouched(ctx))
}

func after(text, mark string) string {
	_, rest, _ := strings.Cut(text, mark)
	return rest
}

//go:build lab

package story

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/lab"
)

// TestLabFirewall shows hosts behind a firewall of their own.
func TestLabFirewall(t *testing.T) {
	tellOn(t, "firewall", []string{"firewalld", "ufw"}, firewallSteps())
}

// firewallSteps are told on hosts that have firewalld and ufw installed: h1 runs the one, h2 the other. Both refuse nearly
// everything at first.
func firewallSteps() []Step {
	return []Step{
		{"a host with firewalld and one with ufw are up", bootFirewalls},
		{"h1: gear up says what firewalld refuses", upBehindFirewalld},
		{"h2: gear join does not get through, and says what to look at", joinRefused},
		{"what gear up and gear join say is done: h2 joins", openFirewalls},
		{"a link leads from h1 to h2, and names are answered", linkThroughFirewalls},
		{"firewalld is reloaded, restarted, stopped and started: the rules are back, and the link goes on", func(ctx context.Context, w *World) error {
			return firewallAgain(ctx, w, "h1", "firewall-cmd --reload", "firewall-cmd --complete-reload", "systemctl restart firewalld", "systemctl stop firewalld", "systemctl start firewalld")
		}},
		{"ufw is reloaded, disabled and enabled: the same", func(ctx context.Context, w *World) error {
			return firewallAgain(ctx, w, "h2", "ufw reload", "ufw disable", "ufw --force enable")
		}},
	}
}

func bootFirewalls(ctx context.Context, w *World) error {
	if err := w.Lab.Up(ctx, 2); err != nil {
		return err
	}
	if err := w.Look(ctx); err != nil {
		return err
	}
	if _, err := w.Lab.Load(ctx, lab.Image{Name: "guestbook/redis:1", Packages: []string{"redis-server"}, Cmd: []string{"redis-server"}}); err != nil {
		return err
	}
	if _, err := w.Exec(ctx, "h2", "sh", "-ec", "systemctl disable --now firewalld; ufw --force enable"); err != nil {
		return err
	}
	return Until(ctx, Patience, func() error {
		_, err := w.Exec(ctx, "h1", "firewall-cmd", "--state")
		return err
	})
}

// advised finds the commands that a firewall's step prints.
var advised = regexp.MustCompile(`(?m)^! firewall: .* with: (.*) \d+\.\ds$`)

// upText runs gear up on h1, and gives what it says.
func upText(ctx context.Context, w *World) (string, error) {
	return w.Exec(ctx, "h1", "sh", "-c", `exec gear up --name h1 --address "$1" --router 2>&1`, "sh", w.hosts["h1"].String())
}

func upBehindFirewalld(ctx context.Context, w *World) error {
	out, err := upText(ctx, w)
	if err != nil {
		return err
	}
	if m := advised.FindStringSubmatch(out); m == nil || !strings.Contains(m[1], "--add-port=7443/tcp") {
		return fmt.Errorf("gear up says nothing of firewalld:\n%s", out)
	}
	return nil
}

// joinText runs gear join on h2, and gives what it says.
func joinText(ctx context.Context, w *World) (string, error) {
	var token api.JoinToken
	if err := w.JSON(ctx, &token, "token", "create"); err != nil {
		return "", err
	}
	return w.Exec(ctx, "h2", "sh", "-c", `exec gear join "$1" "$2" --name h2 --address "$3" 2>&1`, "sh", w.hosts["h1"].String(), token.Token, w.hosts["h2"].String())
}

func joinRefused(ctx context.Context, w *World) error {
	_, err := joinText(ctx, w)
	if err == nil || !strings.Contains(err.Error(), "is a firewall in the way?") {
		return fmt.Errorf("gear join came to %w", err)
	}
	return nil
}

// openFirewalls does what is advised, after which there is no advice any more.
func openFirewalls(ctx context.Context, w *World) error {
	texts := []struct {
		host string
		say  func(context.Context, *World) (string, error)
	}{{"h1", upText}, {"h2", joinText}}
	for _, t := range texts {
		out, err := t.say(ctx, w)
		if err != nil {
			return err
		}
		m := advised.FindStringSubmatch(out)
		if m == nil {
			return fmt.Errorf("no advice on %s:\n%s", t.host, out)
		}
		w.Say("%s: %s", t.host, m[1])
		if _, err := w.Exec(ctx, t.host, "sh", "-ec", m[1]); err != nil {
			return err
		}
		if out, err = t.say(ctx, w); err != nil || !strings.Contains(out, "firewall: nothing to do") {
			return fmt.Errorf("%s is open, and is advised: %w\n%s", t.host, err, out)
		}
	}
	return nil
}

const firewallShop = `
kind: Project
metadata: {name: shop}
---
kind: Service
metadata: {name: db, project: shop}
spec:
  containers: [{image: "registry.lab:5000/guestbook/redis:1", command: [redis-server, --save, "", --protected-mode, "no"]}]
  ports: [{name: main, port: 6379}]
  placement: {require: [{label: host, in: [h2]}]}
---
kind: Service
metadata: {name: app, project: shop}
spec:
  containers: [{image: "registry.lab:5000/guestbook/redis:1", command: [sh, -c, "exec sleep infinity"], stopGrace: 1s}]
  links: [{service: db, localPort: 6379}]
  placement: {require: [{label: host, in: [h1]}]}
`

func linkThroughFirewalls(ctx context.Context, w *World) error {
	if out, err := w.Apply(ctx, firewallShop); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return Until(ctx, Patience, func() error { return linkAnswers(ctx, w) })
}

func linkAnswers(ctx context.Context, w *World) error {
	out, err := w.inApp(ctx, "timeout 5 redis-cli -p 6379 ping 2>&1; getent hosts h2.host.gear.internal")
	if err == nil && !strings.Contains(out, "PONG") {
		err = fmt.Errorf("the link answers %q", out)
	}
	return err
}

// firewallAgain does each of some things to a host's firewall, and waits until Gearmesh's rules are what they were and the link answers.
func firewallAgain(ctx context.Context, w *World, host string, things ...string) error {
	rules := func() (string, error) {
		return w.Exec(ctx, host, "sh", "-c", `{ iptables-save; ip6tables-save; } | grep GEAR- | grep -v '^:' | sort`)
	}
	want, err := rules()
	if err != nil || want == "" {
		return fmt.Errorf("the rules of Gearmesh are %q: %w", want, err)
	}
	for _, thing := range things {
		if _, err := w.Exec(ctx, host, "sh", "-ec", thing); err != nil {
			return err
		}
		err := Until(ctx, Patience, func() error {
			have, err := rules()
			if err == nil && have != want {
				err = fmt.Errorf("the rules are\n%s\nand were\n%s", have, want)
			}
			if err == nil {
				err = linkAnswers(ctx, w)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("after %s: %w", thing, err)
		}
	}
	return nil
}

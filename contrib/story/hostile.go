package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gearmesh.dev/api"
)

// Faults shows bad input and faults beyond those of the guestbook: each ends in a clear error or
// the promised recovery.
func Faults() []Step {
	return []Step{
		{"bad manifests are refused, by field, and nothing is stored", badManifests},
		{"an image that does not exist is named as the reason, up to the service", missingImage},
		{"a container that ends at once backs off, and its last words are shown", crashLoop},
		{"the agent killed with -9 in the middle of a deployment finishes it", agentKilled},
		{"dockerd killed with -9, past the limit of systemd's restarts: it comes back, and no container restarts", dockerdKilled},
		{"every gear-run of a host killed with -9: containers are adopted, none has a second copy", supervisorsKilled},
		{"iptables flushed: the rules are back as they were", rulesFlushed},
		{"gear host drain empties a host while people visit; db stays where its volume is", drainHost},
		{"a service deleted while its host is off is gone when the host is back", deleteWhileOff},
		{"h2 loses its power and comes back: placement.rebalance fills it again while people visit", fillAgain},
		{"a join token works once, and a wrong pin is refused", tokenTwice},
	}
}

// End deletes everything and looks for what is left.
func End() []Step {
	return []Step{{"deleting the project leaves no unit, rule, namespace, container or file", deleteAll}}
}

// service is a manifest of a service with one container and more lines of its spec.
func service(name, image, spec string) string {
	return fmt.Sprintf("kind: Service\nmetadata: {name: %s, project: guestbook}\nspec:\n  containers: [{image: %q}]\n%s\n", name, image, spec)
}

func badManifests(ctx context.Context, w *World) error {
	const web = "registry.lab:5000/guestbook/web:1"
	for says, manifest := range map[string]string{
		"replica":             service("bad", web, "  replica: 3"),
		"three":               service("bad", web, "  replicas: three"),
		"metadata.name":       service(`"Bad_Name"`, web, ""),
		"63":                  service(strings.Repeat("a", 64), web, ""),
		"containers[0].image": service("bad", "a\nb", ""),
		"spec.env":            service("bad", web, `  env: {"A\nB": x}`),
		"spec.env.A":          service("bad", web, `  env: {A: "x\ny"}`),
		"aliases[0]":          service("bad", web, "  ports: [{port: 80}]\n  aliases: [\"a b\"]"),
		"kind":                "kind: Servise\nmetadata: {name: bad, project: guestbook}\n",
		"nowhere":             strings.Replace(service("bad", web, ""), "project: guestbook", "project: nowhere", 1),
	} {
		out, err := w.Apply(ctx, manifest)
		if err == nil {
			return fmt.Errorf("this was taken:\n%s\n%s", manifest, out)
		}
		if !strings.Contains(err.Error(), says) {
			return fmt.Errorf("the error does not say %q: %w", says, err)
		}
	}
	var list api.List[json.RawMessage]
	if err := w.JSON(ctx, &list, "get", "services", "-p", Project); err != nil {
		return err
	}
	for _, s := range list.Items {
		if strings.Contains(string(s), `"bad"`) {
			return fmt.Errorf("a refused service was stored: %s", s)
		}
	}
	return nil
}

// serviceSays waits until the status of a service has a reason and words.
func (w *World) serviceSays(ctx context.Context, name string, words ...string) error {
	return Until(ctx, Patience, func() error {
		var s api.Service
		if err := w.JSON(ctx, &s, "get", "service", name, "-p", Project); err != nil {
			return err
		}
		said := string(s.Status.Reason) + ": " + s.Status.Message
		for _, word := range words {
			if !strings.Contains(said, word) {
				return fmt.Errorf("service %s says %q, not %q", name, said, word)
			}
		}
		w.Say("%s", said)
		return nil
	})
}

func (w *World) delete(ctx context.Context, kind, name string) error {
	if _, err := w.Gear(ctx, "delete", kind, name, "-p", Project, "--confirm", name); err != nil {
		return err
	}
	return Until(ctx, Patience, func() error {
		if _, err := w.Gear(ctx, "get", kind, name, "-p", Project); err == nil {
			return fmt.Errorf("%s %s is still there", kind, name)
		}
		return nil
	})
}

func missingImage(ctx context.Context, w *World) error {
	if _, err := w.Apply(ctx, service("lost", "registry.lab:5000/guestbook/nothing:9", ""), "--no-wait"); err != nil {
		return err
	}
	if err := w.serviceSays(ctx, "lost", "ImagePull", "registry.lab:5000/guestbook/nothing:9"); err != nil {
		return err
	}
	return w.delete(ctx, "service", "lost")
}

func crashLoop(ctx context.Context, w *World) error {
	manifest := `
kind: Service
metadata: {name: crash, project: guestbook}
spec:
  containers:
    - image: registry.lab:5000/guestbook/redis:1
      command: ["/bin/sh", "-c", "echo my last words; exit 7"]
`
	if _, err := w.Apply(ctx, manifest, "--no-wait"); err != nil {
		return err
	}
	if err := w.serviceSays(ctx, "crash", "Exited", "7", "my last words"); err != nil {
		return err
	}
	// Between two back-offs, which become longer, it runs for a moment.
	err := Until(ctx, Patience, func() error {
		pods, err := w.Pods(ctx, "crash")
		if err == nil && (len(pods) != 1 || pods[0].Status.Phase != api.PhaseBackOff) {
			err = fmt.Errorf("want one pod in back-off: %s", phases(pods))
		}
		return err
	})
	if err != nil {
		return err
	}
	return w.delete(ctx, "service", "crash")
}

func agentKilled(ctx context.Context, w *World) error {
	manifest := service("late", "registry.lab:5000/guestbook/web:1",
		"  replicas: 6\n  ports: [{port: 8080}]\n  links: [{service: db, localPort: 6379}]\n  placement: {require: [{label: host, in: [h2]}]}")
	if _, err := w.Apply(ctx, manifest, "--no-wait"); err != nil {
		return err
	}
	for range 5 {
		time.Sleep(150 * time.Millisecond)
		if _, err := w.Exec(ctx, "h2", "systemctl", "kill", "--signal=KILL", "gear-agent.service"); err != nil {
			return err
		}
		if _, err := w.Exec(ctx, "h2", "systemctl", "reset-failed", "gear-agent.service"); err != nil {
			return err
		}
		if _, err := w.Exec(ctx, "h2", "systemctl", "start", "gear-agent.service"); err != nil {
			return err
		}
	}
	if err := w.Ready(ctx, "late", 6); err != nil {
		return err
	}
	if err := Until(ctx, Patience, func() error { return w.onlyKnownPods(ctx, "h2") }); err != nil {
		return err
	}
	if err := w.delete(ctx, "service", "late"); err != nil {
		return err
	}
	return Until(ctx, Patience, func() error { return w.onlyKnownPods(ctx, "h2") })
}

// containers gives id and start time of what runs on a host, as dockerd tells it.
func (w *World) containers(ctx context.Context, host string) (string, error) {
	return w.Exec(ctx, host, "sh", "-c", `docker ps -q --no-trunc | sort | xargs -r docker inspect -f '{{.Id}} {{.State.StartedAt}} {{.State.Pid}}'`)
}

// atRest waits until web and db are ready and a host has nothing but what belongs to its pods: what is noted then changes only when something
// happens to it.
func (w *World) atRest(ctx context.Context, host string) error {
	if err := w.Ready(ctx, "web", 3, "db", 1); err != nil {
		return err
	}
	return Until(ctx, Patience, func() error { return w.onlyKnownPods(ctx, host) })
}

func dockerdKilled(ctx context.Context, w *World) error {
	if err := w.atRest(ctx, "h1"); err != nil {
		return err
	}
	before, err := w.containers(ctx, "h1")
	if err != nil {
		return err
	}
	for range 4 { // dockerd's unit is started three times in a minute, then given up
		if _, err := w.Exec(ctx, "h1", "systemctl", "kill", "--signal=KILL", "--kill-who=main", "docker.service"); err != nil {
			return err
		}
		if err := w.Count(ctx, 4, "h1", "h2"); err != nil {
			return err
		}
		if err := Until(ctx, Patience, func() error { _, err := w.Exec(ctx, "h1", "docker", "version"); return err }); err != nil {
			return err
		}
	}
	after, err := w.containers(ctx, "h1")
	if err != nil || after != before || before == "" {
		return fmt.Errorf("containers changed from\n%s to\n%s: %w", before, after, err)
	}
	return w.Count(ctx, 4, "h1", "h2")
}

func deleteWhileOff(ctx context.Context, w *World) error {
	manifest := service("gone", "registry.lab:5000/guestbook/web:1", "  ports: [{port: 8080}]\n  placement: {require: [{label: host, in: [h2]}]}")
	if _, err := w.Apply(ctx, manifest); err != nil {
		return err
	}
	if err := w.Ready(ctx, "gone", 1); err != nil {
		return err
	}
	if err := w.Lab.PowerOff(ctx, "h2"); err != nil {
		return err
	}
	if _, err := w.Gear(ctx, "delete", "service", "gone", "-p", Project, "--confirm", "gone"); err != nil {
		return err
	}
	if err := w.Lab.Boot(ctx, "h2"); err != nil {
		return err
	}
	return Until(ctx, Patience, func() error {
		_, err := w.Gear(ctx, "get", "service", "gone", "-p", Project)
		if err == nil {
			return errors.New("the service is still there")
		}
		return w.onlyKnownPods(ctx, "h2")
	})
}

// tokenTwice asks as a stranger would: h3's identity is put aside meanwhile, so that gear join tries.
func tokenTwice(ctx context.Context, w *World) error {
	var token api.JoinToken
	if err := w.JSON(ctx, &token, "token", "create"); err != nil {
		return err
	}
	join := func(token string) error {
		_, err := w.Exec(ctx, "h3", "gear", "join", w.hosts["h1"].String(), token, "--name", "h9", "--address", w.hosts["h3"].String())
		return err
	}
	if _, err := w.Exec(ctx, "h3", "mv", "/var/lib/gear/agent/identity.json", "/root/"); err != nil {
		return err
	}
	parts := strings.Split(token.Token, ".")
	const wrongPin = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	again, pin, none := join(w.used), join(parts[0]+"."+parts[1]+"."+wrongPin), join("x")
	if _, err := w.Exec(ctx, "h3", "mv", "/root/identity.json", "/var/lib/gear/agent/"); err != nil {
		return err
	}
	for says, err := range map[string]error{"token": again, "pin": pin, "ID.SECRET.PIN": none} {
		if err == nil || !strings.Contains(err.Error(), says) {
			return fmt.Errorf("want a refusal that speaks of the %s: %w", says, err)
		}
	}
	return Until(ctx, Patience, func() error { return w.hostsReady(ctx, "h3") })
}

func deleteAll(ctx context.Context, w *World) error {
	if _, err := w.Gear(ctx, "delete", "project", Project, "--confirm", Project); err != nil {
		return err
	}
	return Until(ctx, Patience, func() error {
		for _, h := range []string{"h1", "h2", "h3"} {
			out, err := w.Exec(ctx, h, "sh", "-c", `
				docker ps -aq; ls /run/netns /var/lib/gear/pods /run/gear/pods /run/gear/containers 2>/dev/null | grep -v :
				ls /etc/systemd/system | grep ^gear-guestbook; ls /etc/systemd/system/gear.target.wants | grep ^gear-guestbook
				systemctl list-units --all --no-legend 'gear-guestbook*'; ip -o link | grep -o 'gv[a-z2-7]*@'
				iptables-save | grep -E 'DNAT .*10\.127\.'; true`)
			if err != nil {
				return err
			}
			if s := strings.TrimSpace(out); s != "" {
				return fmt.Errorf("left on %s:\n%s", h, s)
			}
		}
		return nil
	})
}

// Report tells what an unhappy lab looks like.
func (w *World) Report(ctx context.Context, log func(string, ...any)) {
	for _, c := range [][]string{{"gear", "status"}, {"gear", "hosts"}, {"gear", "get", "pods", "-o", "wide"}} {
		out, err := w.Exec(ctx, "h1", c...)
		log("%s: %v\n%s", strings.Join(c, " "), err, out)
	}
	for _, h := range slices.Sorted(maps.Keys(w.hosts)) {
		out, err := w.Exec(ctx, h, "sh", "-c", `systemctl list-units --all --no-legend 'gear*'; journalctl --no-pager -n 100 -o short-precise -u 'gear-*'; iptables-save | grep GEAR-BALANCED; cat /var/lib/gear/links/*`)
		log("%s: %v\n%s", h, err, out)
	}
}

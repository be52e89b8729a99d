package story

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/lab"
)

// Neighbours shows what lies between two projects, and between pods and the world: a link needs the word of both, and a pod that is
// held to something reaches that and nothing else.
func Neighbours() []Step {
	n := &neighbours{}
	return []Step{
		{"vault's link to guestbook's db: refused, there by db's offer, and gone with it; nothing restarts", n.offer},
		{"vault's pod reaches no port of guestbook's pods, of agents, the mesh, the store or dockerd", n.walls},
		{"egress of vault: the rest is refused at once, counted and in the journal; a network and a name are let through, live", n.egress},
		{"h1 is rebooted with no agent and no master: vault is held to the same", n.alone},
	}
}

// neighbours is what the steps tell each other.
type neighbours struct{ app api.Pod }

const vaultManifest = `
kind: Project
metadata: {name: vault}
spec: {egress: %s}
---
kind: Service
metadata: {name: app, project: vault}
spec:
  containers: [{image: "registry.lab:5000/guestbook/web:1", ready: {http: {port: 8080, path: /healthz}}}]
  ports: [{port: 8080}]
  links: [{service: db, project: guestbook, localPort: 6379}]
  placement: {require: [{label: host, in: [h1]}]}
`

// inside runs a script of bash on the host, with the pod's network.
func (n *neighbours) inside(ctx context.Context, w *World, script string) (string, error) {
	return w.Exec(ctx, "h1", "nsenter", "--net=/run/netns/gear-"+string(n.app.Metadata.UID), "bash", "-c", script)
}

// reaches connects from the pod, and tells whether somebody took it. Silence is no refusal.
func (n *neighbours) reaches(ctx context.Context, w *World, host string, port int, want bool) error {
	out, err := n.inside(ctx, w, fmt.Sprintf("timeout 20 bash -c '</dev/tcp/%s/%d' 2>&1; echo $?", host, port))
	if err != nil {
		return err
	}
	open, refused := strings.HasSuffix(out, "0\n"), strings.Contains(out, "refused")
	if open != want || !open && !refused {
		return fmt.Errorf("%s:%d from vault's pod: %q; open is wanted: %t", host, port, out, want)
	}
	return nil
}

// allReach is reaches for several places, "HOST PORT".
func (n *neighbours) allReach(ctx context.Context, w *World, want map[string]bool) error {
	var errs []error
	for place, open := range want {
		var host string
		var port int
		if _, err := fmt.Sscan(place, &host, &port); err != nil {
			return err
		}
		errs = append(errs, n.reaches(ctx, w, host, port, open))
	}
	return errors.Join(errs...)
}

func (n *neighbours) ping(ctx context.Context, w *World) error {
	out, err := n.inside(ctx, w, "exec 3<>/dev/tcp/127.0.0.1/6379 && echo PING >&3 && read -r -t 20 answer <&3 && echo $answer")
	if err == nil && !strings.Contains(out, "PONG") {
		err = fmt.Errorf("db answers %q", out)
	}
	return err
}

func (n *neighbours) offer(ctx context.Context, w *World) error {
	if out, err := w.Apply(ctx, fmt.Sprintf(vaultManifest, "{default: allow}"), "--timeout", "5m"); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	var list api.List[api.Pod]
	if err := w.JSON(ctx, &list, "get", "pods", "-p", "vault"); err != nil || len(list.Items) != 1 {
		return fmt.Errorf("the pods of vault: %s, %v", phases(list.Items), err)
	}
	n.app = list.Items[0]
	if err := n.allReach(ctx, w, map[string]bool{"127.0.0.1 6379": false, "::1 6379": false}); err != nil {
		return err
	}
	err := Until(ctx, Patience, func() error {
		var why api.Why
		if err := w.JSON(ctx, &why, "why", "-p", "vault", string(n.app.Metadata.Name)); err != nil || len(why.Links) != 1 || why.Links[0].Reason != api.ReasonNotOffered {
			return fmt.Errorf("gear why says of the link: %+v, %v", why.Links, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	before, err := w.startTimes(ctx, "db")
	if err != nil {
		return err
	}
	text, err := w.manifest()
	if err != nil {
		return err
	}
	text = strings.Replace(text, "in: [h2]", "in: [h3]", 1) // where moveDatabase has moved it
	offered := strings.Replace(text, "metadata: {name: db, project: guestbook}\nspec:\n", "metadata: {name: db, project: guestbook}\nspec:\n  offers: [vault]\n", 1)
	start := time.Now()
	if _, err := w.Apply(ctx, offered); err != nil {
		return err
	}
	if err := Until(ctx, Patience, func() error { return n.ping(ctx, w) }); err != nil {
		return err
	}
	w.Say("linked %.1f s after gear apply", time.Since(start).Seconds())
	if err := Until(ctx, Patience, func() error { return n.reaches(ctx, w, "::1", 6379, true) }); err != nil {
		return err
	}
	if _, err := w.Apply(ctx, text); err != nil {
		return err
	}
	if err := Until(ctx, Patience, func() error { return n.allReach(ctx, w, map[string]bool{"127.0.0.1 6379": false, "::1 6379": false}) }); err != nil {
		return err
	}
	after, err := w.startTimes(ctx, "db")
	if err != nil || !maps.Equal(before, after) {
		return fmt.Errorf("db restarted: before %v, after %v, %v", before, after, err)
	}
	return nil
}

// walls tries, from vault's pod, what is none of its business: everything on all hosts, and guestbook's pods and host ports.
func (n *neighbours) walls(ctx context.Context, w *World) error {
	closed := map[string]bool{}
	for _, host := range []string{"h1", "h2", "h3"} {
		for _, port := range []string{"22", "2375", "2376", "2379", "2380", "7444", "7946"} {
			closed[w.Address(host).String()+" "+port] = false
			closed[lab.IPv6(w.Address(host)).String()+" "+port] = false
		}
	}
	for _, port := range []string{"2375", "7444", "7946"} {
		closed["10.127.0.1 "+port] = false
		closed["fd67:6561:7200::a7f:1 "+port] = false
	}
	found := 0
	for _, service := range []string{"web", "db"} {
		pods, err := w.Pods(ctx, service)
		if err != nil {
			return err
		}
		for _, p := range pods {
			found += len(p.Status.Ports)
			for _, port := range p.Status.Ports {
				if p.Spec.Host == "h1" { // no host has a way to the pods of others
					closed[fmt.Sprintf("%s %d", p.Status.Address, port.Port)] = false
				}
				closed[fmt.Sprintf("%s %d", w.Address(string(p.Spec.Host)), port.HostPort)] = false
				closed[fmt.Sprintf("%s %d", lab.IPv6(w.Address(string(p.Spec.Host))), port.HostPort)] = false
			}
		}
	}
	if found < 4 {
		return fmt.Errorf("guestbook's pods have %d ports: this shows nothing", found)
	}
	w.Say("%d places are tried", len(closed))
	return n.allReach(ctx, w, closed)
}

// hold changes vault's egress, and waits until its pod notices.
func (n *neighbours) hold(ctx context.Context, w *World, egress string, want map[string]bool) error {
	start := time.Now()
	if out, err := w.Apply(ctx, fmt.Sprintf(vaultManifest, egress)); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	if err := Until(ctx, Patience, func() error { return n.allReach(ctx, w, want) }); err != nil {
		return err
	}
	w.Say("%s is in force %.1f s after gear apply was begun", egress, time.Since(start).Seconds())
	var list api.List[api.Pod]
	if err := w.JSON(ctx, &list, "get", "pods", "-p", "vault"); err != nil || len(list.Items) != 1 || list.Items[0].Metadata.UID != n.app.Metadata.UID {
		return fmt.Errorf("the pod was replaced: %s, %v", phases(list.Items), err)
	}
	return nil
}

// byName is what vault is held to at last: a name, and only it.
const byName = "{allow: [{name: h3.host.gear.internal, ports: [80]}]}"

func (n *neighbours) egress(ctx context.Context, w *World) error {
	h2, h3 := w.hosts["h2"].String(), w.hosts["h3"].String()
	err := Until(ctx, Patience, func() error {
		return n.allReach(ctx, w, map[string]bool{h2 + " 80": true, w.hosts["h1"].String() + " 80": true})
	})
	if err != nil {
		return err
	}
	if err := n.hold(ctx, w, "{}", map[string]bool{h2 + " 80": false, w.hosts["h1"].String() + " 80": false}); err != nil {
		return err
	}
	if err := n.refused(ctx, w); err != nil {
		return err
	}
	if err := n.hold(ctx, w, "{allow: [{cidr: "+h2+"/32, ports: [80]}]}", map[string]bool{h2 + " 80": true, w.hosts["h1"].String() + " 80": false}); err != nil {
		return err
	}
	if err := n.hold(ctx, w, byName, map[string]bool{h2 + " 80": false, h3 + " 80": false}); err != nil {
		return err
	}
	err = Until(ctx, Patience, func() error {
		out, err := n.inside(ctx, w, "dig +short +time=10 +tries=1 @10.127.0.1 h3.host.gear.internal A")
		if err == nil && !strings.Contains(out, h3) {
			err = fmt.Errorf("the pod is told that h3 is at %q", out)
		}
		return err
	})
	if err != nil {
		return err
	}
	// No waiting: the answer leaves when the rule is there. Nobody needs to listen on h3 for that.
	out, err := n.inside(ctx, w, "timeout 20 bash -c '</dev/tcp/"+h3+"/80' 2>&1; echo $?")
	if err != nil {
		return err
	}
	return n.counted(ctx, w, out)
}

// counted sees that what went to h3 was let through by the host's rules, whoever listens there.
func (n *neighbours) counted(ctx context.Context, w *World, said string) error {
	chain := "GEAR-TO-gv" + string(n.app.Metadata.UID[:12])
	rules, err := w.Exec(ctx, "h1", "iptables-save", "-c", "-t", "filter")
	if err != nil {
		return err
	}
	for line := range strings.Lines(rules) {
		if strings.Contains(line, chain+" -d "+w.hosts["h3"].String()+"/32") && !strings.HasPrefix(line, "[0:0]") {
			return nil
		}
	}
	return fmt.Errorf("no packet to h3 was let through: %q\n%s", said, rules)
}

// refused sees that the refusals are counted and told.
func (n *neighbours) refused(ctx context.Context, w *World) error {
	err := Until(ctx, Patience, func() error { return n.countsRefusals(ctx, w, "vault") })
	if err != nil {
		return err
	}
	return Until(ctx, Patience, func() error {
		out, err := w.Exec(ctx, "h1", "sh", "-c", "journalctl -q -o cat -u gear-agent | grep 'egress refused' | tail -3")
		if err == nil && !strings.Contains(out, string(n.app.Metadata.Name)) {
			err = fmt.Errorf("the journal says %q", out)
		}
		return err
	})
}

// countsRefusals tells whether gear why counts what the pod was refused.
func (n *neighbours) countsRefusals(ctx context.Context, w *World, project string) error {
	var why api.Why
	err := w.JSON(ctx, &why, "why", "-p", project, string(n.app.Metadata.Name))
	if err == nil && (why.Egress == nil || why.Egress.Refused == 0) {
		err = fmt.Errorf("gear why counts no refusal: %+v", why.Egress)
	}
	return err
}

func (n *neighbours) alone(ctx context.Context, w *World) error {
	if _, err := w.Exec(ctx, "h1", "sh", "-c", maskAgent+" && systemctl disable gear-master.service"); err != nil {
		return err
	}
	if err := w.Lab.PowerOff(ctx, "h1"); err != nil {
		return err
	}
	if err := w.Lab.Boot(ctx, "h1"); err != nil {
		return err
	}
	// What a name has opened before stays open for a while: the pod's program may still have the address.
	err := Until(ctx, Patience, func() error {
		return n.allReach(ctx, w, map[string]bool{w.hosts["h2"].String() + " 80": false, w.hosts["h1"].String() + " 80": false})
	})
	if err != nil {
		return err
	}
	if state, err := w.Exec(ctx, "h1", "systemctl", "is-active", "gear-agent.service"); err == nil {
		return fmt.Errorf("the agent of h1 is %s", state)
	}
	if _, err := w.Exec(ctx, "h1", "sh", "-c", unmaskAgent+" && systemctl enable --now gear-master.service"); err != nil {
		return err
	}
	return Until(ctx, Patience, func() error {
		_, err := w.Gear(ctx, "delete", "project", "vault", "--confirm", "vault", "--wait")
		return err
	})
}

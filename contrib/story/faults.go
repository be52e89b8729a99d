package story

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gearmesh.dev/api"
)

// startTimes gives the time since which each unit of a service has been active, by pod. A unit that
// restarts gets another. One that starts, as after a reboot, is waited for.
func (w *World) startTimes(ctx context.Context, service string) (times map[string]string, err error) {
	err = Until(ctx, Patience, func() error {
		pods, err := w.Pods(ctx, service)
		if err != nil {
			return err
		}
		times = map[string]string{}
		for _, p := range pods {
			if times[string(p.Metadata.Name)], err = w.activeSince(ctx, p); err != nil {
				return err
			}
		}
		return nil
	})
	return times, err
}

// activeSince tells since when a pod's unit is active, and as which process.
func (w *World) activeSince(ctx context.Context, p api.Pod) (string, error) {
	out, err := w.Exec(ctx, string(p.Spec.Host), "systemctl", "show", "-p", "ActiveState,ActiveEnterTimestampMonotonic,ExecMainPID,NRestarts", podUnit(p))
	if err == nil && !strings.Contains(out, "ActiveState=active\n") {
		err = fmt.Errorf("%s on %s is not active: %s", podUnit(p), p.Spec.Host, out)
	}
	return out, err
}

func moveDatabase(ctx context.Context, w *World) error {
	before, err := w.startTimes(ctx, "web")
	if err != nil {
		return err
	}
	text, err := w.manifest()
	if err != nil {
		return err
	}
	start := time.Now()
	if _, err := w.Apply(ctx, strings.Replace(text, "in: [h2]", "in: [h3]", 1)); err != nil {
		return err
	}
	// The old pod counts as ready until it is asked to go.
	err = Until(ctx, Patience, func() error {
		pods, err := w.Pods(ctx, "db")
		if err == nil && (len(pods) != 1 || pods[0].Spec.Host != "h3" || !pods[0].Status.Ready) {
			err = fmt.Errorf("db is not ready on h3 alone: %s", phases(pods))
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := Until(ctx, Patience, func() error { _, _, err := w.Visit(ctx, "h1"); return err }); err != nil {
		return err
	}
	took := time.Since(start)
	if err := w.settle(ctx, "h1", "h2"); err != nil {
		return err
	}
	if err := w.Count(ctx, 12, "h1", "h2"); err != nil {
		return err
	}
	after, err := w.startTimes(ctx, "web")
	if err != nil {
		return err
	}
	if !maps.Equal(before, after) {
		return fmt.Errorf("web units restarted: before %v, after %v", before, after)
	}
	w.Say("counting again %.1f s after gear apply; the three web units kept their start times", took.Seconds())
	return nil
}

// PowerOff measures, from a host's loss of power, when it is out of DNS, of links and of the
// router of h1, and when its pods run elsewhere. probe is a pod on h1 that links to web.
func (w *World) powerOff(ctx context.Context, host string) (out, elsewhere time.Duration, err error) {
	gone := w.hosts[host].String()
	start := time.Now()
	if err := w.Lab.PowerOff(ctx, host); err != nil {
		return 0, 0, err
	}
	err = Until(ctx, Patience, func() error { return w.outEverywhere(ctx, gone) })
	out = time.Since(start)
	if err != nil {
		return out, 0, err
	}
	err = Until(ctx, Patience, func() error { return w.runElsewhere(ctx, host) })
	return out, time.Since(start), err
}

// runElsewhere tells whether three web pods are ready on other hosts. The lost host's own counts as
// ready for the master until its lease has run out.
func (w *World) runElsewhere(ctx context.Context, host string) error {
	pods, err := w.Pods(ctx, "web")
	if err != nil {
		return err
	}
	ready := slices.DeleteFunc(slices.Clone(pods), func(p api.Pod) bool { return !p.Status.Ready || string(p.Spec.Host) == host })
	if len(ready) != 3 {
		return fmt.Errorf("%d web pods are ready elsewhere: %s", len(ready), phases(pods))
	}
	return nil
}

// outEverywhere tells whether an address is in no DNS answer, link or router of the other hosts.
func (w *World) outEverywhere(ctx context.Context, gone string) error {
	for _, h := range []string{"h1", "h3"} {
		for _, name := range []string{"web.guestbook.gear.internal", Alias} {
			answer, err := w.Dig(ctx, h, name, "A")
			if err != nil {
				return err
			}
			if strings.Contains(answer, gone+"\n") || answer == "" {
				return fmt.Errorf("%s still answers %s with %q", h, name, answer)
			}
		}
		rules, err := w.Exec(ctx, h, "sh", "-c", `for n in /run/netns/gear-*; do nsenter --net=$n iptables-save -t nat; done`)
		if err != nil {
			return err
		}
		if strings.Contains(rules, gone+":") {
			return fmt.Errorf("a link on %s still leads to %s", h, gone)
		}
	}
	servers, err := w.Exec(ctx, "h1", "sh", "-c", `echo "show servers state" | nc -NU /run/gear/haproxy.sock`)
	if err != nil {
		return err
	}
	for line := range strings.Lines(servers) {
		// The sixth field is the operational state, 0 is down (HAProxy's management.txt).
		if f := strings.Fields(line); len(f) > 6 && f[4] == gone && f[5] != "0" {
			return fmt.Errorf("the router of h1 still sends requests to %s", gone)
		}
	}
	return nil
}

// probe is a service that links to web, so that a link can be seen to lose a host.
const probe = `
kind: Service
metadata: {name: probe, project: guestbook}
spec:
  containers:
    - image: registry.lab:5000/guestbook/web:1
  links:
    - {service: web, localPort: 8081}
    - {service: db, localPort: 6379}
  placement:
    require:
      - {label: host, in: [h1]}
`

func losePower(ctx context.Context, w *World) error {
	if _, err := w.Apply(ctx, probe); err != nil {
		return err
	}
	if err := w.Ready(ctx, "probe", 1, "web", 3); err != nil {
		return err
	}
	if err := Until(ctx, Patience, func() error { return w.linkLeadsTo(ctx, "h1", w.hosts["h2"].String()) }); err != nil {
		return err
	}
	out, elsewhere, err := w.powerOff(ctx, "h2")
	if err != nil {
		return err
	}
	if err := w.settle(ctx, "h1"); err != nil {
		return err
	}
	w.Say("out of links, DNS and routers after %.1f s; three pods again after %.1f s", out.Seconds(), elsewhere.Seconds())
	return w.Count(ctx, 20, "h1")
}

func (w *World) linkLeadsTo(ctx context.Context, host, address string) error {
	rules, err := w.Exec(ctx, host, "sh", "-c", `for n in /run/netns/gear-*; do nsenter --net=$n iptables-save -t nat; done`)
	if err == nil && !strings.Contains(rules, address+":") {
		err = fmt.Errorf("no link on %s leads to %s:\n%s", host, address, rules)
	}
	return err
}

func comeBack(ctx context.Context, w *World) error {
	if err := w.Lab.Boot(ctx, "h2"); err != nil {
		return err
	}
	if err := Until(ctx, Patience, func() error { return w.hostsReady(ctx, "h2") }); err != nil {
		return err
	}
	if err := w.Ready(ctx, "web", 3, "db", 1, "probe", 1); err != nil {
		return err
	}
	// What was replaced meanwhile is taken away: units, containers and namespaces are those of the pods.
	if err := Until(ctx, Patience, func() error { return w.onlyKnownPods(ctx, "h2") }); err != nil {
		return err
	}
	return w.settle(ctx, "h1", "h2") // the router of h2 is back too
}

// onlyKnownPods tells whether the containers of a host are those of the pods that are assigned to it.
func (w *World) onlyKnownPods(ctx context.Context, host string) error {
	var list api.List[api.Pod]
	if err := w.JSON(ctx, &list, "get", "pods", "-p", Project); err != nil {
		return err
	}
	want := 0
	for _, p := range list.Items {
		if string(p.Spec.Host) == host {
			want++
		}
	}
	for what, argv := range map[string][]string{
		"containers": {"sh", "-c", "docker ps -aq | wc -l"},
		"namespaces": {"sh", "-c", "ls /run/netns | grep -c ^gear- || true"},
		"units":      {"sh", "-c", "ls /etc/systemd/system | grep -c '^gear-guestbook-.*-net.service$' || true"},
		"records":    {"sh", "-c", "ls /var/lib/gear/pods 2>/dev/null | wc -l"},
	} {
		out, err := w.Exec(ctx, host, argv...)
		if err != nil {
			return err
		}
		if strings.TrimSpace(out) != fmt.Sprint(want) {
			return fmt.Errorf("%s has %s %s, and %d pods", host, strings.TrimSpace(out), what, want)
		}
	}
	return nil
}

func killMaster(ctx context.Context, w *World) error {
	var err error
	if w.webs, err = w.startTimes(ctx, "web"); err != nil {
		return err
	}
	// The kill is the fault; the stop keeps systemd from starting it again.
	if _, err := w.Exec(ctx, "h1", "systemctl", "kill", "--signal=KILL", "gear-master.service"); err != nil {
		return err
	}
	if _, err := w.Exec(ctx, "h1", "systemctl", "stop", "gear-master.service"); err != nil {
		return err
	}
	if state, err := w.Exec(ctx, "h1", "systemctl", "is-active", "gear-master.service"); err == nil {
		return fmt.Errorf("the master is still %s", state)
	}
	return w.Count(ctx, 20, "h1", "h2")
}

func rebootAlone(ctx context.Context, w *World) error {
	if err := w.Lab.PowerOff(ctx, "h3"); err != nil {
		return err
	}
	start := time.Now()
	if err := w.Lab.Boot(ctx, "h3"); err != nil {
		return err
	}
	booted := time.Since(start)
	// db is on h3: nobody can count until its link leads there again.
	if err := Until(ctx, Patience, func() error { _, _, err := w.Visit(ctx, "h1"); return err }); err != nil {
		return err
	}
	w.Say("booted in %.1f s, serving again after %.1f s, with no master", booted.Seconds(), time.Since(start).Seconds())
	if err := w.settle(ctx, "h1", "h2"); err != nil {
		return err
	}
	return w.Count(ctx, 20, "h1", "h2")
}

func masterBack(ctx context.Context, w *World) error {
	if _, err := w.Exec(ctx, "h1", "systemctl", "start", "gear-master.service"); err != nil {
		return err
	}
	if err := Until(ctx, Patience, func() error { return w.hostsReady(ctx, "h1", "h2", "h3") }); err != nil {
		return err
	}
	if err := w.Ready(ctx, "web", 3, "db", 1); err != nil {
		return err
	}
	after, err := w.startTimes(ctx, "web")
	if err != nil {
		return err
	}
	for pod, since := range w.webs {
		if now, ok := after[pod]; ok && now != since && !w.onHost(ctx, pod, "h3") {
			return fmt.Errorf("the unit of %s restarted: %s, then %s", pod, since, now)
		}
		if _, ok := after[pod]; !ok {
			return fmt.Errorf("pod %s was replaced", pod)
		}
	}
	return w.Count(ctx, 10, "h1", "h2")
}

func (w *World) onHost(ctx context.Context, pod, host string) bool {
	var p api.Pod
	return w.JSON(ctx, &p, "get", "pod", pod, "-p", Project) == nil && string(p.Spec.Host) == host
}

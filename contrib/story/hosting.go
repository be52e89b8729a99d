package story

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"gearmesh.dev/api"
)

// Hosting shows that a host is enough for itself: it boots without an agent, can be left by Gearmesh and taken over again,
// and is mended when somebody has changed it by hand.
func Hosting() []Step {
	h := &hosting{}
	return []Step{
		{"h2 boots with no agent and no master: its pods serve by their host ports and links", h.bootAlone},
		{"gear host eject on h3: its pods run on with their links and host ports, also after a reboot", h.eject},
		{"gear join takes h3 over again, the master is back, and nothing was restarted", h.takeOver},
		{"what somebody broke on h1 is in gear plan --host, and gear host repair mends it", h.repair},
		{"systemctl stop, start, restart and a masked unit are respected; drop-ins are kept and shown", h.operator},
	}
}

// hosting is what its steps tell each other.
type hosting struct {
	pods []api.Pod // of web and db, as the master had them before it was stopped
}

// maskAgent makes an agent that does not start at boot, as an operator would.
const maskAgent = `mv /etc/systemd/system/gear-agent.service /root/ && ln -s /dev/null /etc/systemd/system/gear-agent.service`

const unmaskAgent = `rm /etc/systemd/system/gear-agent.service && mv /root/gear-agent.service /etc/systemd/system/ && systemctl daemon-reload && systemctl start gear-agent.service`

func (h *hosting) bootAlone(ctx context.Context, w *World) error {
	if err := h.look(ctx, w); err != nil {
		return err
	}
	if _, err := w.Exec(ctx, "h1", "systemctl", "stop", "gear-master.service"); err != nil {
		return err
	}
	if _, err := w.Exec(ctx, "h2", "sh", "-c", maskAgent); err != nil {
		return err
	}
	if err := w.Lab.PowerOff(ctx, "h2"); err != nil {
		return err
	}
	start := time.Now()
	if err := w.Lab.Boot(ctx, "h2"); err != nil {
		return err
	}
	if err := Until(ctx, Patience, func() error { return h.served(ctx, w, "h2") }); err != nil {
		return err
	}
	w.Say("serving %.1f s after power-on, with no agent", time.Since(start).Seconds())
	if state, err := w.Exec(ctx, "h2", "systemctl", "is-active", "gear-agent.service"); err == nil {
		return fmt.Errorf("the agent of h2 is %s", state)
	}
	times, err := h.unitTimes(ctx, w, "h2")
	if err != nil {
		return err
	}
	if _, err := w.Exec(ctx, "h2", "sh", "-c", unmaskAgent); err != nil {
		return err
	}
	return h.same(ctx, w, "h2", times)
}

// look notes the pods while the master is there to tell, with a web pod on each host.
func (h *hosting) look(ctx context.Context, w *World) error {
	for range 4 {
		if err := w.Ready(ctx, "web", 3, "db", 1); err != nil {
			return err
		}
		h.pods = nil
		for _, service := range []string{"web", "db"} {
			pods, err := w.Pods(ctx, service)
			if err != nil {
				return err
			}
			h.pods = append(h.pods, pods...)
		}
		crowded, ok := h.crowded()
		if !ok {
			return nil
		}
		// Its successor goes where no other is.
		if _, err := w.Gear(ctx, "delete", "pod", crowded, "-p", Project, "--confirm", crowded, "--wait"); err != nil {
			return err
		}
	}
	return fmt.Errorf("web pods are not spread over the hosts: %s", phases(h.pods))
}

// crowded gives a web pod that shares its host with another one.
func (h *hosting) crowded() (string, bool) {
	seen := map[api.Name]bool{}
	for _, p := range h.pods {
		if p.Spec.Service != "web" {
			continue
		}
		if seen[p.Spec.Host] {
			return string(p.Metadata.Name), true
		}
		seen[p.Spec.Host] = true
	}
	return "", false
}

func (h *hosting) on(host string) []api.Pod {
	var out []api.Pod
	for _, p := range h.pods {
		if string(p.Spec.Host) == host {
			out = append(out, p)
		}
	}
	return out
}

// served asks each web pod of a host by its host port, from h1. A visit that is counted has been to the database, so the pod's link works too.
func (h *hosting) served(ctx context.Context, w *World, host string) error {
	for _, p := range h.on(host) {
		if p.Spec.Service != "web" {
			continue
		}
		out, err := w.Exec(ctx, "h1", "curl", "-sS", "-m", "30", fmt.Sprintf("http://%s:%d/", w.hosts[host], p.Status.Ports[0].HostPort))
		if err != nil {
			return err
		}
		if !strings.Contains(out, "visit ") || !strings.Contains(out, string(p.Metadata.Name)) {
			return fmt.Errorf("%s on %s answers %q", p.Metadata.Name, host, out)
		}
		if _, err := fmt.Sscanf(out, "visit %d", &w.visits); err != nil {
			return err
		}
	}
	return nil
}

// unitTimes gives since when each pod's unit on a host is active, and as which process. A pod that has just booted may serve a moment
// before its unit is.
func (h *hosting) unitTimes(ctx context.Context, w *World, host string) (times map[string]string, err error) {
	err = Until(ctx, Patience, func() error {
		times = map[string]string{}
		for _, p := range h.on(host) {
			if times[string(p.Metadata.Name)], err = w.activeSince(ctx, p); err != nil {
				return err
			}
		}
		return nil
	})
	return times, err
}

func podUnit(p api.Pod) string { return "gear-guestbook-" + string(p.Metadata.Name) + ".service" }

// same fails when a unit of a host is not the same run as before.
func (h *hosting) same(ctx context.Context, w *World, host string, before map[string]string) error {
	after, err := h.unitTimes(ctx, w, host)
	if err == nil && !maps.Equal(before, after) {
		err = fmt.Errorf("units of %s restarted: before %v, after %v", host, before, after)
	}
	return err
}

func (h *hosting) eject(ctx context.Context, w *World) error {
	before, err := h.unitTimes(ctx, w, "h3")
	if err != nil {
		return err
	}
	if out, err := w.Exec(ctx, "h3", "gear", "host", "eject"); err == nil || !strings.Contains(out, "goes:  gear-agent.service") {
		return fmt.Errorf("gear host eject without --confirm: %w\n%s", err, out)
	}
	if _, err := w.Exec(ctx, "h3", "gear", "host", "eject", "--confirm", "h3"); err != nil {
		return err
	}
	if err := errors.Join(h.same(ctx, w, "h3", before), Until(ctx, Patience, func() error { return h.ejected(ctx, w) })); err != nil {
		return err
	}
	if err := w.Lab.PowerOff(ctx, "h3"); err != nil {
		return err
	}
	start := time.Now()
	if err := w.Lab.Boot(ctx, "h3"); err != nil {
		return err
	}
	if err := Until(ctx, Patience, func() error { return h.ejected(ctx, w) }); err != nil {
		return err
	}
	w.Say("after the reboot h3 served again in %.1f s, with nothing of Gearmesh but its units", time.Since(start).Seconds())
	return nil
}

// ejected tells whether h3 serves without Gearmesh's daemons: its web pods by their host ports, the database by the links
// of web pods on every host.
func (h *hosting) ejected(ctx context.Context, w *World) error {
	units, err := w.Exec(ctx, "h3", "systemctl", "list-units", "--all", "--no-legend", "--plain", "gear-*")
	if err != nil {
		return err
	}
	if strings.Contains(units, "gear-agent.service") {
		return fmt.Errorf("the agent is still there:\n%s", units)
	}
	for _, p := range h.on("h3") {
		if !strings.Contains(strings.Join(strings.Fields(units), " "), podUnit(p)+" loaded active running") {
			return fmt.Errorf("systemctl list-units lacks %s:\n%s", podUnit(p), units)
		}
	}
	if err := h.served(ctx, w, "h3"); err != nil {
		return err
	}
	// The database is on h3: the links of web pods on the other hosts lead there.
	if err := h.served(ctx, w, "h1"); err != nil {
		return err
	}
	return h.served(ctx, w, "h2")
}

func (h *hosting) takeOver(ctx context.Context, w *World) error {
	before, err := h.unitTimes(ctx, w, "h3")
	if err != nil {
		return err
	}
	// The identity is still on h3, so the token is not used: any will do that carries the cluster's pin.
	if _, err := w.Exec(ctx, "h3", "gear", "join", w.hosts["h1"].String(), w.used, "--name", "h3", "--address", w.hosts["h3"].String()); err != nil {
		return err
	}
	if _, err := w.Exec(ctx, "h1", "systemctl", "start", "gear-master.service"); err != nil {
		return err
	}
	if err := Until(ctx, Patience, func() error { return w.hostsReady(ctx, "h1", "h2", "h3") }); err != nil {
		return err
	}
	if err := w.Ready(ctx, "web", 3, "db", 1); err != nil {
		return err
	}
	if err := h.same(ctx, w, "h3", before); err != nil {
		return err
	}
	for _, p := range h.pods {
		var now api.Pod
		if err := w.JSON(ctx, &now, "get", "pod", string(p.Metadata.Name), "-p", Project); err != nil || now.Metadata.UID != p.Metadata.UID {
			return fmt.Errorf("pod %s was replaced: %w", p.Metadata.Name, err)
		}
	}
	return nil
}

// breakHost does what people do to hosts: flushes a pod's rules, edits a unit, unlinks one from boot, deletes a namespace's name. The
// edit leaves the unit's size as it was: the agent mends the others within seconds by itself. It can be done again.
const breakHost = `
if [ -e /run/netns/gear-%[1]s ]; then nsenter --net=/run/netns/gear-%[1]s iptables -t nat -F GEAR-LINKS; umount /run/netns/gear-%[1]s; rm /run/netns/gear-%[1]s; fi
sed -i s/RestartSec=100ms/RestartSec=200ms/ /etc/systemd/system/%[2]s
rm -f /etc/systemd/system/gear.target.wants/%[2]s`

func (h *hosting) repair(ctx context.Context, w *World) error {
	var victim api.Pod
	for _, p := range h.pods {
		if p.Spec.Service == "web" {
			victim = p
		}
	}
	host := string(victim.Spec.Host)
	before, err := h.unitTimes(ctx, w, host)
	if err != nil {
		return err
	}
	clean := func() error {
		_, err := w.Gear(ctx, "plan", "--host", host)
		return err
	}
	if err := Until(ctx, Patience, clean); err != nil {
		return err
	}
	// The agent may mend what it looks at every few seconds before the plan is made.
	err = Until(ctx, Patience, func() error {
		if _, err := w.Exec(ctx, host, "sh", "-c", fmt.Sprintf(breakHost, victim.Metadata.UID, podUnit(victim))); err != nil {
			return err
		}
		plan, err := w.Exec(ctx, "h1", "sh", "-c", "gear plan --host "+host+"; test $? = 2")
		for _, want := range []string{"UnitDiffers", "-RestartSec=200ms", "NotEnabled", "NamespaceMissing"} {
			if err == nil && !strings.Contains(plan, want) {
				err = fmt.Errorf("gear plan lacks %s:\n%s", want, plan)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	// A pod that the agent is at work on is left to it, and mended by a later repair. So are the rules, which are seen when their namespace
	// has its name again.
	var fixed strings.Builder
	err = Until(ctx, Patience, func() error {
		out, err := w.Gear(ctx, "host", "repair", host)
		fixed.WriteString(out)
		return errors.Join(err, clean(), h.served(ctx, w, host))
	})
	if err = errors.Join(err, h.same(ctx, w, host, before)); err == nil && !strings.Contains(fixed.String(), "UnitDiffers") { // which nobody else mends
		err = errors.New("it does not tell of the edited unit")
	}
	if err != nil {
		return fmt.Errorf("%w\nafter gear host repair:\n%s", err, &fixed)
	}
	if _, err := w.Exec(ctx, host, "gear", "host", "repair", "--local"); err != nil {
		return err
	}
	w.Say("mended on %s:\n%s", host, &fixed)
	return w.settle(ctx, "h1")
}

// operator does with systemctl what an operator may, and sees it respected.
func (h *hosting) operator(ctx context.Context, w *World) error {
	var p api.Pod
	for _, q := range h.pods {
		if q.Spec.Service == "web" {
			p = q
		}
	}
	host, unit := string(p.Spec.Host), podUnit(p)
	do := func(script string) error {
		_, err := w.Exec(ctx, host, "sh", "-c", strings.ReplaceAll(script, "UNIT", unit))
		return err
	}
	phase := func(want api.Phase) error {
		return Until(ctx, Patience, func() error {
			var now api.Pod
			if err := w.JSON(ctx, &now, "get", "pod", string(p.Metadata.Name), "-p", Project); err != nil {
				return err
			}
			if now.Status.Phase != want || want == api.PhaseRunning && !now.Status.Ready {
				return fmt.Errorf("%s is %s %s %s, want %s", p.Metadata.Name, now.Status.Phase, now.Status.Reason, now.Status.Message, want)
			}
			return nil
		})
	}
	for _, step := range []struct {
		script string
		want   api.Phase
	}{
		{"systemctl stop UNIT", api.PhaseStopped},
		{"systemctl start UNIT", api.PhaseRunning},
		{"mkdir /etc/systemd/system/UNIT.d && printf '[Service]\\nEnvironment=BY=hand\\n' > /etc/systemd/system/UNIT.d/hand.conf && systemctl daemon-reload && systemctl restart UNIT", api.PhaseRunning},
		{"mv /etc/systemd/system/UNIT /root/ && ln -s /dev/null /etc/systemd/system/UNIT && systemctl daemon-reload && systemctl stop UNIT", api.PhaseStopped},
		{"systemctl restart gear-agent.service", api.PhaseStopped},
		{"test -L /etc/systemd/system/UNIT && rm /etc/systemd/system/UNIT && mv /root/UNIT /etc/systemd/system/ && systemctl daemon-reload && systemctl start UNIT", api.PhaseRunning},
	} {
		if err := errors.Join(do(step.script), phase(step.want)); err != nil {
			return fmt.Errorf("%s: %w", step.script, err)
		}
	}
	err := Until(ctx, Patience, func() error {
		why, err := w.Gear(ctx, "why", "-p", Project, string(p.Metadata.Name))
		if err != nil || !strings.Contains(why, "hand.conf") {
			return fmt.Errorf("gear why does not show the drop-in: %w\n%s", err, why)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return do("rm -r /etc/systemd/system/UNIT.d && systemctl daemon-reload")
}

package story

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/lab"
)

// Hosts is how many hosts the story needs.
const Hosts = 3

// Boot makes the lab and starts the cluster on it, by the commands of the README.
func Boot() []Step {
	return []Step{
		{"three hosts with systemd, journald and dockerd are up", bootLab},
		{"the guestbook's images are in the lab's registry", loadImages},
		{"h1: gear up starts master, agent, DNS and router", gearUp},
		{"h2 and h3: gear join adds them, with a token each that works once", gearJoin},
	}
}

// Guestbook applies the guestbook and shows all that the project promises of it.
func Guestbook() []Step {
	return []Step{
		{"gear apply: a redis and three web pods run and are ready", applyGuestbook},
		{"curl through both routers counts up, over all three pods", countOverAll},
		{"dig on every host answers for the alias and for db (A and SRV)", eventually(askNames)},
		{"systemctl and journalctl on a host show a pod as what it is: a unit", eventually(lookAtUnits)},
		{"db moves to another host; no web unit restarts, and the count goes on", moveDatabase},
		{"h2 loses its power: it leaves links, DNS and routers, and its pod runs elsewhere", losePower},
		{"h2 comes back and joins again; nothing runs twice", comeBack},
		{"the master is killed and stays down: curl still counts", killMaster},
		{"h3 is rebooted meanwhile and serves again from its own disk", rebootAlone},
		{"the master is back, and agrees with the hosts without a restart", masterBack},
	}
}

func bootLab(ctx context.Context, w *World) error {
	if err := w.Lab.Up(ctx, Hosts); err != nil {
		return err
	}
	return w.Look(ctx)
}

// Look finds the addresses of the lab's hosts.
func (w *World) Look(ctx context.Context) error {
	hosts, err := w.Lab.List(ctx)
	if err != nil {
		return err
	}
	w.hosts = map[string]netip.Addr{}
	for _, h := range hosts {
		w.hosts[h.Name] = h.Address
	}
	return nil
}

func loadImages(ctx context.Context, w *World) error {
	dir, err := os.MkdirTemp("", "gear-story")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what stays is a few files in /tmp
	web := filepath.Join(dir, "web")
	if err := w.build(ctx, "./contrib/examples/guestbook/web", web); err != nil {
		return err
	}
	if _, err := w.Lab.Load(ctx, lab.Image{Name: "guestbook/redis:1", Packages: []string{"redis-server", "busybox"}, Cmd: []string{"redis-server"}}); err != nil {
		return err
	}
	_, err = w.Lab.Load(ctx, lab.Image{Name: "guestbook/web:1", Binary: web, Entrypoint: []string{"/web"}})
	return err
}

// build compiles a program of this checkout for an image FROM scratch, with the caller's own Go settings.
func (w *World) build(ctx context.Context, pkg, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Dir, cmd.Env = w.Root, append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", pkg, err, text)
	}
	return nil
}

func gearUp(ctx context.Context, w *World) error {
	_, err := w.Exec(ctx, "h1", "gear", "up", "--name", "h1", "--address", w.hosts["h1"].String(), "--router")
	return err
}

func gearJoin(ctx context.Context, w *World) error {
	for _, h := range []string{"h2", "h3"} {
		var known api.Host
		if err := w.JSON(ctx, &known, "get", "host", h); err == nil && known.Status.State == api.HostReady {
			continue // a second run on a running lab
		}
		var token api.JoinToken
		if err := w.JSON(ctx, &token, "token", "create"); err != nil {
			return err
		}
		join := []string{"gear", "join", w.hosts["h1"].String(), token.Token, "--name", h, "--address", w.hosts[h].String()}
		if h == "h2" {
			join = append(join, "--router")
		}
		if _, err := w.Exec(ctx, h, join...); err != nil {
			return err
		}
		w.used = token.Token
	}
	return Until(ctx, Patience, func() error { return w.hostsReady(ctx, "h1", "h2", "h3") })
}

func (w *World) hostsReady(ctx context.Context, names ...string) error {
	for _, name := range names {
		var h api.Host
		if err := w.JSON(ctx, &h, "get", "host", name); err != nil {
			return err
		}
		if h.Status.State != api.HostReady {
			return fmt.Errorf("host %s is %s: %s", name, h.Status.State, h.Status.Message)
		}
	}
	return nil
}

func applyGuestbook(ctx context.Context, w *World) error {
	text, err := w.manifest()
	if err != nil {
		return err
	}
	if out, err := w.Apply(ctx, text); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return w.Ready(ctx, "db", 1, "web", 3)
}

// Ready waits until services have exactly so many pods, all ready: pairs of service and number.
func (w *World) Ready(ctx context.Context, pairs ...any) error {
	for i := 0; i < len(pairs); i += 2 {
		service, want := pairs[i].(string), pairs[i+1].(int)
		err := Until(ctx, Patience, func() error {
			pods, err := w.Pods(ctx, service)
			if err != nil {
				return err
			}
			ready := slices.DeleteFunc(slices.Clone(pods), func(p api.Pod) bool { return !p.Status.Ready })
			if len(pods) != want || len(ready) != want {
				return fmt.Errorf("service %s has %d pods, %d ready; want %d: %s", service, len(pods), len(ready), want, phases(pods))
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func phases(pods []api.Pod) string {
	var out []string
	for _, p := range pods {
		out = append(out, fmt.Sprintf("%s on %q is %s %s %s", p.Metadata.Name, p.Spec.Host, p.Status.Phase, p.Status.Reason, p.Status.Message))
	}
	return strings.Join(out, "; ")
}

// Pods gives the pods of a service, those included that are being deleted, but for those that wait
// for a host which is off.
func (w *World) Pods(ctx context.Context, service string) ([]api.Pod, error) {
	var list api.List[api.Pod]
	if err := w.JSON(ctx, &list, "get", "pods", "-p", Project); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(p api.Pod) bool {
		return string(p.Spec.Service) != service || p.Metadata.Deleting && p.Status.Phase == api.PhaseUnknown
	}), nil
}

func countOverAll(ctx context.Context, w *World) error {
	// Each router goes over all three once it has heard of them.
	for _, host := range []string{"h1", "h2"} {
		err := Until(ctx, Patience, func() error {
			w.servers = nil
			if err := w.settle(ctx, host); err != nil {
				return err
			}
			if len(w.servers) != 3 {
				return fmt.Errorf("only these pods answered 12 requests through %s: %v", host, w.servers)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	w.servers = nil
	if err := w.Count(ctx, 30, "h1", "h2"); err != nil {
		return err
	}
	if len(w.servers) != 3 {
		return fmt.Errorf("only these pods answered 30 requests: %v", w.servers)
	}
	w.Say("visit %d; %d pods answered", w.visits, len(w.servers))
	return nil
}

func askNames(ctx context.Context, w *World) error {
	pods, err := w.Pods(ctx, "db")
	if err != nil || len(pods) != 1 {
		return fmt.Errorf("db has %d pods: %w", len(pods), err)
	}
	home := w.hosts[string(pods[0].Spec.Host)].String()
	for _, host := range []string{"h1", "h2", "h3"} {
		alias, err := w.Dig(ctx, host, Alias, "A")
		if err != nil {
			return err
		}
		if !strings.Contains(alias, w.hosts["h1"].String()) || !strings.Contains(alias, w.hosts["h2"].String()) {
			return fmt.Errorf("%s says that %s is at %q; the routers are on h1 and h2", host, Alias, alias)
		}
		a, err := w.Dig(ctx, host, "db.guestbook.gear.internal", "A")
		if err != nil || strings.TrimSpace(a) != home {
			return fmt.Errorf("%s says that db is at %q, it is at %s: %w", host, a, home, err)
		}
		srv, err := w.Dig(ctx, host, "db.guestbook.gear.internal", "SRV")
		port := fmt.Sprint(pods[0].Status.Ports[0].HostPort)
		if err != nil || !strings.Contains(srv, " "+port+" ") {
			return fmt.Errorf("%s answers SRV of db with %q, without port %s: %w", host, srv, port, err)
		}
	}
	// A pod asks by short names, and gets the hosts' addresses of what it has no link to.
	inPod := `docker exec $(docker ps -q -f label=dev.gearmesh.pod=` + string(pods[0].Metadata.Name) + `) getent ahosts web`
	if out, err := w.Exec(ctx, string(pods[0].Spec.Host), "sh", "-c", inPod); err != nil || !strings.Contains(out, w.hosts["h1"].String()) || !strings.Contains(out, w.six("h1").String()) {
		return fmt.Errorf("in the db pod, web is %q: %w", out, err)
	}
	w.Say("db.guestbook.gear.internal is at %s port %d", home, pods[0].Status.Ports[0].HostPort)
	return nil
}

func lookAtUnits(ctx context.Context, w *World) error {
	pods, err := w.Pods(ctx, "web")
	if err != nil {
		return err
	}
	p := pods[0]
	host, unit := string(p.Spec.Host), "gear-guestbook-"+string(p.Metadata.Name)+".service"
	status, err := w.Exec(ctx, host, "systemctl", "status", "--no-pager", unit)
	if err != nil {
		return err
	}
	if !strings.Contains(status, "active (running)") {
		return fmt.Errorf("systemctl status %s says:\n%s", unit, status)
	}
	log, err := w.Exec(ctx, host, "journalctl", "--no-pager", "-o", "cat", "-u", unit)
	if err != nil || !strings.Contains(log, "visit ") {
		return fmt.Errorf("journalctl -u %s lacks the pod's own output: %w\n%s", unit, err, log)
	}
	for _, q := range pods {
		log, err := w.Exec(ctx, string(q.Spec.Host), "journalctl", "--no-pager", "-o", "cat", "GEAR_SERVICE=web", "GEAR_POD="+string(q.Metadata.Name))
		if err != nil || !strings.Contains(log, "visit ") {
			return fmt.Errorf("journalctl GEAR_SERVICE=web on %s lacks %s: %w\n%s", q.Spec.Host, q.Metadata.Name, err, log)
		}
	}
	all, err := w.Gear(ctx, "logs", "-p", Project, "web", "-n", "200")
	if err != nil {
		return err
	}
	for _, q := range pods {
		if !strings.Contains(all, string(q.Metadata.Name)+" listens on") || !strings.Contains(all, "visit ") {
			return fmt.Errorf("gear logs web lacks the output of %s:\n%s", q.Metadata.Name, all)
		}
	}
	w.Say("systemctl status %s: active (running)", unit)
	return nil
}

// Told tells whether the story was told on this lab already and the guestbook is there.
func (w *World) Told(ctx context.Context) bool {
	pods, err := w.Pods(ctx, "web")
	return err == nil && len(pods) > 0
}

// Visit looks whether a guestbook that is there is well.
func Visit() []Step {
	return []Step{
		{"the guestbook runs, and all its pods are ready", func(ctx context.Context, w *World) error { return w.Ready(ctx, "web", 3, "db", 1) }},
		{"curl through both routers counts up, over all three pods", countOverAll},
		{"systemctl and journalctl on a host show a pod as what it is: a unit", eventually(lookAtUnits)},
	}
}

// eventually makes a step of a look at things that nobody changes, but which are told to hosts and to the journal one after the other.
func eventually(look func(context.Context, *World) error) func(context.Context, *World) error {
	return func(ctx context.Context, w *World) error {
		return Until(ctx, Patience, func() error { return look(ctx, w) })
	}
}

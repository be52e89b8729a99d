package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/contrib/lab"
	"gearmesh.dev/contrib/story"
	"gearmesh.dev/internal/hostexec"
)

// P4: a service with a backend on the target and one elsewhere, linked by a pod on each host. The one on the target is unready and
// ready again by turns.
const (
	retargetService = "retarget"
	retargetPort    = 6379
	retargetChanges = 24 // that count, after those that warm caches
	retargetWarm    = 2
	retargetHosts   = 20 // that the docs want, where they fit
	retargetBound   = 250
	retargetPause   = 700 * time.Millisecond
	retargetLimit   = 20 * time.Second
)

// measureRetarget is P4: from a change of an endpoint, as its supervisor writes it down, to the rules of each linked pod.
func measureRetarget(ctx context.Context, b *bench) (rows []figures.Row, err error) {
	n := b.hosts
	if n == 0 {
		n = hostsThatFit(runtime.NumCPU(), memoryGiB())
	}
	if err := b.grow(ctx, n); err != nil {
		return nil, err
	}
	defer func() {
		for _, s := range b.retargetServices() {
			err = errors.Join(err, b.remove(context.WithoutCancel(ctx), s))
		}
	}()
	r, err := b.startRetarget(ctx)
	if err != nil {
		return nil, err
	}
	defer r.watch.close()
	return r.measure(ctx, b)
}

// hostsThatFit is how many hosts of a lab answer quickly on a machine: one a processor, and each needs a GiB.
func hostsThatFit(cpus, memory int) int {
	return max(story.Hosts, min(cpus, memory-2, retargetHosts))
}

func memoryGiB() int {
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) != nil {
		return 0 // the least number of hosts then
	}
	return int(s.Totalram * uint64(s.Unit) >> 30)
}

// grow makes more hosts and lets them join.
func (b *bench) grow(ctx context.Context, n int) error {
	if n <= len(b.address) {
		return nil
	}
	if err := b.world.Lab.Up(ctx, n); err != nil {
		return err
	}
	hosts, err := b.world.Lab.List(ctx)
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if _, known := b.address[h.Name]; known {
			continue
		}
		var token api.JoinToken
		if err := b.world.JSON(ctx, &token, "token", "create"); err != nil {
			return err
		}
		if _, err := b.world.Exec(ctx, h.Name, "gear", "join", b.address["h1"].String(), token.Token, "--name", h.Name, "--address", h.Address.String()); err != nil {
			return err
		}
		if _, err := b.sh(ctx, h.Name, `for i; do docker pull -q "$i"; done`, webImage, sleepImage); err != nil {
			return err
		}
		b.address[h.Name] = h.Address
		b.say("%s has joined", h.Name)
	}
	return nil
}

// retargetServices gives a linked pod for each host, then the two backends.
func (b *bench) retargetServices() []*api.Service {
	var all []*api.Service
	for host := range b.address {
		s := service(retargetService+"-"+host, 1, sleeper(), host)
		s.Spec.Links = []api.Link{{Service: retargetService, LocalPort: retargetPort}}
		all = append(all, s)
	}
	redis := api.Container{Name: "main", Image: sleepImage, Command: []string{"redis-server", "--unixsocket", "/tmp/redis.sock", "--protected-mode", "no", "--save", ""}, StopSignal: "SIGKILL",
		Ready: &api.Check{TCP: &api.TCPCheck{Port: retargetPort}, Interval: api.Duration(100 * time.Millisecond), Failures: 1}}
	backends := service(retargetService, 2, redis, target, "h3")
	backends.Spec.Ports = []api.Port{{Port: retargetPort}}
	backends.Spec.Placement.MaxPerHost = 1
	return append(all, backends)
}

// retarget is what is watched.
type retarget struct {
	watch  *ruleWatch
	hosts  []api.Name // of the linked pods, as watch has them
	files  []string   // of their namespaces
	pod    api.Pod    // the backend that changes
	at     netip.AddrPort
	status string // the file in which its supervisor writes down how it is
}

// startRetarget starts all pods and opens their namespaces from outside: nothing runs in the hosts that would tell of the rules.
func (b *bench) startRetarget(ctx context.Context) (*retarget, error) {
	for _, s := range b.retargetServices() {
		if err := b.put(ctx, s); err != nil {
			return nil, err
		}
	}
	backends, err := b.ready(ctx, retargetService, 2)
	if err != nil {
		return nil, err
	}
	roots, err := b.roots(ctx)
	if err != nil {
		return nil, err
	}
	r := &retarget{}
	if r.watch, err = newRuleWatch(); err != nil {
		return nil, err
	}
	for host := range b.address {
		linked, err := b.ready(ctx, retargetService+"-"+host, 1)
		if err != nil {
			return nil, err
		}
		file := filepath.Join(roots[host], "run/netns/gear-"+string(linked[0].Metadata.UID))
		if err := r.watch.add(file); err != nil {
			return nil, err
		}
		r.hosts, r.files = append(r.hosts, api.Name(host)), append(r.files, file)
	}
	i := slices.IndexFunc(backends, func(p api.Pod) bool { return p.Spec.Host == target })
	if i < 0 || len(backends[i].Status.Ports) != 1 {
		return nil, fmt.Errorf("no backend with one port on %s: %+v", target, backends)
	}
	r.pod = backends[i]
	r.at = netip.AddrPortFrom(b.address[target], r.pod.Status.Ports[0].HostPort)
	r.status = filepath.Join(roots[target], "run/gear/pods", string(r.pod.Metadata.UID), "main.json")
	return r, nil
}

// roots gives the root directory of each host.
func (b *bench) roots(ctx context.Context) (map[string]string, error) {
	list, err := b.world.Lab.List(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, h := range list {
		if h.State != lab.Running {
			return nil, fmt.Errorf("host %s is %s", h.Name, h.State)
		}
		out[h.Name] = fmt.Sprintf("/proc/%d/root", h.PID)
	}
	return out, nil
}

// measure changes the backend again and again.
func (r *retarget) measure(ctx context.Context, b *bench) ([]figures.Row, error) {
	if err := story.Until(ctx, retargetLimit, func() error { return r.allLead(true) }); err != nil {
		return nil, err
	}
	var each, last []time.Duration
	for i := range retargetWarm + retargetChanges {
		took, err := r.change(ctx, b, i%2 == 1)
		if err != nil {
			return nil, err
		}
		b.say("P4 change %d: %v", i, took)
		if i >= retargetWarm {
			each, last = append(each, took...), append(last, slices.Max(took))
		}
		if err := sleep(ctx, retargetPause); err != nil {
			return nil, err
		}
	}
	restore, err := r.restore(ctx)
	if err != nil {
		return nil, err
	}
	return retargetRows(len(r.hosts), each, last, restore), nil
}

func retargetRows(hosts int, each, last, restore []time.Duration) []figures.Row {
	raw := figures.Times("P4.restore1", "iptables-restore of one such pod's links alone", restore)
	p99 := figures.Times("P4", fmt.Sprintf("endpoint changes on %s → rules swapped, p99 of %d hosts × %d changes", target, hosts, len(last)), each)
	p99.Value = percentile(each, 99)
	return []figures.Row{p99.Against("iptables-restore alone", raw.Value).AtMost(retargetBound),
		figures.Times("P4.p50", "the same, the median", each), figures.Times("P4.last", "the same, on the last host of each change, the median", last), raw}
}

// allLead wants the backend to be in the links of all, or of none.
func (r *retarget) allLead(want bool) error {
	for i, host := range r.hosts {
		if is, err := r.watch.leads(i, r.at); err != nil || is != want {
			return fmt.Errorf("the link on %s leads to %s: %t, want %t: %w", host, r.at, is, want, err)
		}
	}
	return nil
}

// change lets the backend close its port or open it again, and gives how long each host took from when its supervisor knew.
func (r *retarget) change(ctx context.Context, b *bench, up bool) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, retargetLimit)
	defer cancel()
	if err := r.watch.forget(); err != nil {
		return nil, err
	}
	port := "0"
	if up {
		port = fmt.Sprint(retargetPort)
	}
	begin := time.Now()
	failed := make(chan error, 1)
	go func() {
		_, err := b.sh(ctx, target, `docker exec "$1" redis-cli -s /tmp/redis.sock config set port "$2" | grep -q OK`, r.pod.Status.Containers[0].ID, port)
		failed <- err
	}()
	at, err := r.watch.wait(ctx, func(i int) (bool, error) { is, err := r.watch.leads(i, r.at); return is == up, err })
	if err := errors.Join(err, <-failed); err != nil {
		return nil, err
	}
	known, err := os.Stat(r.status)
	if err != nil {
		return nil, err
	}
	took := make([]time.Duration, len(at))
	for i := range at {
		took[i] = at[i].Sub(known.ModTime())
		if took[i] <= 0 || known.ModTime().Before(begin.Add(-10*time.Millisecond)) { // times of files are those of the last tick
			return nil, fmt.Errorf("%s swapped its rules at %v, the change was told at %v and made after %v", r.hosts[i], at[i], known.ModTime(), begin)
		}
	}
	return took, nil
}

// restore writes the rules that are there once more, as raw as can be.
func (r *retarget) restore(ctx context.Context) (took []time.Duration, err error) {
	for range relinkSample {
		text, _, err := rawChange(ctx, r.files[0], r.at, r.at)
		if err != nil {
			return nil, err
		}
		start := time.Now()
		if _, err := hostexec.Run(ctx, hostexec.Cmd{Argv: []string{"iptables-restore", "--noflush", "-w"}, NetNS: r.files[0], Stdin: []byte(text)}); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}

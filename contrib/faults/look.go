package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"gearmesh.dev/contrib/figures"
)

// lookScript prints what is on a host, a fact a line. It asks docker, systemd, netfilter, the kernel and
// the disk, and nothing of Gearmesh.
const lookScript = `
docker ps -aq --no-trunc | xargs -r docker inspect -f 'container {{.Id}} {{.State.StartedAt}} {{.State.Pid}} {{index .Config.Labels "dev.gearmesh.uid"}} {{index .Config.Labels "dev.gearmesh.service"}} {{.State.Running}}'
for f in /run/netns/gear-*; do [ -e "$f" ] && echo "namespace ${f##*/gear-}"; done
for d in /var/lib/gear/pods/*; do [ -e "$d" ] && echo "directory ${d##*/}"; done
for d in /run/gear/pods/*; do [ -e "$d" ] && echo "runtime ${d##*/}"; done
for d in /run/gear/containers/*; do [ -e "$d" ] && echo "record ${d##*/}"; done
grep -hs '^# uid:' /etc/systemd/system/gear-*-net.service | sed 's/^# uid: /unit /'
for f in /etc/systemd/system/gear.target.wants/gear-*; do [ -e "$f" ] || [ ! -L "$f" ] || echo "dangling ${f##*/}"; done
find /etc/systemd/system -name 'gear*' -type f -size 0 -printf 'empty %f\n'
systemctl list-units --state=failed --plain --no-legend 'gear*' docker.service containerd.service | awk '{print "failed " $1}'
systemctl list-unit-files --state=masked --plain --no-legend 'gear*' | awk '{print "masked " $1}'
ip -o link | sed -n 's/^[0-9]*: \(gv[a-z2-7]*\)[@:].*/veth \1/p'
iptables-save -t nat | sed -n 's/^-A GEAR-PORTS -p \([a-z]*\) .*--dport \([0-9]*\) .*--to-destination \([0-9.]*\):.*/port \1 \2 \3/p'
process() { # NAME UNIT: memory in KiB, open files, threads, goroutines (0 where it does not count them)
	pid=$(systemctl show -P MainPID "$2")
	[ "$pid" = 0 ] || echo "process $1 $(awk '/^VmRSS/ {print $2}' /proc/$pid/status) $(ls /proc/$pid/fd | wc -l) $(ls /proc/$pid/task | wc -l)" \
		"$(cat /run/gear/goroutines-$1 /var/lib/gear/master/goroutines-$1 2>/dev/null | awk -v pid=$pid '$1 == pid { n = $2 } END { print n + 0 }')"
}
for p in agent master router; do process $p gear-$p.service; done
for u in $(systemctl list-units --state=active --plain --no-legend 'gear-*.service' | awk '{print $1}' | grep -v -e -net.service -e -pids.service -e '^gear-[a-z]*.service'); do process $u $u; done
echo "mounts $(grep -cv -e ' /run/netns/gear-' -e '^overlay /var/lib/docker/' /proc/1/mounts)" # of no pod: pods move
true`

// container is a container of a pod as dockerd tells of it.
type container struct {
	id, started, pid, uid, service string
	running                        bool
}

// sight is what is on a host. The slices of uids are sorted.
type sight struct {
	containers                                    []container
	namespaces, directories, runtime, units, veth []string
	records                                       []string // ids of containers that the OCI runtime would start
	bad                                           []string // units that are failed, masked or empty, and links to none
	ports                                         map[string]string
	twice                                         []string           // ports that are given to two addresses
	processes                                     map[string]process // of Gearmesh: agent, master, router, and gear-run by its unit
	mounts                                        int                // besides the namespaces and root file systems of pods
}

// process is what a process of ours takes.
type process struct {
	kib, files, threads int
	goroutines          int // 0 when it does not count them: it has no failpoints
}

// view is what is on all hosts.
type view map[string]sight

// look looks at all hosts, which must be on.
func (r *rig) look(ctx context.Context) (view, error) {
	v := view{}
	for _, h := range hosts() {
		s, err := r.lookAt(ctx, h)
		if err != nil {
			return nil, err
		}
		v[h] = s
	}
	return v, nil
}

func (r *rig) lookAt(ctx context.Context, host string) (sight, error) {
	out, err := r.sh(ctx, host, lookScript)
	if err != nil {
		return sight{}, err
	}
	return readSight(host, out)
}

// readSight reads what lookScript prints.
func readSight(host, text string) (sight, error) {
	s := sight{ports: map[string]string{}, processes: map[string]process{}}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 {
			return s, fmt.Errorf("looking at %s: %q is no fact", host, line)
		}
		if err := s.take(f[0], f[1:]); err != nil {
			return s, fmt.Errorf("looking at %s: %q: %w", host, strings.TrimSpace(line), err)
		}
	}
	for _, list := range [][]string{s.namespaces, s.directories, s.runtime, s.units, s.veth} {
		slices.Sort(list)
	}
	slices.SortFunc(s.containers, func(a, b container) int { return strings.Compare(a.id, b.id) })
	return s, nil
}

func (s *sight) take(kind string, f []string) error {
	lists := map[string]*[]string{"namespace": &s.namespaces, "directory": &s.directories, "runtime": &s.runtime, "unit": &s.units,
		"veth": &s.veth, "record": &s.records}
	switch {
	case lists[kind] != nil:
		*lists[kind] = append(*lists[kind], f[0])
	case kind == "container" && len(f) == 6:
		s.containers = append(s.containers, container{f[0], f[1], f[2], f[3], f[4], f[5] == "true"})
	case kind == "port" && len(f) == 3:
		key := f[0] + " " + f[1]
		if old, ok := s.ports[key]; ok && old != f[2] {
			s.twice = append(s.twice, key)
		}
		s.ports[key] = f[2]
	case kind == "process" && len(f) == 5:
		var p process
		if _, err := fmt.Sscan(strings.Join(f[1:], " "), &p.kib, &p.files, &p.threads, &p.goroutines); err != nil {
			return err
		}
		s.processes[f[0]] = p
	case kind == "mounts" && len(f) == 1:
		n, err := strconv.Atoi(f[0])
		if err != nil {
			return err
		}
		s.mounts = n
	case slices.Contains([]string{"failed", "masked", "empty", "dangling"}, kind):
		s.bad = append(s.bad, kind+" "+f[0])
	default:
		return errors.New("want a fact of lookScript")
	}
	return nil
}

// residue tells of what is on a host and is no pod's: namespaces, directories, units, links and containers of
// a host must be those of the same pods, and no pod may have two containers of one kind.
func (v view) residue() error {
	var errs []error
	for _, h := range slices.Sorted(maps.Keys(v)) {
		s := v[h]
		var uids, ids, short []string
		for _, c := range s.containers {
			uids, ids = append(uids, c.uid), append(ids, c.id)
		}
		slices.Sort(uids)
		for _, d := range s.directories {
			short = append(short, "gv"+d[:min(12, len(d))])
		}
		for what, have := range map[string][]string{"containers of": uids, "namespaces of": s.namespaces, "runtime state of": s.runtime, "units of": s.units} {
			if !slices.Equal(have, s.directories) {
				errs = append(errs, fmt.Errorf("%s has %s %q, and the pods %q", h, what, have, s.directories))
			}
		}
		if !slices.Equal(s.veth, short) {
			errs = append(errs, fmt.Errorf("%s has links %q, and the pods %q", h, s.veth, s.directories))
		}
		for _, id := range s.records {
			if !slices.Contains(ids, id) {
				errs = append(errs, fmt.Errorf("%s has a record of the container %q, which is not there", h, id))
			}
		}
	}
	return errors.Join(errs...)
}

// complete tells whether everything that was acknowledged runs.
func (r *rig) complete(v view) error {
	have := map[string]int{}
	for _, s := range v {
		for _, c := range s.containers {
			if c.running {
				have[c.service]++
			}
		}
	}
	want := map[string]int{"db": 1, "web": 3, "ticker": 1}
	if !maps.Equal(have, want) {
		return fmt.Errorf("there run %v, and %v were acknowledged", have, want)
	}
	return nil
}

// untouched tells whether the containers of the first view run on in the second, but on the hosts whose
// containers the fault took away.
func (r *rig) untouched(before, after view) error {
	var errs []error
	for _, h := range hosts() {
		if r.mayChange[h] {
			continue
		}
		for _, c := range before[h].containers {
			if !slices.Contains(after[h].containers, c) {
				errs = append(errs, fmt.Errorf("on %s the container %s of %s is not what it was", h, c.id[:12], c.service))
			}
		}
	}
	return errors.Join(errs...)
}

// changed gives 1 when a container is not what it was before, outside the hosts whose containers the fault may take away, and
// says which; 0 otherwise. more are further things to hold then.
func (r *rig) changed(ctx context.Context, id string, before view, more ...func(view) error) (float64, error) {
	after, err := r.look(ctx)
	if err != nil {
		return 0, err
	}
	errs := []error{r.untouched(before, after)}
	for _, hold := range more {
		errs = append(errs, hold(after))
	}
	if err := errors.Join(errs...); err != nil {
		r.say("%s: %v", id, err)
		return 1, nil
	}
	return 0, nil
}

// healthy tells whether no unit of ours is failed, masked or empty, and no port is given twice.
func (v view) healthy() (units, ports error) {
	for h, s := range v {
		if len(s.bad) > 0 {
			units = errors.Join(units, fmt.Errorf("%s has units that are %q", h, s.bad))
		}
		if len(s.twice) > 0 {
			ports = errors.Join(ports, fmt.Errorf("%s gives twice the ports %q", h, s.twice))
		}
	}
	return units, ports
}

// bounded tells whether our processes are as small as before, and the kernel keeps no more mounts for us: what a fault leaks
// shows here. Both views are of a cluster at rest with the same pods.
func bounded(before, after view) error {
	var errs []error
	for _, h := range slices.Sorted(maps.Keys(before)) {
		for name, b := range before[h].processes {
			if a, ok := after[h].processes[name]; ok && a.more(b) {
				errs = append(errs, fmt.Errorf("%s of %s went from %+v to %+v", name, h, b, a))
			}
		}
		if b, a := before[h].mounts, after[h].mounts; a > b+3 {
			errs = append(errs, fmt.Errorf("%s went from %d mounts to %d", h, b, a))
		}
	}
	return errors.Join(errs...)
}

// idleThreads is what a process may have kept from its busiest moment.
const idleThreads = 48

// more tells whether a process takes more than at another time, by more than what comes and goes: a collection that
// is due, connections between hosts that are kept open for a minute, each with its goroutines, and threads: Go makes one for
// each system call that blocks while others do, and keeps it for the next time.
func (p process) more(b process) bool {
	return p.kib > 2*b.kib+16<<10 || p.files > b.files+12 || p.threads > max(b.threads+12, idleThreads) || b.goroutines > 0 && p.goroutines > b.goroutines+25
}

// invariants gives the row of what must hold after each fault. What does not is told in full.
func (r *rig) invariants(id string, before, after view, session, settled, stored error) figures.Row {
	units, ports := after.healthy()
	broken := 0
	for _, i := range []struct {
		name string
		err  error
	}{
		{"I1 no acknowledged write lost", errors.Join(settled, r.complete(after), stored)},
		{"I2 no container touched, sessions live", errors.Join(r.untouched(before, after), session)},
		{"I5 nothing left behind", after.residue()},
		{"I8 no unit failed, masked or empty", units},
		{"I9 no port given twice", ports},
		{"I13 memory, files, threads, goroutines and mounts bounded", errors.Join(bounded(before, after), bounded(r.first, after))},
	} {
		if i.err != nil {
			broken++
			r.say("%s: %s does NOT hold: %v", id, i.name, i.err)
		}
	}
	return figures.Row{ID: id + ".invariants", What: "of I1 I2 I5 I8 I9 I13, out of band, do not hold", Value: float64(broken), Unit: "invariants"}.
		WithGoal("0 invariants", broken == 0)
}

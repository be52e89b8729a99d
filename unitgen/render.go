package unitgen

import (
	"fmt"
	"slices"
	"time"

	"gearmesh.dev/api"
)

// Runner is the binary that every unit of a pod runs.
const Runner = "/usr/local/bin/gear-run"

// TasksPerContainer is how many processes and threads a container may have; a pod may have as
// many as its containers together.
const TasksPerContainer = api.DefaultPids

// stopSlack is what gear-run gets on top of a container's grace, to kill it and to say so.
const stopSlack = 15 * time.Second

// singletonSlack is the same for a singleton, for whose end somebody may be waiting.
const singletonSlack = 5 * time.Second

// watchdog is how long gear-run may be silent before systemd starts it anew. Its container runs
// on meanwhile and is adopted again.
const watchdog = time.Minute

const documentation = "https://gearmesh.dev/docs/debugging"

// File is one unit file: the unit's name, such as "gear-shop-web-7f3k2.service", and its text.
type File = api.TextFile

// Render gives the unit files of a pod: the project's slice (the same for all pods of the
// project), then the pod's slice, network, and containers in their order. It depends on the parts
// of the pod that never change. The error names every value that a unit file cannot carry; then there are no files.
func Render(pod api.Pod) ([]File, error) {
	if err := check(pod); err != nil {
		return nil, fmt.Errorf("units of pod %q: %w", pod.Metadata.Name, err)
	}
	r := renderer{pod: pod}
	r.projectSlice()
	r.podSlice()
	r.net()
	if pod.Spec.Template.ShareProcesses {
		r.pids()
	}
	for i, l := range pod.Spec.Template.Links {
		if l.WaitFor != "" {
			r.link(i+1, l)
		}
	}
	for i := range pod.Spec.Template.All() {
		r.container(i)
	}
	if pod.Singleton() {
		r.lease()
		r.lapsed()
	}
	if r.err != nil {
		return nil, fmt.Errorf("units of pod %q: %w", pod.Metadata.Name, r.err)
	}
	return r.files, nil
}

// Wants gives the units of a pod that gear.target starts at boot: its containers; they require the rest. Those of a
// singleton only the agent starts, once the master has said that the pod is still this host's.
func Wants(pod api.Pod) []string {
	if pod.Singleton() {
		return nil
	}
	return ContainerUnits(pod)[len(pod.Spec.Template.InitContainers):]
}

// check refuses a pod whose names would make file names or commands of somebody's choosing. What
// comes from the master has been validated; what comes from a disk may have been edited.
func check(pod api.Pod) error {
	m := pod.Metadata
	for _, n := range []api.Name{m.Project, m.Name, pod.Spec.Service} {
		if err := n.Validate(); err != nil {
			return err
		}
	}
	seen := map[api.Name]bool{"net": true, "pids": pod.Spec.Template.ShareProcesses, "lapsed": pod.Singleton()}
	for _, c := range pod.Spec.Template.All() {
		if err := c.Name.Validate(); err != nil {
			return err
		}
		if seen[c.Name] {
			return fmt.Errorf("the container name %q is taken", c.Name)
		}
		seen[c.Name] = true
	}
	return m.UID.Validate()
}

type renderer struct {
	pod   api.Pod
	files []File
	err   error
}

func (r *renderer) add(name string, p *printer) {
	if err := checkUnitName(name); err != nil {
		p.fail("name", err)
	}
	if p.err != nil && r.err == nil {
		r.err = fmt.Errorf("unit %q: %w", name, p.err)
	}
	r.files = append(r.files, File{Name: name, Text: p.b.String()})
}

// podUnit opens a file that belongs to this pod alone, with the head of its first section.
func (r *renderer) podUnit(description string) *printer {
	p := newFile()
	p.comment("uid", string(r.pod.Metadata.UID))
	p.section("Unit")
	p.text("Description", description)
	p.word("Documentation", documentation)
	return p
}

func newFile() *printer {
	p := &printer{}
	p.b.WriteString(header + "\n")
	return p
}

func (r *renderer) projectSlice() {
	p := newFile()
	p.section("Unit")
	p.text("Description", fmt.Sprintf("Gearmesh project %s", r.pod.Metadata.Project))
	p.word("Documentation", documentation)
	r.add(ProjectSlice(r.pod.Metadata.Project), p)
}

func (r *renderer) podSlice() {
	m := r.pod.Metadata
	p := r.podUnit(fmt.Sprintf("Gearmesh pod %s/%s", m.Project, m.Name))
	p.section("Slice")
	p.yes("CPUAccounting")
	p.yes("MemoryAccounting")
	p.yes("TasksAccounting")
	limits(p, &r.pod.Spec.Template)
	r.add(PodSlice(m.Project, m.Name), p)
}

// limits writes what the pod's containers may use together. A container without a limit makes
// the pod one without: the others' limits are theirs alone, and the engine holds each to its own.
func limits(p *printer, t *api.PodTemplate) {
	need := t.Needs()
	if need.CPU > 0 {
		p.percent("CPUQuota", need.CPU)
	}
	if need.Memory > 0 {
		p.bytes("MemoryMax", need.Memory)
	}
	p.number("TasksMax", tasks(t))
	shares(p, t)
}

func (r *renderer) net() {
	m := r.pod.Metadata
	p := r.podUnit(fmt.Sprintf("Network of Gearmesh pod %s/%s", m.Project, m.Name))
	p.units("After", "network-pre.target", "systemd-sysctl.service", "systemd-modules-load.service")
	if slices.ContainsFunc(r.pod.Spec.Template.Links, func(l api.Link) bool { return l.Mode == api.LinkBalanced }) {
		p.units("Wants", LinksUnit)
		p.units("After", LinksUnit)
	}
	p.number("StartLimitIntervalSec", 0)
	p.section("Service")
	p.word("Type", "oneshot")
	p.yes("RemainAfterExit")
	p.command("ExecStart", Runner, "net-up", string(m.UID))
	// Makes what somebody removed, around the containers that run: gear host repair asks for it.
	p.command("ExecReload", Runner, "net-up", string(m.UID))
	// Not ExecStop=: this one runs after a failed start too, and so no container can come up in a
	// namespace that is laid by half.
	p.command("ExecStopPost", Runner, "net-down", string(m.UID))
	p.word("Restart", "on-failure")
	p.span("RestartSec", 2*time.Second)
	p.span("TimeoutStartSec", time.Minute)
	p.span("TimeoutStopSec", time.Minute)
	p.word("Slice", RunSlice)
	r.journal(p, "")
	// iptables of the older kind loads its kernel module itself.
	p.word("CapabilityBoundingSet", capabilities+" CAP_SYS_MODULE")
	harden(p)
	r.add(NetUnit(m.Project, m.Name), p)
}

// pids holds the pid namespace that the containers share. Its main process is that namespace's process 1.
func (r *renderer) pids() {
	m := r.pod.Metadata
	p := r.podUnit(fmt.Sprintf("Process view of Gearmesh pod %s/%s", m.Project, m.Name))
	p.number("StartLimitIntervalSec", 0)
	p.section("Service")
	p.word("Type", "notify")
	p.word("NotifyAccess", "main")
	p.command("ExecStart", Runner, "pids-up", string(m.UID))
	p.command("ExecStopPost", Runner, "pids-down", string(m.UID))
	p.word("Restart", "always")
	p.word("RestartSec", "100ms")
	p.word("Slice", RunSlice)
	p.number("OOMScoreAdjust", -900)
	r.journal(p, "")
	p.word("CapabilityBoundingSet", capabilities)
	harden(p)
	r.add(PidsUnit(m.Project, m.Name), p)
}

// link is up when the pod's nth link has a backend. Containers only want it and come after it, so that nothing is stopped by
// a link that goes down.
func (r *renderer) link(n int, l api.Link) {
	m := r.pod.Metadata
	p := r.podUnit(fmt.Sprintf("Link to %s/%s of Gearmesh pod %s/%s", l.In(m.Project), l.Service, m.Project, m.Name))
	p.number("StartLimitIntervalSec", 0)
	p.section("Service")
	p.word("Type", "oneshot")
	p.yes("RemainAfterExit")
	p.command("ExecStart", Runner, "link-wait", fmt.Sprintf("%s/%d", m.UID, n))
	p.word("Restart", "on-failure")
	p.span("RestartSec", 2*time.Second)
	p.word("TimeoutStartSec", "infinity")
	p.span("TimeoutStopSec", 10*time.Second)
	p.word("Slice", RunSlice)
	r.journal(p, "")
	p.word("CapabilityBoundingSet", "CAP_DAC_READ_SEARCH")
	harden(p)
	r.add(LinkUnit(m.Project, m.Name, n), p)
}

func (r *renderer) container(i int) {
	m, t := r.pod.Metadata, &r.pod.Spec.Template
	c, units := t.All()[i], ContainerUnits(r.pod)
	p := r.podUnit(fmt.Sprintf("Gearmesh pod %s/%s, container %s", m.Project, m.Name, c.Name))
	net := NetUnit(m.Project, m.Name)
	// Not Requires=: it would fail this unit for good when the network's first try fails. Without the
	// namespace no container starts anyway, and gear-run goes on trying. PartOf= keeps the other
	// half of Requires=: stopping or restarting the network does the same here, in order.
	needs := []string{net}
	if t.ShareProcesses {
		needs = append(needs, PidsUnit(m.Project, m.Name))
	}
	p.units("Wants", needs...)
	p.units("PartOf", needs...)
	// After alone: dockerd may die or be restarted, and no pod stops with it.
	p.units("After", append(needs, "docker.service")...)
	if links := LinkUnits(r.pod); len(links) > 0 {
		p.units("Wants", links...)
		p.units("After", links...)
	}
	if r.pod.Singleton() {
		// However it is started, it does not run without its dead-man timer. Wants= passes no stop or restart on.
		p.units("Wants", LeaseTimer(m.Project, m.Name))
	}
	r.order(p, i, units)
	p.number("StartLimitIntervalSec", 0)
	if c.Native != nil {
		r.native(p, c)
	} else {
		// A gear-run that is killed is started anew; one whose unit is stopped before that has left its container
		// behind. These are started when nothing follows any more, never before a restart.
		p.units("OnSuccess", StoppedUnit(m.UID, c.Name))
		p.units("OnFailure", StoppedUnit(m.UID, c.Name))
		r.service(p, c, i < len(t.InitContainers))
	}
	if i >= len(t.InitContainers) && !r.pod.Singleton() {
		p.section("Install")
		p.units("WantedBy", Target)
	}
	r.add(units[i], p)
}

// order makes a container's unit wait for the ones before it: Type=oneshot and Type=notify make After=
// mean "has ended well" and "is ready". When one of them fails at first, systemd goes on with those that wait;
// gear-run then waits itself. After= alone for containers: that one restarts must not start
// another one that its operator has stopped.
func (r *renderer) order(p *printer, i int, units []string) {
	t := &r.pod.Spec.Template
	if inits := units[:min(i, len(t.InitContainers))]; len(inits) > 0 {
		p.units("Wants", inits...)
		p.units("After", inits...)
	}
	var after []string
	for j, c := range t.Containers {
		if i >= len(t.InitContainers) && slices.Contains(t.All()[i].After, c.Name) {
			after = append(after, units[len(t.InitContainers)+j])
		}
	}
	if len(after) > 0 {
		p.units("After", after...)
	}
}

func (r *renderer) service(p *printer, c api.Container, init bool) {
	p.section("Service")
	if init {
		p.word("Type", "oneshot")
		p.yes("RemainAfterExit")
	} else {
		p.word("Type", "notify")
	}
	p.word("NotifyAccess", "main")
	p.command("ExecStart", Runner, "run", string(r.pod.Metadata.UID)+"/"+string(c.Name))
	if init {
		p.word("Restart", "on-failure")
	} else {
		p.word("Restart", "always")
	}
	p.word("RestartSec", "100ms") // the back-off lives in gear-run, which remembers
	p.word("TimeoutStartSec", "infinity")
	p.span("TimeoutStopSec", grace(c)+r.stopSlack())
	if !init {
		p.span("WatchdogSec", watchdog)
	}
	p.word("KillMode", "mixed")
	p.word("Slice", RunSlice)
	p.number("OOMScoreAdjust", -900)
	r.journal(p, c.Name)
	p.word("CapabilityBoundingSet", capabilities)
	harden(p)
}

func (r *renderer) stopSlack() time.Duration {
	if r.pod.Singleton() {
		return singletonSlack
	}
	return stopSlack
}

func grace(c api.Container) time.Duration {
	if c.StopGrace == 0 {
		return api.DefaultStopGrace.Std()
	}
	return c.StopGrace.Std()
}

// journal names the pod in every line that the unit logs, so that journalctl GEAR_SERVICE=web
// works with no tool of ours.
func (r *renderer) journal(p *printer, container api.Name) {
	m := r.pod.Metadata
	p.text("SyslogIdentifier", string(m.Name))
	p.word("SyslogLevelPrefix", "no") // a container's line that starts with <3> is text, not a priority
	p.quoted("LogExtraFields", "GEAR_PROJECT="+string(m.Project), "GEAR_SERVICE="+string(r.pod.Spec.Service),
		"GEAR_POD="+string(m.Name))
	if container != "" {
		p.quoted("LogExtraFields", "GEAR_CONTAINER="+string(container))
	}
}

// capabilities are what gear-run needs: entering and making namespaces, rules and links in them,
// and directories that belong to containers' users.
const capabilities = "CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_NET_ADMIN CAP_NET_RAW CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_CHOWN CAP_FOWNER CAP_KILL"

// harden takes from gear-run what it does not use. Nothing here gives it a mount namespace of its
// own (ProtectSystem=, PrivateTmp= and their like would): what it mounts in /run/netns
// must be seen by the host, and a copy of the host's mounts for each of hundreds of units would
// pin every container's file system and cost each mount(2) hundreds of copies.
func harden(p *printer) {
	p.yes("NoNewPrivileges")
	p.yes("LockPersonality")
	p.yes("RestrictRealtime")
	p.yes("RestrictSUIDSGID")
	p.yes("MemoryDenyWriteExecute")
	p.word("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK")
	p.word("SystemCallArchitectures", "native")
}

package api

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ContainerOptions is what Docker offers beyond the everyday fields of a Container. Which of it a
// project may use is its Policy's to say.
type ContainerOptions struct {
	CapAdd        []Capability      `json:"capAdd,omitempty" doc:"Capabilities to add; DEFAULT stands for Docker's usual set, ALL for all" example:"CHOWN"`
	CapDrop       []Capability      `json:"capDrop,omitempty" doc:"Capabilities to take away again; NET_BIND_SERVICE is the only one that is there unasked"`
	Escalation    bool              `json:"allowPrivilegeEscalation,omitempty" doc:"Let set-user-ID programs and file capabilities work (no no-new-privileges)"`
	Privileged    bool              `json:"privileged,omitempty" doc:"All capabilities, all devices, no seccomp and AppArmor profile"`
	Seccomp       Profile           `json:"seccomp,omitempty" enum:"default,unconfined" doc:"The engine's profile, or none"`
	AppArmor      Profile           `json:"apparmor,omitempty" doc:"default, unconfined, or the name of a profile that is loaded on the host" maxLength:"128"`
	Devices       []Device          `json:"devices,omitempty" doc:"Device nodes of the host" maxItems:"64"`
	DeviceRules   []string          `json:"deviceRules,omitempty" doc:"Rules for device nodes that are made later, as Docker writes them" example:"c 13:* rmw"`
	GPUs          []string          `json:"gpus,omitempty" doc:"all, or ids of GPUs" example:"all"`
	Ulimits       []Ulimit          `json:"ulimits,omitempty" doc:"Limits of each process" maxItems:"16"`
	Sysctls       map[string]string `json:"sysctls,omitempty" doc:"Kernel settings of the container's own namespaces; those of net. are shared by the pod"`
	Tmpfs         []Tmpfs           `json:"tmpfs,omitempty" doc:"Empty directories in memory; they count as memory of the container" maxItems:"32"`
	HostPaths     []HostPath        `json:"hostPaths,omitempty" doc:"Files and directories of the host" maxItems:"32"`
	ReadOnlyRoot  bool              `json:"readOnlyRoot,omitempty" doc:"The image's files cannot be changed"`
	Labels        map[string]string `json:"labels,omitempty" doc:"Labels of the engine's container"`
	Init          bool              `json:"init,omitempty" doc:"Process 1 is an init that passes signals on and reaps"`
	Groups        []string          `json:"groups,omitempty" doc:"More groups of the user, by name or number" maxItems:"32"`
	ShmSize       Bytes             `json:"shmSize,omitempty" doc:"Size of /dev/shm; 64Mi when left out" example:"256Mi"`
	OOMScore      int               `json:"oomScore,omitempty" doc:"How soon the kernel ends it when the host has no memory left: -1000 never, 1000 first" minimum:"-1000" maximum:"1000"`
	Pids          int               `json:"pids,omitempty" doc:"Processes and threads it may have; 4096 when left out" minimum:"0" maximum:"4194304"`
	CPUSet        string            `json:"cpuset,omitempty" doc:"Processors it runs on" example:"0-1,3" maxLength:"256"`
	MemorySet     string            `json:"memoryset,omitempty" doc:"NUMA nodes it takes memory from" example:"0" maxLength:"256"`
	Swap          Bytes             `json:"swap,omitempty" doc:"Swap beside the memory limit; none when left out"`
	HostPID       bool              `json:"hostPid,omitempty" doc:"See the processes of the host"`
	HostIPC       bool              `json:"hostIpc,omitempty" doc:"Share the host's System V IPC and POSIX queues"`
	HostCgroup    bool              `json:"hostCgroup,omitempty" doc:"See the host's tree of cgroups"`
	StorageDriver map[string]string `json:"storage,omitempty" doc:"Options of the engine's storage driver, such as size" maxProperties:"8"`
}

// PodOptions is how a pod stands to the other pods of its host.
type PodOptions struct {
	CPUWeight int `json:"cpuWeight,omitempty" doc:"Share of the processors when they are short; 100 when left out" minimum:"1" maximum:"10000"`
	IOWeight  int `json:"ioWeight,omitempty" doc:"Share of the disks when they are busy; 100 when left out" minimum:"1" maximum:"10000"`
}

// DefaultWeight is the weight of a pod that names none (systemd.resource-control(5)).
const DefaultWeight = 100

// MaxWeight is the most that a pod may weigh. What a host tells of its pods is held to it.
const MaxWeight = 1000

// DefaultPids is how many processes and threads a container may have that says nothing of it.
const DefaultPids = 4096

// Capability is a capability as capabilities(7) has it, without CAP_: "CHOWN".
type Capability string

// Words that stand for several capabilities.
const (
	CapDefault Capability = "DEFAULT" // what Docker gives a container unasked, but NET_RAW
	CapAll     Capability = "ALL"
)

// DefaultCapabilities gives what Docker gives a container unasked (moby: oci/caps/defaults.go), but NET_RAW: with that a pod
// sends packets from any address, also from the one that stands for its links.
func DefaultCapabilities() []Capability {
	return []Capability{"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
		"SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}
}

// capabilities gives all of capabilities(7).
func capabilities() []Capability {
	return append(DefaultCapabilities(), "AUDIT_CONTROL", "AUDIT_READ", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "DAC_READ_SEARCH",
		"IPC_LOCK", "IPC_OWNER", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "NET_ADMIN", "NET_BROADCAST", "NET_RAW", "PERFMON",
		"SYS_ADMIN", "SYS_BOOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME",
		"SYS_TTY_CONFIG", "SYSLOG", "WAKE_ALARM")
}

// Profile names a seccomp or AppArmor profile.
type Profile string

// The profiles that every host has.
const (
	ProfileDefault    Profile = "default"
	ProfileUnconfined Profile = "unconfined"
)

// Device is a device node of the host in a container.
type Device struct {
	Device string `json:"device" doc:"Path on the host" example:"/dev/ttyUSB0" maxLength:"4096"`
	Path   string `json:"path,omitempty" doc:"Path in the container; the same when left out" maxLength:"4096"`
	Access string `json:"access,omitempty" doc:"Some of r, w and m (make nodes); rw when left out" pattern:"^[rwm]{1,3}$"`
}

// Ulimit is a limit of each process (getrlimit(2)). Hard is Soft when left out; -1 is no limit.
type Ulimit struct {
	Name string `json:"name" doc:"As ulimits are called in /etc/security/limits.conf" example:"nofile"`
	Soft int64  `json:"soft" doc:"What a process begins with; it may raise that up to hard; -1 is no limit" minimum:"-1"`
	Hard int64  `json:"hard,omitempty" doc:"What it can have at most; the same as soft when left out" minimum:"-1"`
}

// Tmpfs is an empty directory in memory.
type Tmpfs struct {
	Path string `json:"path" doc:"Absolute path in the container" maxLength:"4096"`
	Size Bytes  `json:"size,omitempty" doc:"64Mi when left out" example:"64Mi"`
	Mode string `json:"mode,omitempty" doc:"Octal; 1777 when left out" pattern:"^[01]?[0-7]{3}$"`
	Exec bool   `json:"exec,omitempty" doc:"Files in it may be run"`
}

// DefaultTmpfsSize is the size of a tmpfs that names none.
const DefaultTmpfsSize = Bytes(64 << 20)

// HostPath is a file or directory of the host in a container.
type HostPath struct {
	HostPath    string      `json:"hostPath" doc:"Absolute path on the host; must exist" maxLength:"4096"`
	Path        string      `json:"path" doc:"Absolute path in the container" maxLength:"4096"`
	ReadOnly    bool        `json:"readOnly,omitempty" doc:"The container cannot change it"`
	Propagation Propagation `json:"propagation,omitempty" enum:"private,slave,shared" doc:"Which later mounts are seen; private when left out"`
}

// Propagation says which mounts made later cross a mount (mount_namespaces(7)).
type Propagation string

// The propagations of a HostPath, with what lies below it.
const (
	PropagatePrivate Propagation = "private" // none
	PropagateSlave   Propagation = "slave"   // the host's are seen in the container
	PropagateShared  Propagation = "shared"  // both ways
)

func (f *faults) capabilities(at string, list []Capability) {
	for i, c := range list {
		f.add(fmt.Sprintf("%s[%d]", at, i), c.validate())
	}
}

func (f *faults) options(at string, o *ContainerOptions) {
	f.capabilities(at+".capAdd", o.CapAdd)
	f.capabilities(at+".capDrop", o.CapDrop)
	f.profiles(at, o)
	f.devices(at, o)
	f.processes(at, o)
	f.paths(at, o)
	for k, v := range o.Labels {
		f.add(at+".labels", engineLabel(k))
		f.add(at+".labels."+k, plainText(v))
	}
	for k, v := range o.Sysctls {
		f.add(at+".sysctls", sysctl(k, v))
	}
	for k, v := range o.StorageDriver {
		if !wordName.MatchString(k) {
			f.addf(at+".storage", "%.80q is no option; write one such as size", k)
		}
		f.add(at+".storage."+k, plainText(v))
	}
}

func (f *faults) profiles(at string, o *ContainerOptions) {
	if p := o.Seccomp; p != "" && p != ProfileDefault && p != ProfileUnconfined {
		f.addf(at+".seccomp", "%.80q is not known; write default or unconfined", p)
	}
	if p := o.AppArmor; p != "" && !profileName.MatchString(string(p)) {
		f.addf(at+".apparmor", "%.80q is no profile; write default, unconfined or the name of a loaded profile", p)
	}
}

func (f *faults) devices(at string, o *ContainerOptions) {
	for i, d := range o.Devices {
		here := fmt.Sprintf("%s.devices[%d]", at, i)
		f.add(here+".device", absolutePath(d.Device))
		if d.Path != "" {
			f.add(here+".path", absolutePath(d.Path))
		}
		if d.Access != "" && !deviceAccess.MatchString(d.Access) {
			f.addf(here+".access", "%.20q is no access; write some of r, w and m", d.Access)
		}
	}
	for i, r := range o.DeviceRules {
		if !deviceRule.MatchString(r) {
			f.addf(fmt.Sprintf("%s.deviceRules[%d]", at, i), "%.80q is no rule; write type, major:minor and access, such as %q", r, "c 13:* rmw")
		}
	}
	for i, g := range o.GPUs {
		if !gpuName.MatchString(g) {
			f.addf(fmt.Sprintf("%s.gpus[%d]", at, i), "%.80q is no GPU; write all, a number or an id", g)
		}
	}
}

func (f *faults) processes(at string, o *ContainerOptions) {
	f.unique(at+".ulimits", len(o.Ulimits), func(i int) (string, error) {
		return o.Ulimits[i].Name, o.Ulimits[i].validate()
	})
	for i, g := range o.Groups {
		if !groupName.MatchString(g) {
			f.addf(fmt.Sprintf("%s.groups[%d]", at, i), "%.80q is no group; write a name or a number", g)
		}
	}
	if o.OOMScore < -1000 || o.OOMScore > 1000 {
		f.addf(at+".oomScore", "is %d; -1000 to 1000 are allowed", o.OOMScore)
	}
	if o.Pids < 0 || o.Pids > 4194304 {
		f.addf(at+".pids", "is %d; 1 to 4194304 are allowed", o.Pids)
	}
	f.add(at+".cpuset", cpuList(o.CPUSet))
	f.add(at+".memoryset", cpuList(o.MemorySet))
}

func (f *faults) paths(at string, o *ContainerOptions) {
	f.unique(at+".tmpfs", len(o.Tmpfs), func(i int) (string, error) {
		t := o.Tmpfs[i]
		if t.Mode != "" && !fileMode.MatchString(t.Mode) {
			return t.Path, in("mode", fmt.Errorf("%.20q is no octal mode; write one such as 1777", t.Mode))
		}
		if strings.ContainsRune(t.Path, ',') {
			return t.Path, in("path", fmt.Errorf("%.80q has a comma, which ends an option", t.Path))
		}
		return t.Path, in("path", absolutePath(t.Path))
	})
	f.unique(at+".hostPaths", len(o.HostPaths), func(i int) (string, error) {
		h := o.HostPaths[i]
		switch h.Propagation {
		case "", PropagatePrivate, PropagateSlave, PropagateShared:
		default:
			return h.Path, in("propagation", fmt.Errorf("%.20q is not known; write private, slave or shared", h.Propagation))
		}
		if err := absolutePath(h.HostPath); err != nil && h.HostPath != "/" {
			return h.Path, in("hostPath", err)
		}
		return h.Path, in("path", absolutePath(h.Path))
	})
}

func (f *faults) weight(at string, w int) {
	if w < 0 || w > 10000 {
		f.addf(at, "is %d; 1 to 10000 are allowed", w)
	}
}

func (c Capability) validate() error {
	if c == CapAll || c == CapDefault || slices.Contains(capabilities(), c) {
		return nil
	}
	if bare, ok := strings.CutPrefix(string(c), "CAP_"); ok {
		return fmt.Errorf("%.80q is written without CAP_: %s", c, bare)
	}
	var names []string
	for _, k := range capabilities() {
		names = append(names, string(k))
	}
	if best := Nearest(string(c), names); best != "" {
		return fmt.Errorf("%.80q is no capability; did you mean %q?", c, best)
	}
	return fmt.Errorf("%.80q is no capability; write one such as CHOWN (man 7 capabilities)", c)
}

func (u Ulimit) validate() error {
	known := []string{"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack"}
	switch {
	case !slices.Contains(known, u.Name):
		return fmt.Errorf("%.40q is no limit; write one of %s", u.Name, strings.Join(known, ", "))
	case u.Soft < -1 || u.Hard < -1:
		return fmt.Errorf("a limit is -1 (none) or more")
	case u.Hard > 0 && (u.Soft > u.Hard || u.Soft == -1):
		return fmt.Errorf("soft is %d, which is above hard, %d", u.Soft, u.Hard)
	}
	return nil
}

// sysctl takes only settings that a namespace has of its own; others are the host's, for all.
func sysctl(key, value string) error {
	if !sysctlName.MatchString(key) {
		return fmt.Errorf("%.80q is no kernel setting; write one such as net.core.somaxconn", key)
	}
	own := []string{"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"}
	if !slices.Contains(own, key) && !strings.HasPrefix(key, "fs.mqueue.") && !strings.HasPrefix(key, "net.") {
		return fmt.Errorf("%q is a setting of the whole host, no container has one of its own; those of net., fs.mqueue. and %s can be set", key, strings.Join(own, ", "))
	}
	return plainText(value)
}

// engineLabel refuses the labels by which we know our containers.
func engineLabel(k string) error {
	switch {
	case k == "" || len(k) > 255:
		return fmt.Errorf("a label of 1 to 255 bytes is needed")
	case strings.HasPrefix(k, "dev.gearmesh."):
		return fmt.Errorf("%.80q: labels of dev.gearmesh. are set by Gearmesh", k)
	}
	return plainText(k)
}

// cpuList reads "0-1,3"; empty is all.
func cpuList(s string) error {
	if s == "" {
		return nil
	}
	for part := range strings.SplitSeq(s, ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		a, err1 := strconv.ParseUint(first, 10, 13)
		b, err2 := strconv.ParseUint(last, 10, 13)
		if err1 != nil || err2 != nil || a > b {
			return fmt.Errorf("%.80q is no list of numbers; write one such as 0-1,3", s)
		}
	}
	return nil
}

var (
	profileName  = newPattern(`^[A-Za-z0-9][A-Za-z0-9_./-]{0,127}$`)
	deviceAccess = newPattern(`^[rwm]{1,3}$`)
	deviceRule   = newPattern(`^[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}$`)
	gpuName      = newPattern(`^[A-Za-z0-9-]{1,64}$`)
	groupName    = newPattern(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$`)
	fileMode     = newPattern(`^[01]?[0-7]{3}$`)
	sysctlName   = newPattern(`^[a-z]+(\.[A-Za-z0-9_-]+)+$`)
	wordName     = newPattern(`^[A-Za-z0-9_.-]{1,64}$`)
)

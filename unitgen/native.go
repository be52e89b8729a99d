package unitgen

import (
	"gearmesh.dev/api"
)

// Where the host keeps what a native container needs; package podstate has the same paths.
const (
	podsDir       = "/var/lib/gear/pods/"
	runPodsDir    = "/run/gear/pods/"
	linksMount    = "/run/gearmesh"
	namespacesDir = "/run/netns/gear-"
	runtimeDir    = "gear-native/" // below /run
)

// native writes the service of a program of the host. systemd itself looks after it: nothing of ours stands between
// them. Its command line and environment gear-run reads from a file that is the program's user's alone (in
// RuntimeDirectory=, where native-wait has put it), and then becomes the program; so no text of a user is in the
// unit but the name of a user.
//
// The commands around it run as root and outside the sandbox: they wait for the program's turn and
// back-off, ask whether it is ready, and keep its state.
func (r *renderer) native(p *printer, c api.Container) {
	m := r.pod.Metadata
	id := string(m.UID) + "/" + string(c.Name)
	p.section("Service")
	p.word("Type", "exec")
	p.word("RuntimeDirectory", runtimeDir+string(m.UID)+"-"+string(c.Name)) // both are names of checked grammar
	p.word("RuntimeDirectoryMode", "0500")
	p.privileged("ExecStartPre", Runner, "native-wait", id)
	p.command("ExecStart", Runner, "native", id)
	p.privileged("ExecStartPost", Runner, "native-ready", id)
	p.privileged("ExecStop", Runner, "native-stop", id)
	p.privileged("ExecStopPost", Runner, "native-ended", id)
	p.word("Restart", "always")
	// The back-off lives in gear-run, which remembers; without a network not even that can be asked.
	p.word("RestartSec", "250ms")
	p.word("TimeoutStartSec", "infinity")
	p.span("TimeoutStopSec", grace(c))
	if c.StopSignal != "" {
		p.signal("KillSignal", c.StopSignal)
	}
	p.units("Slice", PodSlice(m.Project, m.Name))
	if c.Resources.CPU > 0 {
		p.percent("CPUQuota", c.Resources.CPU)
	}
	if c.Resources.Memory > 0 {
		p.bytes("MemoryMax", c.Resources.Memory)
	}
	p.number("TasksMax", TasksPerContainer)
	r.journal(p, c.Name)
	r.inPod(p)
	sandbox(p, c.Native.User)
}

// inPod puts a program into the pod's network, with the pod's names and the socket of its links.
func (r *renderer) inPod(p *printer) {
	uid := string(r.pod.Metadata.UID)
	p.path("NetworkNamespacePath", namespacesDir+uid)
	for _, name := range []string{"hosts", "resolv.conf"} {
		p.path("BindReadOnlyPaths", podsDir+uid+"/"+name+":/etc/"+name)
	}
	// native-wait makes it; systemd mounts for that command too, and for each anew.
	p.pathIfThere("BindReadOnlyPaths", runPodsDir+uid+"/links:"+linksMount)
}

// sandbox takes from a program of the host what a container would not have (systemd.exec(5)). Its own /tmp
// and what it listens on are all that it has.
func sandbox(p *printer, user string) {
	if user == "" {
		p.yes("DynamicUser")
	} else {
		p.user("User", user)
	}
	p.word("CapabilityBoundingSet", "CAP_NET_BIND_SERVICE")
	p.word("AmbientCapabilities", "CAP_NET_BIND_SERVICE")
	for _, key := range []string{"NoNewPrivileges", "PrivateTmp", "PrivateDevices", "PrivateIPC", "ProtectHome", "ProtectClock",
		"ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables",
		"LockPersonality", "RemoveIPC", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID"} {
		p.yes(key)
	}
	p.word("ProtectSystem", "strict")
	p.word("ProtectProc", "invisible")
	p.word("InaccessiblePaths", "-/var/lib/gear -/run/gear -/run/docker.sock -/run/containerd -/var/lib/docker")
	p.word("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6")
	p.word("SystemCallArchitectures", "native")
	p.word("SystemCallFilter", "@system-service")
	p.word("SystemCallErrorNumber", "EPERM")
	p.word("UMask", "0077")
}

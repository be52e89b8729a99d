package api

import (
	"reflect"
	"strings"
	"testing"
)

func TestOptionsRefused(t *testing.T) {
	tests := map[string]struct {
		o    ContainerOptions
		want string
	}{
		"capability with CAP_": {ContainerOptions{CapAdd: []Capability{"CAP_CHOWN"}}, "without CAP_: CHOWN"},
		"a typing error":       {ContainerOptions{CapDrop: []Capability{"CHOWM"}}, `did you mean "CHOWN"?`},
		"seccomp":              {ContainerOptions{Seccomp: "mine"}, "default or unconfined"},
		"apparmor":             {ContainerOptions{AppArmor: "a,b=c"}, "is no profile"},
		"device":               {ContainerOptions{Devices: []Device{{Device: "../dev"}}}, "devices[0].device"},
		"device's access":      {ContainerOptions{Devices: []Device{{Device: "/dev/a", Access: "x"}}}, "some of r, w and m"},
		"device rule":          {ContainerOptions{DeviceRules: []string{"a *:* rwm\n"}}, "is no rule"},
		"gpu":                  {ContainerOptions{GPUs: []string{"a b"}}, "is no GPU"},
		"limit":                {ContainerOptions{Ulimits: []Ulimit{{Name: "files"}}}, "nofile"},
		"limits crossed":       {ContainerOptions{Ulimits: []Ulimit{{Name: "core", Soft: 2, Hard: 1}}}, "above hard"},
		"twice a limit":        {ContainerOptions{Ulimits: []Ulimit{{Name: "core"}, {Name: "core"}}}, "already"},
		"the host's sysctl":    {ContainerOptions{Sysctls: map[string]string{"vm.swappiness": "1"}}, "whole host"},
		"climbing sysctl":      {ContainerOptions{Sysctls: map[string]string{"net.a/../../b": "1"}}, "is no kernel setting"},
		"tmpfs":                {ContainerOptions{Tmpfs: []Tmpfs{{Path: "/a,exec"}}}, "comma"},
		"tmpfs's mode":         {ContainerOptions{Tmpfs: []Tmpfs{{Path: "/a", Mode: "999"}}}, "octal"},
		"host path":            {ContainerOptions{HostPaths: []HostPath{{HostPath: "srv", Path: "/a"}}}, "absolute"},
		"propagation":          {ContainerOptions{HostPaths: []HostPath{{HostPath: "/srv", Path: "/a", Propagation: "r"}}}, "private, slave or shared"},
		"our label":            {ContainerOptions{Labels: map[string]string{"dev.gearmesh.uid": "x"}}, "set by Gearmesh"},
		"group":                {ContainerOptions{Groups: []string{"a b"}}, "is no group"},
		"oomScore":             {ContainerOptions{OOMScore: 1001}, "-1000 to 1000"},
		"pids":                 {ContainerOptions{Pids: -1}, "1 to"},
		"cpuset":               {ContainerOptions{CPUSet: "3-1"}, "0-1,3"},
		"storage":              {ContainerOptions{StorageDriver: map[string]string{"a=b": "x"}}, "is no option"},
	}
	for name, tt := range tests {
		var f faults
		f.options("c", &tt.o)
		if len(f) != 1 || !strings.Contains(f[0].String(), tt.want) {
			t.Errorf("%s: got %v, want one fault with %q", name, f, tt.want)
		}
	}
}

func TestOptionsAllowed(t *testing.T) {
	o := ContainerOptions{CapAdd: []Capability{CapDefault, "SYS_ADMIN"}, CapDrop: []Capability{CapAll}, Seccomp: ProfileDefault, AppArmor: "docker-default",
		Devices: []Device{{Device: "/dev/fuse", Access: "rw"}}, DeviceRules: []string{"c 13:* rmw"}, GPUs: []string{"all"},
		Ulimits: []Ulimit{{Name: "nofile", Soft: 1, Hard: 2}, {Name: "core", Soft: -1}}, Sysctls: map[string]string{"net.core.somaxconn": "1024"},
		Tmpfs: []Tmpfs{{Path: "/tmp", Mode: "1777"}}, HostPaths: []HostPath{{HostPath: "/", Path: "/host"}}, Groups: []string{"20", "audio"}, CPUSet: "0-1,3"}
	var f faults
	if f.options("c", &o); len(f) > 0 {
		t.Error(f)
	}
}

func template(o ContainerOptions) *PodTemplate {
	return &PodTemplate{Containers: []Container{{ContainerOptions: o}}}
}

func TestPolicies(t *testing.T) {
	tests := map[string]struct {
		o    ContainerOptions
		want Policy // the strictest that allows it
	}{
		"nothing":         {ContainerOptions{}, PolicyRestricted},
		"its own port":    {ContainerOptions{CapAdd: []Capability{"NET_BIND_SERVICE"}}, PolicyRestricted},
		"stricter":        {ContainerOptions{CapDrop: []Capability{CapAll}, ReadOnlyRoot: true, Pids: 10, OOMScore: 500}, PolicyRestricted},
		"memory":          {ContainerOptions{Tmpfs: []Tmpfs{{Path: "/tmp"}}, ShmSize: 1 << 20, Init: true}, PolicyRestricted},
		"docker's":        {ContainerOptions{CapAdd: []Capability{CapDefault, "CHOWN"}}, PolicyBaseline},
		"setuid":          {ContainerOptions{Escalation: true}, PolicyBaseline},
		"sysctl":          {ContainerOptions{Sysctls: map[string]string{"net.core.somaxconn": "9"}}, PolicyBaseline},
		"routing":         {ContainerOptions{Sysctls: map[string]string{"net.ipv4.conf.all.route_localnet": "0"}}, PolicyPrivileged},
		"many processes":  {ContainerOptions{Pids: DefaultPids + 1}, PolicyBaseline},
		"a limit":         {ContainerOptions{Ulimits: []Ulimit{{Name: "nofile"}}}, PolicyBaseline},
		"swap":            {ContainerOptions{Swap: 1}, PolicyBaseline},
		"cpus":            {ContainerOptions{CPUSet: "0"}, PolicyBaseline},
		"an admin's":      {ContainerOptions{CapAdd: []Capability{"SYS_ADMIN"}}, PolicyPrivileged},
		"all":             {ContainerOptions{CapAdd: []Capability{CapAll}}, PolicyPrivileged},
		"privileged":      {ContainerOptions{Privileged: true}, PolicyPrivileged},
		"no seccomp":      {ContainerOptions{Seccomp: ProfileUnconfined}, PolicyPrivileged},
		"docker's socket": {ContainerOptions{HostPaths: []HostPath{{HostPath: "/run/docker.sock", Path: "/s"}}}, PolicyPrivileged},
		"device":          {ContainerOptions{Devices: []Device{{Device: "/dev/kmsg"}}}, PolicyPrivileged},
		"pids":            {ContainerOptions{HostPID: true}, PolicyPrivileged},
		"spared":          {ContainerOptions{OOMScore: -1}, PolicyPrivileged},
	}
	for name, tt := range tests {
		for _, p := range Policies() {
			refused := p.Refuses("spec", template(tt.o))
			if p.Covers(tt.want) != (len(refused) == 0) {
				t.Errorf("%s under %s: %v, want %s to be the strictest that allows it", name, p, refused, tt.want)
			}
			for _, f := range refused {
				if !strings.HasPrefix(f.Field, "spec.containers[0].") || !strings.Contains(f.Message, `policy "`+string(tt.want)+`" allows it`) {
					t.Errorf("%s: %v", name, f)
				}
			}
		}
	}
}

// An option that is neither in the policy's table nor here has been forgotten.
func TestPoliciesKnowEveryOption(t *testing.T) {
	known := map[string]bool{"capDrop": true, "tmpfs": true, "readOnlyRoot": true, "labels": true, "init": true, "groups": true, "shmSize": true}
	for _, r := range containerRules() {
		known[r.field] = true
	}
	for f := range reflect.TypeFor[ContainerOptions]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !known[name] {
			t.Errorf("no policy speaks of %s", name)
		}
	}
}

func TestPolicyOrder(t *testing.T) {
	if !PolicyPrivileged.Covers("") || Policy("").Covers(PolicyBaseline) || Policy("x").Covers("") || PolicyPrivileged.Covers("x") {
		t.Error("the order of policies is wrong, or an unknown one allows something")
	}
	if err := Policy("root").Validate(); err == nil {
		t.Error("an unknown policy was taken")
	}
}

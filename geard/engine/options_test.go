package engine

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/docker/docker/api/types/container"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/golden"
)

// everything is a container that chooses each option.
func everything() api.ContainerOptions {
	return api.ContainerOptions{
		CapAdd: []api.Capability{api.CapDefault, "SYS_TIME"}, CapDrop: []api.Capability{"NET_RAW"}, Escalation: true,
		Privileged: true, Seccomp: api.ProfileUnconfined, AppArmor: "mine",
		Devices: []api.Device{{Device: "/dev/fuse"}, {Device: "/dev/a", Path: "/dev/b", Access: "rwm"}}, DeviceRules: []string{"c 13:* rmw"},
		GPUs: []string{"all"}, Ulimits: []api.Ulimit{{Name: "nofile", Soft: 1024}, {Name: "core", Soft: 0, Hard: -1}},
		Sysctls:      map[string]string{"kernel.msgmax": "9", "net.core.somaxconn": "9"},
		Tmpfs:        []api.Tmpfs{{Path: "/tmp"}, {Path: "/x", Size: 1 << 20, Mode: "0700", Exec: true}},
		HostPaths:    []api.HostPath{{HostPath: "/srv", Path: "/srv", ReadOnly: true}, {HostPath: "/", Path: "/host", Propagation: api.PropagateSlave}},
		ReadOnlyRoot: true, Init: true, Groups: []string{"audio", "20"}, ShmSize: 1 << 20, OOMScore: -5, Pids: 7,
		CPUSet: "0-1", MemorySet: "0", Swap: 1 << 20, HostPID: true, HostIPC: true, HostCgroup: true, StorageDriver: map[string]string{"size": "1G"},
	}
}

func TestOptions(t *testing.T) {
	text, err := json.MarshalIndent(Spec{Name: "x", Image: "y", Memory: 64 << 20, Options: everything()}.hostConfig(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden.Equal(t, "options.json", append(text, '\n'))
}

func TestCapabilities(t *testing.T) {
	type caps = []api.Capability
	tests := map[string]struct {
		add, drop         caps
		wantAdd, wantDrop []string
	}{
		"unasked":           {nil, nil, []string{"NET_BIND_SERVICE"}, []string{"ALL"}},
		"none":              {nil, caps{"ALL"}, nil, []string{"ALL"}},
		"one more":          {caps{"CHOWN"}, nil, []string{"CHOWN", "NET_BIND_SERVICE"}, []string{"ALL"}},
		"one instead":       {caps{"CHOWN"}, caps{"NET_BIND_SERVICE"}, []string{"CHOWN"}, []string{"ALL"}},
		"all but one":       {caps{"ALL"}, caps{"SYS_BOOT"}, []string{"ALL"}, []string{"SYS_BOOT"}},
		"dropped after all": {caps{"KILL"}, caps{"DEFAULT"}, nil, []string{"ALL"}},
	}
	for name, tt := range tests {
		var h container.HostConfig
		capabilities(&h, api.ContainerOptions{CapAdd: tt.add, CapDrop: tt.drop})
		if !slices.Equal(h.CapAdd, tt.wantAdd) || !slices.Equal(h.CapDrop, tt.wantDrop) {
			t.Errorf("%s: add %v, drop %v; want %v, %v", name, h.CapAdd, h.CapDrop, tt.wantAdd, tt.wantDrop)
		}
	}
}

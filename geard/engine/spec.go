package engine

import (
	"maps"
	"slices"
	"time"

	"gearmesh.dev/api"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
)

// LabelPrefix opens every label of ours, on containers and on images.
const LabelPrefix = "dev.gearmesh."

// The labels of a container. They say whose it is and which spec it was made from.
const (
	LabelUID       = LabelPrefix + "uid"
	LabelProject   = LabelPrefix + "project"
	LabelService   = LabelPrefix + "service"
	LabelPod       = LabelPrefix + "pod"
	LabelContainer = LabelPrefix + "container"
	LabelHash      = LabelPrefix + "hash"
)

// Spec is a container to create.
type Spec struct {
	Name     string            // unique on the host: [a-zA-Z0-9][a-zA-Z0-9_.-]+
	Image    string            // reference or id
	Command  []string          // replaces the image's entrypoint when not empty
	Args     []string          // replaces the image's command when not empty
	Env      map[string]string // names as [A-Za-z_][A-Za-z0-9_]*; goes over the socket, never onto a command line
	User     string
	WorkDir  string
	Hostname string
	Labels   map[string]string
	Slice    string // systemd slice that holds the container's scope, such as gear-shop-web.slice
	Mounts   []Mount
	CPU      api.CPU   // 0: no limit
	Memory   api.Bytes // 0: no limit
	// StopSignal and StopGrace are what Stop uses. Empty: the image's signal, else SIGTERM; zero: 10 s.
	StopSignal string
	StopGrace  time.Duration
	// Options is what people chose beyond that. Sysctls of net. are the OCI runtime's to set (package oci).
	Options api.ContainerOptions
}

// Mount is a file or directory of the host in a container.
type Mount struct {
	Source, Target string // absolute paths
	ReadOnly       bool
}

// config is the half of the spec that could run on any host.
func (s Spec) config() *container.Config {
	c := &container.Config{
		Image: s.Image, Entrypoint: s.Command, Cmd: s.Args, Env: environment(s.Env),
		User: s.User, WorkingDir: s.WorkDir, Hostname: s.Hostname, Labels: s.Labels, StopSignal: s.StopSignal,
	}
	if s.StopGrace > 0 {
		seconds := int((s.StopGrace + time.Second - 1) / time.Second)
		c.StopTimeout = &seconds
	}
	return c
}

// hostConfig is the half that is about this host.
func (s Spec) hostConfig() *container.HostConfig {
	h := &container.HostConfig{
		NetworkMode:   "host", // the runtime replaces it by the pod's namespace
		Runtime:       RuntimeName,
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		LogConfig:     container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1m", "max-file": "2"}},
		Mounts:        mounts(s.Mounts),
	}
	h.CgroupParent = s.Slice
	h.Memory = int64(s.Memory)
	h.NanoCPUs = int64(s.CPU) * 1e6
	apply(h, s.Options)
	return h
}

// hostPath binds a path of the host, with all that is mounted below it.
func hostPath(p api.HostPath) mount.Mount {
	m := mount.Mount{Type: mount.TypeBind, Source: p.HostPath, Target: p.Path, ReadOnly: p.ReadOnly, BindOptions: &mount.BindOptions{Propagation: mount.PropagationRPrivate}}
	switch p.Propagation {
	case api.PropagateSlave:
		m.BindOptions.Propagation = mount.PropagationRSlave
	case api.PropagateShared:
		m.BindOptions.Propagation = mount.PropagationRShared
	}
	return m
}

func mounts(ms []Mount) []mount.Mount {
	var out []mount.Mount
	for _, m := range ms {
		out = append(out, mount.Mount{Type: mount.TypeBind, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	return out
}

// environment gives NAME=value, sorted by name.
func environment(env map[string]string) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		out = append(out, k+"="+env[k])
	}
	return out
}

package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"

	"gearmesh.dev/api"
)

// apply puts what people chose into the host's half of a container. What they did not choose is
// as strict as it can be: all capabilities but one dropped, no new privileges, the engine's own profiles.
func apply(h *container.HostConfig, o api.ContainerOptions) {
	capabilities(h, o)
	h.SecurityOpt = securityOptions(o)
	h.Privileged = o.Privileged
	h.ReadonlyRootfs = o.ReadOnlyRoot
	h.GroupAdd = o.Groups
	h.ShmSize = int64(o.ShmSize)
	h.OomScoreAdj = o.OOMScore
	h.Sysctls = engineSysctls(o.Sysctls)
	h.StorageOpt = o.StorageDriver
	h.CpusetCpus, h.CpusetMems = o.CPUSet, o.MemorySet
	if h.Memory > 0 {
		h.MemorySwap = h.Memory + int64(o.Swap)
	}
	pids := int64(api.DefaultPids)
	if o.Pids > 0 {
		pids = int64(o.Pids)
	}
	h.PidsLimit = &pids
	if o.Init {
		h.Init = &o.Init
	}
	hostNamespaces(h, o)
	devices(h, o)
	for _, t := range o.Tmpfs {
		if h.Tmpfs == nil {
			h.Tmpfs = map[string]string{}
		}
		h.Tmpfs[t.Path] = tmpfsOptions(t)
	}
	for _, p := range o.HostPaths {
		h.Mounts = append(h.Mounts, hostPath(p))
	}
	for _, u := range o.Ulimits {
		hard := u.Hard
		if hard == 0 {
			hard = u.Soft
		}
		h.Ulimits = append(h.Ulimits, &container.Ulimit{Name: u.Name, Soft: u.Soft, Hard: hard})
	}
}

// capabilities starts from NET_BIND_SERVICE alone. A container with ALL has all that the engine has.
func capabilities(h *container.HostConfig, o api.ContainerOptions) {
	if slices.Contains(o.CapAdd, api.CapAll) {
		h.CapAdd, h.CapDrop = []string{string(api.CapAll)}, words(o.CapDrop)
		return
	}
	have := map[api.Capability]bool{"NET_BIND_SERVICE": true}
	for _, c := range expand(o.CapAdd) {
		have[c] = true
	}
	for _, c := range expand(o.CapDrop) {
		delete(have, c)
		if c == api.CapAll {
			clear(have)
		}
	}
	h.CapDrop = []string{string(api.CapAll)}
	h.CapAdd = words(slices.Sorted(maps.Keys(have)))
}

func expand(caps []api.Capability) []api.Capability {
	var out []api.Capability
	for _, c := range caps {
		if c == api.CapDefault {
			out = append(out, api.DefaultCapabilities()...)
			continue
		}
		out = append(out, c)
	}
	return out
}

func words[T ~string](list []T) []string {
	var out []string
	for _, v := range list {
		out = append(out, string(v))
	}
	return out
}

func securityOptions(o api.ContainerOptions) []string {
	var out []string
	if !o.Escalation && !o.Privileged {
		out = append(out, "no-new-privileges")
	}
	if o.Seccomp == api.ProfileUnconfined {
		out = append(out, "seccomp=unconfined")
	}
	if o.AppArmor != "" && o.AppArmor != api.ProfileDefault {
		out = append(out, "apparmor="+string(o.AppArmor))
	}
	return out
}

// engineSysctls leaves out those of the network: the engine refuses them, since it takes the container's
// network for the host's. The OCI runtime sets them, in the pod's namespace.
func engineSysctls(all map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range all {
		if !strings.HasPrefix(k, "net.") {
			out[k] = v
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func hostNamespaces(h *container.HostConfig, o api.ContainerOptions) {
	if o.HostPID {
		h.PidMode = "host"
	}
	if o.HostIPC {
		h.IpcMode = container.IPCModeHost
	}
	if o.HostCgroup {
		h.CgroupnsMode = container.CgroupnsModeHost
	}
}

func devices(h *container.HostConfig, o api.ContainerOptions) {
	for _, d := range o.Devices {
		m := container.DeviceMapping{PathOnHost: d.Device, PathInContainer: d.Path, CgroupPermissions: d.Access}
		if m.PathInContainer == "" {
			m.PathInContainer = d.Device
		}
		if m.CgroupPermissions == "" {
			m.CgroupPermissions = "rw"
		}
		h.Devices = append(h.Devices, m)
	}
	h.DeviceCgroupRules = o.DeviceRules
	switch {
	case slices.Contains(o.GPUs, "all"):
		h.DeviceRequests = []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}}
	case len(o.GPUs) > 0:
		h.DeviceRequests = []container.DeviceRequest{{DeviceIDs: o.GPUs, Capabilities: [][]string{{"gpu"}}}}
	}
}

func tmpfsOptions(t api.Tmpfs) string {
	size, mode := t.Size, t.Mode
	if size == 0 {
		size = api.DefaultTmpfsSize
	}
	if mode == "" {
		mode = "1777"
	}
	opts := fmt.Sprintf("size=%d,mode=%s,nosuid,nodev", int64(size), mode)
	if !t.Exec {
		return opts + ",noexec"
	}
	return opts + ",exec"
}

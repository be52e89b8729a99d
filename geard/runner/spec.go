package runner

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/oci"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/geard/secrets"
	"gearmesh.dev/geard/volumes"
)

// ContainerName gives the engine's name of a container: "gear.shop.web-7f3k2.main". Names have no
// dots, so no two containers get the same one.
func ContainerName(project, pod, container api.Name) string {
	return fmt.Sprintf("gear.%s.%s.%s", project, pod, container)
}

// Labels gives the labels of a container of a pod. Two containers with the same uid, container
// and hash are the same one.
func Labels(pod api.Pod, container api.Name) map[string]string {
	return map[string]string{
		engine.LabelUID:       string(pod.Metadata.UID),
		engine.LabelProject:   string(pod.Metadata.Project),
		engine.LabelService:   string(pod.Spec.Service),
		engine.LabelPod:       string(pod.Metadata.Name),
		engine.LabelContainer: string(container),
		engine.LabelHash:      pod.Spec.Hash,
	}
}

// MakeSpec gives the container to create for a pod on this host, in the systemd slice.
func MakeSpec(dirs podstate.Dirs, pod api.Pod, c api.Container, slice string) engine.Spec {
	return engine.Spec{
		Name:       ContainerName(pod.Metadata.Project, pod.Metadata.Name, c.Name),
		Image:      c.Image,
		Command:    c.Command,
		Args:       c.Args,
		Env:        podstate.Environ(pod, c),
		User:       c.User,
		WorkDir:    c.WorkDir,
		Hostname:   string(pod.Metadata.Name),
		Labels:     allLabels(pod, c),
		Slice:      slice,
		Mounts:     mounts(dirs, pod, c),
		CPU:        c.Resources.CPU,
		Memory:     c.Resources.Memory,
		StopSignal: c.StopSignal,
		StopGrace:  c.StopGrace.Std(),
		Options:    c.ContainerOptions,
	}
}

// allLabels adds people's labels to ours, which win.
func allLabels(pod api.Pod, c api.Container) map[string]string {
	all := maps.Clone(c.Labels)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, Labels(pod, c.Name))
	return all
}

// onRecord gives what the OCI runtime puts into a container's bundle.
func onRecord(dirs podstate.Dirs, pod api.Pod, c api.Container) oci.Record {
	r := oci.Record{Namespace: dirs.Namespace(pod.Metadata.UID), Env: secrets.EnvFile(dirs, pod.Metadata.UID, c)}
	if pod.Spec.Template.ShareProcesses {
		r.Pids = dirs.Pids(pod.Metadata.UID)
	}
	for k, v := range c.Sysctls {
		if strings.HasPrefix(k, "net.") {
			if r.Sysctls == nil {
				r.Sysctls = map[string]string{}
			}
			r.Sysctls[k] = v
		}
	}
	return r
}

// mounts gives the pod's own name files and the directory of its links' socket, read-only, then its volumes.
func mounts(dirs podstate.Dirs, pod api.Pod, c api.Container) []engine.Mount {
	var out []engine.Mount
	for _, name := range podstate.Mounted(pod) {
		out = append(out, engine.Mount{Source: filepath.Join(dirs.Pod(pod.Metadata.UID), name), Target: "/etc/" + name, ReadOnly: true})
	}
	out = append(out, engine.Mount{Source: dirs.Links(pod.Metadata.UID), Target: podstate.LinksMount, ReadOnly: true})
	for _, m := range c.Mounts {
		dir, _ := volumes.Of(dirs, pod, m.Volume) // ensureVolumes has found it
		out = append(out, engine.Mount{Source: dir, Target: m.Path, ReadOnly: m.ReadOnly})
	}
	for _, m := range secrets.Mounts(dirs, pod.Metadata.UID, c) {
		out = append(out, engine.Mount{Source: m[0], Target: m[1], ReadOnly: true})
	}
	return out
}

// container finds a container of a pod, and tells whether it is an init container.
func container(pod api.Pod, name api.Name) (c api.Container, init bool, err error) {
	for i, c := range pod.Spec.Template.All() {
		if c.Name == name {
			return c, i < len(pod.Spec.Template.InitContainers), nil
		}
	}
	return api.Container{}, false, fmt.Errorf("pod %s/%s has no container %q", pod.Metadata.Project, pod.Metadata.Name, name)
}

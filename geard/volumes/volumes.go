// Package volumes knows where the volumes of pods are on a host, makes them and takes them away.
//
//	STATE/volumes/PROJECT/SERVICE/VOLUME   of the default class
//	CLASSDIR/PROJECT/SERVICE/VOLUME        of a class that the host's operator has named (--volume-class)
//	RUN/volumes/UID/VOLUME                 in memory: a tmpfs of the pod's own
//
// A pod with an identity has volumes of its own, VOLUME.ORDINAL in place of VOLUME. No name has a dot.
//
// Where a pod's volumes are is decided once, when the pod arrives, and kept in STATE/pods/UID/volumes.json: when the
// operator moves a class, no pod finds its volume empty.
package volumes

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/internal/atomicfile"
)

// Classes gives the directory of each class of a host. The default class is in Dirs and not among them.
type Classes map[api.Name]string

// ParseClasses reads NAME=DIR,NAME=DIR.
func ParseClasses(list string) (Classes, error) {
	out := Classes{}
	for word := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' }) {
		name, dir, ok := strings.Cut(word, "=")
		if err := api.Name(name).Validate(); err != nil || !ok || !filepath.IsAbs(dir) || filepath.Clean(dir) != dir || dir == "/" {
			return nil, fmt.Errorf("%q is no volume class; write NAME=DIRECTORY, such as fast=/mnt/fast", word)
		}
		out[api.Name(name)] = dir
	}
	return out, nil
}

func file(dirs podstate.Dirs, uid api.UID) string {
	return filepath.Join(dirs.Pod(uid), "volumes.json")
}

// Save decides where a pod's volumes are and keeps it. The error names a class that the host lacks.
func (c Classes) Save(dirs podstate.Dirs, pod api.Pod) error {
	paths := map[api.Name]string{}
	for _, v := range pod.Spec.Template.Volumes {
		if v.Class == "" {
			continue
		}
		dir, ok := c[v.Class]
		if !ok {
			return fmt.Errorf("volume %q: this host has no volume class %q, it has %s; its operator adds one with --volume-class %s=DIRECTORY in GEAR_AGENT_FLAGS of /etc/gear/agent.env",
				v.Name, v.Class, c.names(), v.Class)
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return fmt.Errorf("volume %q: the directory %q of class %q is not there; is its disk mounted?", v.Name, dir, v.Class)
		}
		paths[v.Name] = filepath.Join(dir, string(pod.Metadata.Project), string(pod.Spec.Service), base(pod, v))
	}
	if len(paths) == 0 {
		return nil
	}
	if err := os.MkdirAll(dirs.Pod(pod.Metadata.UID), 0o755); err != nil {
		return fmt.Errorf("keeping where volumes are: %w", err)
	}
	return atomicfile.WriteJSON(file(dirs, pod.Metadata.UID), paths, 0o644)
}

func (c Classes) names() string {
	if len(c) == 0 {
		return "only the default one"
	}
	var out []string
	for _, n := range slices.Sorted(maps.Keys(c)) {
		out = append(out, string(n))
	}
	return strings.Join(out, ", ") + " and the default one"
}

// Path gives where a volume of a pod is.
func Path(dirs podstate.Dirs, pod api.Pod, v api.Volume) (string, error) {
	switch {
	case v.Tmpfs:
		return filepath.Join(memory(dirs, pod.Metadata.UID), string(v.Name)), nil
	case v.Class == "":
		return filepath.Join(dirs.Volumes(pod.Metadata.Project, pod.Spec.Service), base(pod, v)), nil
	}
	data, err := os.ReadFile(file(dirs, pod.Metadata.UID))
	if err != nil {
		return "", fmt.Errorf("finding volume %q: %w", v.Name, err)
	}
	var paths map[api.Name]string
	if err := json.Unmarshal(data, &paths); err != nil {
		return "", fmt.Errorf("finding volume %q in %q: %w", v.Name, file(dirs, pod.Metadata.UID), err)
	}
	if !filepath.IsAbs(paths[v.Name]) {
		return "", fmt.Errorf("finding volume %q: %q does not say where it is", v.Name, file(dirs, pod.Metadata.UID))
	}
	return paths[v.Name], nil
}

// base gives the last part of a volume's path.
func base(pod api.Pod, v api.Volume) string {
	if n := pod.Spec.Ordinal; n != nil {
		return fmt.Sprintf("%s.%d", v.Name, *n)
	}
	return string(v.Name)
}

// Shared tells whether two pods of a host have the same volumes: those of one service, or of one identity of it.
func Shared(a, b api.Pod) bool {
	return a.Metadata.Project == b.Metadata.Project && a.Spec.Service == b.Spec.Service && base(a, api.Volume{}) == base(b, api.Volume{})
}

// Of gives where the volume of a mount is.
func Of(dirs podstate.Dirs, pod api.Pod, name api.Name) (string, error) {
	for _, v := range pod.Spec.Template.Volumes {
		if v.Name == name {
			return Path(dirs, pod, v)
		}
	}
	return "", fmt.Errorf("pod %s has no volume %q", pod.Metadata.Name, name)
}

// Ensure makes a volume that is not there yet. A class whose disk is not mounted is an error: the
// volume would be made beneath it.
func Ensure(dirs podstate.Dirs, pod api.Pod, name api.Name) (dir string, made bool, err error) {
	if dir, err = Of(dirs, pod, name); err != nil {
		return "", false, err
	}
	if class := filepath.Dir(filepath.Dir(filepath.Dir(dir))); !strings.HasPrefix(dir, dirs.State+"/") && !strings.HasPrefix(dir, dirs.Run+"/") {
		if _, err := os.Stat(class); err != nil {
			return "", false, fmt.Errorf("making volume %q: %w; is its disk mounted?", name, err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", false, fmt.Errorf("making volume %q: %w", name, err)
	}
	err = os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return dir, false, nil
	}
	return dir, err == nil, err
}

// Delete removes the volumes of a pod that its service's deletion takes along.
func Delete(dirs podstate.Dirs, pod api.Pod) error {
	var errs []error
	for _, v := range pod.Spec.Template.Volumes {
		if v.Tmpfs || v.OnDelete != api.VolumeDelete {
			continue
		}
		dir, err := Path(dirs, pod, v)
		if err == nil {
			err = os.RemoveAll(dir)
		}
		if err == nil {
			_ = os.Remove(filepath.Dir(dir)) // the service's directory, when this was its last volume
			_ = os.Remove(filepath.Dir(filepath.Dir(dir)))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func memory(dirs podstate.Dirs, uid api.UID) string {
	return filepath.Join(dirs.Run, "volumes", string(uid))
}

// MountMemory mounts a pod's volumes that are in memory, where they are not. Root only.
func MountMemory(dirs podstate.Dirs, pod api.Pod) error {
	for _, v := range pod.Spec.Template.Volumes {
		if !v.Tmpfs {
			continue
		}
		dir, err := Path(dirs, pod, v)
		if err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
		if err == nil && !mounted(dir) {
			size := v.Size
			if size == 0 {
				size = api.DefaultTmpfsSize
			}
			err = unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=%d,mode=1777", int64(size)))
		}
		if err != nil {
			return fmt.Errorf("making volume %q in memory: %w", v.Name, err)
		}
	}
	return nil
}

// mounted tells whether something is mounted at a directory: then it is on another device than its parent.
func mounted(dir string) bool {
	var own, parent unix.Stat_t
	return unix.Stat(dir, &own) == nil && unix.Stat(filepath.Dir(dir), &parent) == nil && own.Dev != parent.Dev
}

// UnmountMemory takes away whatever a pod has in memory. It needs nothing but the pod's uid.
func UnmountMemory(dirs podstate.Dirs, uid api.UID) error {
	entries, err := os.ReadDir(memory(dirs, uid))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		dir := filepath.Join(memory(dirs, uid), e.Name())
		if mounted(dir) {
			err = errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH))
		}
		err = errors.Join(err, os.Remove(dir))
	}
	return errors.Join(err, os.Remove(memory(dirs, uid)))
}

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// hierarchy is one mounted cgroup hierarchy of the outer machine.
type hierarchy struct {
	Dir     string // where the outer machine has it: /sys/fs/cgroup/memory
	Type    string // cgroup or cgroup2
	Options string // mount options that name it: "memory", "none,name=systemd"; "rw" for v2
	Name    string // directory below the host's /sys/fs/cgroup; "." for pure v2
}

// hierarchies decides from /proc/self/mountinfo (proc(5)) which cgroup
// hierarchies a host gets: one cgroup2 on a pure v2 machine; on a v1 or hybrid
// one each v1 hierarchy, and v2 as "unified". The host's cgroups are direct
// children of each hierarchy's root, as LXC makes them, whether systemd is the
// outer process 1 or not: it leaves cgroups alone that it did not make.
func hierarchies(mountinfo string) ([]hierarchy, error) {
	var v1, v2 []hierarchy
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 || left[3] != "/" {
			continue
		}
		switch right[0] {
		case "cgroup":
			v1 = append(v1, v1Hierarchy(left[4], right[2]))
		case "cgroup2":
			v2 = append(v2, hierarchy{Dir: left[4], Type: "cgroup2", Options: "rw", Name: "unified"})
		}
	}
	v1, v2 = uniqueByName(v1), uniqueByName(v2)
	if len(v1) == 0 && len(v2) == 1 {
		v2[0].Name = "."
		return v2, nil
	}
	if !slices.ContainsFunc(v1, func(h hierarchy) bool { return h.Name == "systemd" }) {
		return nil, errors.New("no cgroup hierarchy for systemd is mounted; mount cgroup2 on /sys/fs/cgroup, or with cgroup v1: " +
			"mkdir /sys/fs/cgroup/systemd && mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd")
	}
	return append(v1, v2...), nil
}

// v1Hierarchy reads the controllers out of a v1 mount's super options, where
// they stand among flags such as rw and xattr.
func v1Hierarchy(dir, options string) hierarchy {
	var controllers []string
	for o := range strings.SplitSeq(options, ",") {
		if name, ok := strings.CutPrefix(o, "name="); ok {
			return hierarchy{Dir: dir, Type: "cgroup", Options: "none,name=" + name, Name: name}
		}
		switch {
		case strings.Contains(o, "="), o == "rw", o == "ro", o == "xattr", o == "noprefix", o == "clone_children",
			o == "cpuset_v2_mode", o == "favordynmods", o == "none":
		default:
			controllers = append(controllers, o)
		}
	}
	joined := strings.Join(controllers, ",")
	return hierarchy{Dir: dir, Type: "cgroup", Options: joined, Name: joined}
}

// uniqueByName keeps the first mount of each hierarchy.
func uniqueByName(hs []hierarchy) []hierarchy {
	seen := map[string]bool{}
	return slices.DeleteFunc(hs, func(h hierarchy) bool {
		dup := seen[h.Name]
		seen[h.Name] = true
		return dup
	})
}

func ownHierarchies() ([]hierarchy, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("looking for cgroups: %w", err)
	}
	return hierarchies(string(text))
}

// makeCgroups makes the cgroup called scope in every hierarchy.
func makeCgroups(hs []hierarchy, scope string) error {
	for _, h := range hs {
		dir := filepath.Join(h.Dir, scope)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("making cgroup: %w", err)
		}
		if err := prepareCgroup(h, dir); err != nil {
			return fmt.Errorf("preparing cgroup %q: %w", dir, err)
		}
	}
	return nil
}

// prepareCgroup makes a fresh cgroup usable. A v1 cpuset without CPUs takes no
// process (cpuset(7)); a v2 child has the controllers its parent hands down.
func prepareCgroup(h hierarchy, dir string) error {
	if h.Name == "." {
		return handDown(h.Dir)
	}
	if h.Type != "cgroup" || !slices.Contains(strings.Split(h.Options, ","), "cpuset") {
		return nil
	}
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(h.Dir, file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), value, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// handDown enables every controller of a v2 cgroup for its children. One at a
// time, since a controller may be busy elsewhere: the host then lacks only it.
func handDown(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, c := range strings.Fields(string(text)) {
		err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0o644)
		if err != nil && !errors.Is(err, syscall.EBUSY) && !errors.Is(err, syscall.EINVAL) {
			return err
		}
	}
	return nil
}

// cgroupPIDs lists the processes in the cgroup called scope and below.
func cgroupPIDs(hs []hierarchy, scope string) []int {
	var pids []int
	for _, h := range hs {
		for _, dir := range cgroupTree(filepath.Join(h.Dir, scope)) {
			text, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
			for _, field := range strings.Fields(string(text)) {
				if pid, err := strconv.Atoi(field); err == nil {
					pids = append(pids, pid)
				}
			}
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

// cgroupTree lists dir and the directories below it, parents first.
func cgroupTree(dir string) []string {
	var dirs []string
	// Cgroups vanish while we walk: what cannot be read is gone.
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir
		}
		if d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	return dirs
}

// removeCgroups removes the cgroup called scope everywhere. A cgroup whose last
// process just died stays busy for a moment.
func removeCgroups(ctx context.Context, hs []hierarchy, scope string) error {
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	for _, h := range hs {
		dirs := cgroupTree(filepath.Join(h.Dir, scope))
		slices.Reverse(dirs)
		for _, dir := range dirs {
			for err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist); err = os.Remove(dir) {
				if pause(ctx, 10*time.Millisecond) != nil {
					return fmt.Errorf("removing cgroup: %w", err)
				}
			}
		}
	}
	return nil
}

// cgroupScopes lists the top-level cgroups whose names begin with prefix.
func cgroupScopes(hs []hierarchy, prefix string) []string {
	var scopes []string
	for _, h := range hs {
		found, _ := filepath.Glob(filepath.Join(h.Dir, prefix+"*"))
		for _, dir := range found {
			scopes = append(scopes, filepath.Base(dir))
		}
	}
	return scopes
}

package podnet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

// adoptNamespace gives the namespace that a pod's containers run in its name again, when somebody has unmounted it: a
// new one under that name would have the pod's rules, and no container in it. It does nothing for a pod of which nothing runs.
func adoptNamespace(dirs podstate.Dirs, uid api.UID) error {
	file := dirs.Namespace(uid)
	if isNamespace(file) {
		return nil
	}
	pid := processOf(runningIDs(dirs, uid))
	if pid == "" {
		return nil
	}
	if err := shareDir(filepath.Dir(file)); err != nil {
		return fmt.Errorf("naming network namespace %q: %w", file, err)
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("naming network namespace: %w", err)
	}
	f.Close()
	if err := unix.Mount("/proc/"+pid+"/ns/net", file, "none", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("naming the network namespace of process %s %q: %w", pid, file, err)
	}
	return nil
}

// runningIDs gives the engine's ids of a pod's containers that were running when their gear-run last said so.
func runningIDs(dirs podstate.Dirs, uid api.UID) []string {
	pod, err := dirs.LoadPod(uid)
	if err != nil {
		return nil
	}
	var ids []string
	for _, c := range pod.Spec.Template.All() {
		if s, err := dirs.LoadRun(uid, c.Name); err == nil && s.State == api.RunRunning && s.ID != "" {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// processOf finds a process of one of the containers by its cgroup, which carries the engine's id; "" when there is none.
func processOf(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return ""
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		for _, id := range ids {
			if strings.Contains(string(text), id) {
				return filepath.Base(filepath.Dir(file))
			}
		}
	}
	return ""
}

package podnet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

// PidsUp makes the pid namespace that the containers of a pod share, mounts it on file, and gives the host's id of
// its process 1: self, run again with the argument initArg, which must call Reap. That process belongs to no
// container, so each of them may end and start again without the others; when it ends itself, the kernel ends
// all of them, and a new namespace is made.
func PidsUp(dirs podstate.Dirs, uid api.UID, self, initArg string) (pid int, err error) {
	if err := uid.Validate(); err != nil {
		return 0, fmt.Errorf("pid namespace: %w", err)
	}
	file := dirs.Pids(uid)
	if err := PidsDown(dirs, uid); err != nil {
		return 0, err // one whose process 1 is gone can never be entered again
	}
	if err := shareDir(filepath.Dir(file)); err != nil {
		return 0, fmt.Errorf("making pid namespace %q: %w", file, err)
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return 0, fmt.Errorf("making pid namespace: %w", err)
	}
	f.Close()
	cmd := exec.Command(self, initArg, string(uid)) // not CommandContext: it outlives this process
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("making pid namespace %q: %w", file, err)
	}
	if err := unix.Mount(fmt.Sprintf("/proc/%d/ns/pid", cmd.Process.Pid), file, "none", unix.MS_BIND, ""); err != nil {
		return 0, errors.Join(fmt.Errorf("mounting pid namespace %q: %w", file, err), cmd.Process.Kill(), cmd.Wait())
	}
	return cmd.Process.Pid, nil
}

// PidsDown removes a pod's pid namespace. Its process 1 is its unit's to end.
func PidsDown(dirs podstate.Dirs, uid api.UID) error {
	if err := uid.Validate(); err != nil {
		return fmt.Errorf("pid namespace: %w", err)
	}
	return removeNamespace(dirs.Pids(uid))
}

// Reap is process 1 of a pid namespace until ctx ends: it takes the exit of every process that its
// parent has left (pid_namespaces(7)).
func Reap(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	defer signal.Stop(ended)
	for {
		for {
			if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); pid <= 0 && !errors.Is(err, unix.EINTR) {
				break
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ended:
		}
	}
}

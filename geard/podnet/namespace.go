package podnet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// threadNetNS is the calling thread's own network namespace (proc(5)).
const threadNetNS = "/proc/thread-self/ns/net"

// onThread runs f on a thread of its own, which is thrown away: whatever namespace f leaves it
// in, no other goroutine ever runs there.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}

// within runs f in the network namespace behind file. /proc/sys/net is that namespace's too.
func within(file string, f func() error) error {
	ns, err := open(file)
	if err != nil {
		return err
	}
	defer ns.Close()
	return onThread(func() error {
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("entering network namespace %q: %w", file, err)
		}
		return f()
	})
}

// ensureNamespace makes a named network namespace as ip-netns(8) does: a bind mount of a new
// namespace on a file. It tells whether it had to.
func ensureNamespace(file string) (made bool, err error) {
	if isNamespace(file) {
		return false, nil
	}
	if err := shareDir(filepath.Dir(file)); err != nil {
		return false, fmt.Errorf("making network namespace %q: %w", file, err)
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return false, fmt.Errorf("making network namespace: %w", err)
	}
	f.Close()
	return true, onThread(func() error { return mountNewNamespace(file) })
}

// mountNewNamespace moves the calling thread into a new network namespace and mounts that on file.
func mountNewNamespace(file string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("making network namespace %q: %w", file, err)
	}
	if err := unix.Mount(threadNetNS, file, "none", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting network namespace %q: %w", file, err)
	}
	return nil
}

// isNamespace tells whether file is a mounted namespace, not the plain file that one is mounted on.
func isNamespace(file string) bool {
	var st unix.Statfs_t
	return unix.Statfs(file, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// shareDir makes the directory of namespaces a shared mount, so that one made or removed here is
// made or removed in every other mount namespace too; otherwise a namespace outlives its
// removal in some service's private view.
func shareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err := unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	// EINVAL: not a mount point yet. Make it one, of itself.
	if err := unix.Mount(dir, dir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return unix.Mount("", dir, "none", unix.MS_SHARED|unix.MS_REC, "")
}

// removeNamespace unmounts and removes a named namespace. The kernel frees it, with all that is in it, when
// the last process has left.
func removeNamespace(file string) error {
	for isNamespace(file) {
		if err := unix.Unmount(file, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmounting network namespace %q: %w", file, err)
		}
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing network namespace: %w", err)
	}
	return nil
}

package hostexec

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// startIn calls start on a thread that has entered the network namespace file.
// A child inherits the namespaces of the thread that forked it (clone(2)), so
// only the child moves. The thread is thrown away afterwards: its goroutine
// ends while locked to it, and so no other goroutine can ever run in there.
func startIn(file string, start func() error) error {
	if file == "" {
		return start()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := enterNetNS(file); err != nil {
			done <- err
			return
		}
		done <- start()
	}()
	return <-done
}

// enterNetNS moves the calling thread into the namespace behind file.
func enterNetNS(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("opening network namespace: %w", err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering network namespace %q: %w", file, err)
	}
	return nil
}

package runner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// DialIn connects from inside the network namespace behind file. A socket belongs to the
// namespace of the thread that made it, for ever, so the thread goes in for that moment only.
func DialIn(ctx context.Context, file, address string) (net.Conn, error) {
	inside, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("opening the pod's network: %w", err)
	}
	defer inside.Close()
	outside, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("opening the host's network: %w", err)
	}
	defer outside.Close()
	runtime.LockOSThread()
	if err := unix.Setns(int(inside.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("entering the pod's network: %w", err)
	}
	// An address of one family and no name: Dial makes the socket on this very thread.
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", address)
	if back := unix.Setns(int(outside.Fd()), unix.CLONE_NEWNET); back != nil {
		// The thread stays locked to this goroutine, so that no other one is moved.
		return nil, errors.Join(err, fmt.Errorf("leaving the pod's network: %w", back))
	}
	runtime.UnlockOSThread()
	return conn, err
}

package geard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// listenKicks wakes the reconciler for each datagram on RUN/kick.sock: gear-run sends one when a
// container's state has changed. Losing one costs at most a period.
func (a *Agent) listenKicks(ctx context.Context) error {
	path := filepath.Join(a.cfg.Dirs.Run, "kick.sock")
	if err := os.MkdirAll(a.cfg.Dirs.Run, 0o755); err != nil {
		return fmt.Errorf("listening for kicks: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("listening for kicks: %w", err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("listening for kicks: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	for buf := make([]byte, 16); ; {
		if _, _, err := conn.ReadFromUnix(buf); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("listening for kicks: %w", err)
		}
		a.reconcileKick.Wake()
	}
}

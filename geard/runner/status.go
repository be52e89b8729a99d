package runner

import (
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

// keeper keeps a container's state on disk for the agent, and shows it to systemd.
type keeper struct {
	dirs   podstate.Dirs
	uid    api.UID
	notify func(state string)
	log    *slog.Logger

	mu     sync.Mutex
	status api.ContainerStatus
}

// set changes the state; when that made a difference it is saved, and the agent told.
func (k *keeper) set(change func(*api.ContainerStatus)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := k.status
	change(&next)
	if next == k.status {
		return
	}
	k.status = next
	if err := k.dirs.SaveRun(k.uid, next.Name, next); err != nil {
		// The container is more important than its report: a full disk must not stop it.
		k.log.Error("the state of the container could not be saved", "error", err)
	}
	k.notify("STATUS=" + headline(next))
	kick(filepath.Join(k.dirs.Run, "kick.sock"))
}

// get gives the state.
func (k *keeper) get() api.ContainerStatus {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status
}

// headline says the state in one line, for systemctl status.
func headline(s api.ContainerStatus) string {
	line := string(s.State)
	switch {
	case s.Ready:
		line += ", ready"
	case s.State == api.RunRunning:
		line += ", not ready"
	}
	if s.Reason != "" && (!s.Ready || s.Reason == api.ReasonEngineDown) {
		line += ": " + string(s.Reason)
		if s.Message != "" {
			line += ": " + s.Message
		}
	}
	return oneLine(line, 300)
}

// kick tells the agent to look. There may be none: it finds the state when it starts.
func kick(socket string) {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	// A full queue means that the agent is about to look anyway.
	_ = conn.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	_, _ = conn.Write([]byte{1})
}

package geard

import (
	"context"
	"slices"
	"time"

	"gearmesh.dev/api"
)

// listens is on which ports of a pod somebody waits over IPv6 too, as the kernel said when it was last asked. A program that waits at
// 0.0.0.0 alone is not to be told of at the host's IPv6 address.
type listens struct {
	ports []api.Name
	next  time.Time // when to ask again
	wait  time.Duration
}

// A pod that has just become ready is asked about soon again, since its program may be ready before it listens; then ever more rarely.
const (
	listensFirst = time.Second
	listensMost  = 5 * time.Minute
)

// listensIPv6 gives the ports of a ready pod that take IPv6.
func (a *Agent) listensIPv6(ctx context.Context, h held) []api.Name {
	uid := h.pod.Metadata.UID
	now := time.Now()
	a.mu.Lock()
	l := a.workLocked(uid).listens
	a.mu.Unlock()
	if now.Before(l.next) {
		return l.ports
	}
	ports, err := a.cfg.Machine.ListensIPv6(ctx, uid, h.net.Ports)
	if err != nil {
		a.log.Debug("what a pod listens on cannot be told", "uid", uid, "err", err)
		return l.ports
	}
	if l.wait = min(max(2*l.wait, listensFirst), listensMost); !slices.Equal(ports, l.ports) {
		l.wait = listensFirst
	}
	l.ports, l.next = ports, now.Add(l.wait)
	a.setListens(uid, l)
	return ports
}

func (a *Agent) setListens(uid api.UID, l listens) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.workLocked(uid).listens = l
}

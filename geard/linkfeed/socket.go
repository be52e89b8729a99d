package linkfeed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gearmesh.dev/api"
)

// listenLocked opens a pod's socket. It appears at its name with its mode set, and in the place of one that a killed agent has
// left: containers see either a socket that answers or one that refuses at once.
func (s *Server) listenLocked(p *pod) {
	l, err := s.listen(p.uid)
	if p.trouble = err; err != nil {
		return
	}
	p.socket = l
	s.busy.Go(func() {
		_ = s.http.Serve(&listener{Listener: l, server: s, pod: p}) // it ends when the socket is closed, by Leave
	})
}

func (s *Server) listen(uid api.UID) (net.Listener, error) {
	if err := s.dirs.MakeLinks(uid); err != nil {
		return nil, err
	}
	fresh := filepath.Join(s.dirs.Links(uid), ".new") // short: the path of a socket has at most 107 bytes
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("making the socket of a pod's links: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("making the socket of a pod's links: %w", err)
	}
	l.SetUnlinkOnClose(false) // it has another name by then
	// Programs in containers have any user. The directory is the host's root's, and read-only for them.
	if err = os.Chmod(fresh, 0o666); err == nil {
		err = os.Rename(fresh, s.dirs.LinksSocket(uid))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making the socket of a pod's links: %w", err), l.Close())
	}
	return l, nil
}

// listener takes the connections of one pod, at the pod's pace and within its bounds: those that are too many are told so, and those beyond are closed.
type listener struct {
	net.Listener
	server *Server
	pod    *pod
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.pod.pace.wait(l.pod.ended, nil)
		if admitted := l.server.admit(l.pod, c); admitted != nil {
			return admitted, nil
		}
		_ = c.Close() // it is refused either way
	}
}

// admit counts a connection in; nil when there are far too many.
func (s *Server) admit(p *pod, c net.Conn) net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	full := p.open >= s.limits.perPod || p.open >= s.limits.sure && s.open >= s.limits.perHost
	if p.leaving || full && len(p.conns)-p.open >= s.limits.spare {
		return nil
	}
	admitted := &conn{Conn: c, server: s, pod: p, full: full}
	p.conns[admitted] = struct{}{}
	if !full {
		p.open++
		s.open++
	}
	return admitted
}

// conn is a connection that is counted.
type conn struct {
	net.Conn
	server *Server
	pod    *pod
	full   bool // it is one too many
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.server.mu.Lock()
	if _, counted := c.pod.conns[c]; counted {
		delete(c.pod.conns, c)
		if !c.full {
			c.pod.open--
			c.server.open--
		}
	}
	c.server.mu.Unlock()
	return c.Conn.Close()
}

// connKey is the key of a request's connection in its context.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// pace lets a burst through at once, and then one each interval.
type pace struct {
	burst    int
	interval time.Duration

	mu   sync.Mutex
	next time.Time // when the next one would be due without a burst
}

// wait waits for a turn, or until one of the channels is closed; nil never is.
func (p *pace) wait(ended, gone <-chan struct{}) {
	d := p.take(time.Now())
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ended:
	case <-gone:
	}
}

// take takes a turn, and gives how long it is off.
func (p *pace) take(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if earliest := now.Add(-time.Duration(p.burst) * p.interval); p.next.Before(earliest) {
		p.next = earliest
	}
	p.next = p.next.Add(p.interval)
	return p.next.Sub(now)
}

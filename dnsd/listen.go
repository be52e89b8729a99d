package dnsd

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// readBuffer of a UDP socket holds a burst of some thousand queries.
const readBuffer = 1 << 20

// bind opens the sockets of one address: several for UDP, among which the kernel spreads askers
// (SO_REUSEPORT, socket(7)).
func (s *Server) bind(a netip.AddrPort) error {
	lc := net.ListenConfig{Control: socketOptions}
	for range max(1, s.config.Limits.Sockets) {
		c, err := lc.ListenPacket(context.Background(), "udp", a.String())
		if err != nil {
			return err
		}
		u := c.(*net.UDPConn)
		_ = u.SetReadBuffer(readBuffer) // the kernel may give less
		s.udp = append(s.udp, u)
		if a.Port() == 0 {
			a = netip.AddrPortFrom(a.Addr(), u.LocalAddr().(*net.UDPAddr).AddrPort().Port())
		}
	}
	l, err := lc.Listen(context.Background(), "tcp", a.String())
	if err != nil {
		return err
	}
	s.tcp = append(s.tcp, l.(*net.TCPListener))
	return nil
}

// socketOptions lets sockets share an address, and bind one that comes up later (IP_FREEBIND,
// ip(7)): the pods' bridge may not be there yet.
func socketOptions(network, _ string, raw syscall.RawConn) error {
	var err error
	outer := raw.Control(func(fd uintptr) {
		if network == "udp4" || network == "udp6" {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}
		err = errors.Join(err, unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1))
	})
	return errors.Join(outer, err)
}

// serveUDP answers what is known in this goroutine, so a flood makes no others; only questions
// for other servers get one each, and these are bounded.
func (s *Server) serveUDP(ctx context.Context, c *net.UDPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return // it is closed
	}
	b, w := newBatch(raw), s.newWorker(false)
	for {
		if err := b.receive(); err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) || !pause(ctx, time.Millisecond) { // such as ENOBUFS: try again
				return
			}
			continue
		}
		s.serveBatch(ctx, c, b, w, time.Now())
		_ = b.send() // fails only on a closed socket, as receiving then does
	}
}

// serveBatch answers the queries that were received.
func (s *Server) serveBatch(ctx context.Context, c *net.UDPConn, b *batch, w *worker, now time.Time) {
	for i := range b.n {
		query, buf := b.query(i)
		switch reply, out := w.respond(buf, query, b.asker(i), now); out {
		case replied:
			b.reply(i, reply)
		case elsewhere:
			to := b.port(i)
			s.later(ctx, w.later(), func(reply []byte) { _, _ = c.WriteToUDPAddrPort(reply, to) }) // a lost reply is asked again
		}
	}
}

// later asks other servers in a goroutine of its own; too many are refused before.
func (s *Server) later(ctx context.Context, w *worker, write func([]byte)) {
	release, ok := s.forward.reserve(w.asker)
	if !ok {
		write(w.overload(nil))
		return
	}
	s.work.Go(func() {
		defer release()
		write(w.ask(ctx, nil))
	})
}

func (s *Server) serveTCP(ctx context.Context, l *net.TCPListener) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			if !pause(ctx, 10*time.Millisecond) { // such as EMFILE
				return
			}
			continue
		}
		from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		leave, ok := s.streams.enter(from, !s.config.Source.View(from).Recurse && !s.secondary(from))
		if !ok {
			c.Close()
			continue
		}
		s.work.Go(func() {
			defer leave()
			s.serveStream(ctx, c, from)
		})
	}
}

// serveStream answers the queries of one connection, in their order.
func (s *Server) serveStream(ctx context.Context, c *net.TCPConn, from netip.Addr) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	w := s.newWorker(true)
	for range s.config.Limits.StreamQueries {
		_ = c.SetDeadline(time.Now().Add(s.streams.idle())) // fails only on a closed connection, as reading then does
		raw, err := readMessage(c)
		if err != nil {
			return
		}
		reply, out := w.respond(nil, raw, from, time.Now())
		switch out {
		case elsewhere:
			reply = w.wait(ctx)
		case transfer:
			err = s.sendZone(c, w)
		case silence:
			return
		}
		if out != transfer {
			err = s.send(c, reply)
		}
		if err != nil {
			return
		}
	}
}

// send writes a message with its length before it.
func (s *Server) send(c *net.TCPConn, m []byte) error {
	_ = c.SetDeadline(time.Now().Add(s.config.Limits.StreamIdle)) // as above
	_, err := c.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(m)), uint16(len(m))), m...))
	return err
}

// wait asks other servers while the connection waits.
func (w *worker) wait(ctx context.Context) []byte {
	release, ok := w.server.forward.reserve(w.asker)
	if !ok {
		return w.overload(nil)
	}
	defer release()
	return w.ask(ctx, nil)
}

// readMessage reads a message with its length before it (RFC 1035, section 4.2.2). A query is never
// longer than a few hundred bytes.
func readMessage(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(length[:])
	if n > maxQuery {
		return nil, errors.New("message is too long for a query")
	}
	raw := make([]byte, n)
	_, err := io.ReadFull(r, raw)
	return raw, err
}

// pause waits and tells whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

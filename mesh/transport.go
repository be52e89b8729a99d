package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport is what memberlist's own one is, but for the memory of a datagram: that one takes 64 KiB for each, most of what an idle
// agent allocated, and each few seconds a collection of its garbage.
type transport struct {
	udp     *net.UDPConn
	tcp     *net.TCPListener
	log     *slog.Logger
	packets chan *memberlist.Packet
	streams chan net.Conn
	ctx     context.Context // ends with Shutdown
	cancel  context.CancelFunc
	loops   sync.WaitGroup
	once    sync.Once
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// maxDatagram is the longest datagram there is, and receiveBuffer the memory that the kernel is asked to keep them in, which it
// gives as far as it may (net.core.rmem_max).
const (
	maxDatagram   = 64 << 10
	receiveBuffer = 2 << 20
)

// listen binds an address. The log is told of what goes wrong later.
func listen(address netip.AddrPort, log *slog.Logger) (*transport, error) {
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(address))
	if err != nil {
		return nil, err
	}
	at := netip.AddrPortFrom(address.Addr(), tcp.Addr().(*net.TCPAddr).AddrPort().Port())
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	if err := udp.SetReadBuffer(receiveBuffer); err != nil {
		return nil, errors.Join(err, tcp.Close(), udp.Close())
	}
	t := &transport{udp: udp, tcp: tcp, log: log, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.loops.Go(t.readPackets)
	t.loops.Go(t.accept)
	return t, nil
}

// readPackets passes on the datagrams that come, each in memory of its own size: memberlist may keep it for long.
func (t *transport) readPackets() {
	buf := make([]byte, maxDatagram)
	for {
		n, from, err := t.udp.ReadFromUDP(buf)
		if t.ctx.Err() != nil {
			return
		}
		if err != nil {
			t.log.Debug("reading a datagram of the mesh", "err", err)
			pause(t.ctx, errorPause)
			continue
		}
		if n == 0 {
			continue // without a pause, with which a stranger could hold up the others
		}
		p := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: from, Timestamp: time.Now()}
		select {
		case t.packets <- p:
		case <-t.ctx.Done():
			return
		}
	}
}

// errorPause keeps an error that comes again and again, such as of too many open files, from making a loop spin.
const errorPause = 5 * time.Millisecond

// accept passes on the connections that come.
func (t *transport) accept() {
	for {
		c, err := t.tcp.AcceptTCP()
		if t.ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return
		}
		if err != nil {
			t.log.Debug("accepting a connection of the mesh", "err", err)
			pause(t.ctx, 20*errorPause)
			continue
		}
		select {
		case t.streams <- c:
		case <-t.ctx.Done():
			c.Close()
			return
		}
	}
}

// FinalAdvertiseAddr implements memberlist.Transport: a mesh tells the address that it listens on.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	at := t.tcp.Addr().(*net.TCPAddr)
	return at.IP, at.Port, nil
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("sending a datagram to %q: %w", addr, err)
	}
	_, err = t.udp.WriteToUDPAddrPort(b, at)
	return time.Now(), err
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return (&net.Dialer{Timeout: timeout}).DialContext(t.ctx, "tcp", addr)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown implements memberlist.Transport. Doing it again does nothing.
func (t *transport) Shutdown() error {
	var err error
	t.once.Do(func() {
		t.cancel()
		err = errors.Join(t.udp.Close(), t.tcp.Close())
		t.loops.Wait()
	})
	return err
}

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What P5's client says first: it wants one byte back, or sends many and gets their number when it has said all. Both sides are
// plain blocking system calls, so that Go's scheduler is no part of what is measured.
const (
	wantEcho = 'e'
	wantSink = 's'
)

// buffer is what is sent and read at a time.
const buffer = 128 << 10

func socketAddress(a netip.AddrPort) unix.Sockaddr {
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
}

// serveAt listens in the calling thread's namespace, and serves one connection after the other on a thread of its own, until the process ends. It gives the
// port, which the kernel chooses for port 0.
func serveAt(at netip.AddrPort) (netip.AddrPort, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return at, err
	}
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, socketAddress(at)), unix.Listen(fd, 64)); err != nil {
		return at, fmt.Errorf("listening on %s: %w", at, err)
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		return at, err
	}
	go func() {
		buf := make([]byte, buffer)
		for {
			c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
			if err != nil {
				continue // EINTR, or the client is gone already
			}
			_ = serveOne(c, buf) // the client sees what went wrong
			_ = unix.Close(c)
		}
	}()
	return netip.AddrPortFrom(at.Addr(), uint16(own.(*unix.SockaddrInet4).Port)), nil
}

func serveOne(fd int, buf []byte) error {
	n, err := read(fd, buf)
	if err != nil || n == 0 {
		return err
	}
	if buf[0] == wantEcho {
		if _, err := write(fd, buf[:1]); err != nil {
			return err
		}
		_, err := read(fd, buf)
		return err
	}
	total := uint64(n - 1)
	for n > 0 {
		if n, err = read(fd, buf); err != nil {
			return err
		}
		total += uint64(n)
	}
	_, err = write(fd, binary.BigEndian.AppendUint64(nil, total))
	return err
}

// Signals, which Go sends itself, interrupt system calls on sockets that have a time limit (signal(7)).

func read(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Read(fd, buf)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func write(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Write(fd, buf)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// connect goes on waiting when it is interrupted; asking once more would be an error (connect(2)).
func connect(fd int, to netip.AddrPort) error {
	err := unix.Connect(fd, socketAddress(to))
	if !errors.Is(err, unix.EINTR) {
		return err
	}
	for errors.Is(err, unix.EINTR) {
		_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 10_000)
	}
	if err != nil {
		return err
	}
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = syscall.Errno(code)
	}
	return err
}

// dialled calls f with a connection that is made in the calling thread's namespace.
func dialled(to netip.AddrPort, f func(fd int) error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	// A packet that nobody answers shall not stop everything for ever.
	limit := &unix.Timeval{Sec: 10}
	err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, limit), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, limit))
	if err == nil {
		if err = connect(fd, to); err == nil {
			err = f(fd)
		}
	}
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return fmt.Errorf("over %s: %w", to, err)
	}
	return nil
}

// echo connects, sends a byte, gets one back and closes, and gives how long all of it took.
func echo(to netip.AddrPort) (time.Duration, error) {
	start := time.Now()
	err := dialled(to, func(fd int) error {
		b := []byte{wantEcho}
		if _, err := write(fd, b); err != nil {
			return err
		}
		if n, err := read(fd, b); err != nil || n != 1 || b[0] != wantEcho {
			return fmt.Errorf("got %d bytes, %q, for one: %w", n, b, err)
		}
		return nil
	})
	return time.Since(start), err
}

// pour sends for a while as fast as it goes, and gives how many bytes have arrived and how long that took.
func pour(to netip.AddrPort, d time.Duration) (arrived uint64, took time.Duration, err error) {
	err = dialled(to, func(fd int) error {
		buf := make([]byte, buffer)
		buf[0] = wantSink
		start, sent := time.Now(), uint64(0)
		for time.Since(start) < d {
			n, err := write(fd, buf)
			if err != nil {
				return err
			}
			sent += uint64(n)
			buf[0] = 0
		}
		if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
			return err
		}
		n, err := read(fd, buf)
		took = time.Since(start)
		if err != nil || n != 8 {
			return fmt.Errorf("the number of bytes has %d bytes: %w", n, err)
		}
		if arrived = binary.BigEndian.Uint64(buf); arrived != sent-1 {
			return fmt.Errorf("%d bytes of %d have arrived", arrived, sent-1)
		}
		return nil
	})
	return arrived, took, err
}

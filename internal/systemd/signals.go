package systemd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// privateSocket is systemd's own socket; only root may.
const privateSocket = "/run/systemd/private"

// dial connects to systemd. go-systemd wants a connection for calls and one for signals; here both are one, since systemd writes
// each change of each unit to every connection to its own socket, whoever has asked for it (bus_foreach_bus in src/core/dbus.c).
func dial(ctx context.Context) (*dbus.Conn, error) {
	socket, err := (&net.Dialer{}).DialContext(ctx, "unix", privateSocket)
	if err != nil {
		return nil, err
	}
	conn, err := godbus.NewConn(&jobSignals{Conn: socket, in: bufio.NewReader(socket)}, godbus.WithContext(ctx))
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	// There is no Hello to systemd itself.
	if err := conn.Auth([]godbus.Auth{godbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return dbus.NewConnection(func() (*godbus.Conn, error) { return conn, nil })
}

// jobSignals is a D-Bus connection without the signals that nobody here waits for: all but those of the end of a job. Most
// tell the properties of units, at length, and decoding them was the largest part of what the start of a pod cost the agent.
//
// A message is a head of 16 bytes, fields whose length is in the head, padding to 8 bytes, and a body whose length is in the
// head too: https://dbus.freedesktop.org/doc/dbus-specification.html#message-protocol-messages
type jobSignals struct {
	net.Conn
	in    *bufio.Reader
	begun bool   // lines of the authentication are over, messages come
	head  []byte // of a message that is being read, with its fields
	body  int    // how much of its body is still to come
}

// headSize is the length of a message's head; maxFields and maxBody are the protocol's bounds.
const (
	headSize  = 16
	maxFields = 64 << 20
	maxBody   = 128 << 20
)

// typeSignal is the type of a message that is a signal.
const typeSignal = 4

// jobRemoved is how the fields of the signal that counts have its name. Another one that has it too does no harm.
const jobRemoved = "JobRemoved\x00"

var errMessage = errors.New("systemd sent what is no D-Bus message")

// Write implements io.Writer. BEGIN is the last line of the authentication.
func (s *jobSignals) Write(p []byte) (int, error) {
	s.begun = s.begun || bytes.HasPrefix(p, []byte("BEGIN"))
	return s.Conn.Write(p)
}

// Read implements io.Reader.
func (s *jobSignals) Read(p []byte) (int, error) {
	if !s.begun {
		return s.in.Read(p)
	}
	for len(s.head) == 0 && s.body == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	if len(s.head) > 0 {
		n := copy(p, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	n, err := s.in.Read(p[:min(len(p), s.body)])
	s.body -= n
	return n, err
}

// next reads the head and the fields of the next message, and all of one that is not wanted. Signals with longer fields than are
// looked at, of which systemd has none, come through.
func (s *jobSignals) next() error {
	head, err := s.in.Peek(headSize)
	if err != nil {
		return err
	}
	order := binary.ByteOrder(binary.LittleEndian)
	switch head[0] {
	case 'l':
	case 'B':
		order = binary.BigEndian
	default:
		return fmt.Errorf("%w: it begins with %q", errMessage, head[0])
	}
	body, fields := order.Uint32(head[4:]), order.Uint32(head[12:])
	if body > maxBody || fields > maxFields {
		return fmt.Errorf("%w: its parts are said to have %d and %d bytes", errMessage, fields, body)
	}
	size := headSize + int(fields+7)/8*8
	if head[1] == typeSignal && size <= s.in.Size() {
		all, err := s.in.Peek(size)
		if err != nil {
			return err
		}
		if !bytes.Contains(all, []byte(jobRemoved)) {
			_, err := s.in.Discard(size + int(body))
			return err
		}
	}
	s.head, s.body = make([]byte, size), int(body)
	_, err = io.ReadFull(s.in, s.head)
	return err
}

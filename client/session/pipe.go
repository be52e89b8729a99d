package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"gearmesh.dev/api"
	"gearmesh.dev/api/frame"
)

// Pipe carries a TCP (or unix) connection over a session until both directions have ended, each by itself, and
// closes the connection. Nil means that both ended well; the session is still open then. What breaks off at one
// end is reset at the other.
func Pipe(s *Conn, conn net.Conn) error {
	defer conn.Close()
	stop := context.AfterFunc(s.Context(), func() { reset(conn) })
	defer stop()
	var work sync.WaitGroup
	var sendErr error
	work.Go(func() { sendErr = send(s, conn) })
	err := receive(s, conn)
	if err != nil {
		reset(conn)
	}
	work.Wait()
	if err == nil {
		err = sendErr
	}
	return err
}

// send reads conn to its end.
func send(s *Conn, conn net.Conn) error {
	_, err := io.Copy(s.Writer(frame.Data), conn)
	if err == nil {
		return s.Send(frame.End, nil)
	}
	if !errors.Is(err, ErrLost) {
		err = fmt.Errorf("the connection broke off: %w", err)
		_ = s.Send(frame.Error, ErrorPayload(err))
	}
	s.stop()
	return err
}

// reset closes a connection so that its peer does not take it for an end.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}

// receive writes Data to conn until End. Exit counts as End: the other end has seen both.
func receive(s *Conn, conn net.Conn) error {
	for {
		f, err := s.Next()
		if err != nil {
			return err
		}
		switch f.Type {
		case frame.Data:
			if _, err := conn.Write(f.Payload); err != nil {
				return fmt.Errorf("the connection broke off: %w", err)
			}
		case frame.End, frame.Exit:
			return closeWrite(conn)
		default:
			return api.Errorf(api.CodeBadRequest, "a %s frame is of no use to a connection", f.Type)
		}
	}
}

// closeWrite ends one direction. A peer that has gone already needs no end.
func closeWrite(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	return nil
}

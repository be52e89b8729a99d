package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	systemd "github.com/coreos/go-systemd/v22/journal"

	"gearmesh.dev/internal/journal"
)

// journalSocket is where systemd-journald takes streams of lines.
const journalSocket = "/run/systemd/journal/stdout"

// journalWriter writes to the journal through the stream that systemd opened for us. A journald that was stopped and
// started again has dropped that stream, for ever; then it opens one of its own.
type journalWriter struct {
	socket   string
	name     func() (identifier, unit string) // asked when a stream is opened
	priority int                              // syslog(3): 6, as systemd's SyslogLevel= has it

	mu  sync.Mutex
	out io.Writer
}

// Write implements io.Writer. When it fails the journal is away; the caller tries again later.
func (w *journalWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.out.Write(b)
	if err == nil || !gone(err) {
		return n, err
	}
	conn, openErr := w.open()
	if openErr != nil {
		return 0, fmt.Errorf("the journal is away: %w", openErr)
	}
	if old, ok := w.out.(net.Conn); ok {
		old.Close()
	}
	w.out = conn
	return conn.Write(b)
}

func gone(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ENOTCONN) || errors.Is(err, net.ErrClosed)
}

// open opens a stream as systemd does for a unit's standard output (systemd: src/core/exec-invoke.c,
// connect_logger_as): identifier, unit, priority, level prefix, and three forwards, a line each.
func (w *journalWriter) open() (net.Conn, error) {
	conn, err := net.Dial("unix", w.socket)
	if err != nil {
		return nil, fmt.Errorf("opening a journal stream: %w", err)
	}
	identifier, unit := w.name()
	if _, err := fmt.Fprintf(conn, "%s\n%s\n%d\n0\n0\n0\n0\n", identifier, unit, w.priority); err != nil {
		conn.Close()
		return nil, fmt.Errorf("opening a journal stream: %w", err)
	}
	return conn, nil
}

// markRun tells the journal that what follows is the output of this container: gear logs --previous looks for the
// mark. A journal without it only cannot tell one run from the next.
func markRun(id string) {
	_ = systemd.Send("looking after container "+id, systemd.PriInfo, map[string]string{"MESSAGE_ID": journal.RunMarker, "GEAR_CONTAINER_ID": id})
}

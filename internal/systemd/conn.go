package systemd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// Manager is the host's systemd. It is safe for concurrent use.
type Manager struct {
	mu   sync.Mutex
	conn *dbus.Conn // nil until it is needed, and after Close
}

// New gives the host's systemd. Nothing is connected yet.
func New() *Manager { return &Manager{} }

// Close ends the connection. A later call makes a new one.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
}

// connect gives a connection that was good a moment ago. It is not bound to the caller's context:
// go-systemd closes a connection with the context it was made with.
func (m *Manager) connect() (*dbus.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil && m.conn.Connected() {
		return m.conn, nil
	}
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
	conn, err := dial(context.Background())
	if err != nil {
		return nil, fmt.Errorf("connecting to systemd (is it process 1, and are you root?): %w", err)
	}
	m.conn = conn
	return conn, nil
}

// do calls systemd, and once more over a new connection when the old one turns out to be
// closed: after a re-exec the first call finds that out. What it calls must bear being called twice.
func (m *Manager) do(call func(*dbus.Conn) error) error {
	for retry := true; ; retry = false {
		conn, err := m.connect()
		if err != nil {
			return err
		}
		err = call(conn)
		if err == nil || !retry || !lost(conn, err) {
			return err
		}
		conn.Close()
	}
}

func lost(conn *dbus.Conn, err error) bool {
	return errors.Is(err, godbus.ErrClosed) || !conn.Connected()
}

// Verb is what a unit is asked to do.
type Verb string

// The verbs. A unit that is already as asked is left alone, but for Restart.
const (
	Start   Verb = "start"
	Stop    Verb = "stop"
	Restart Verb = "restart"
	Reread  Verb = "reload" // the unit's own ExecReload=
)

// JobError says that systemd tried and that the unit did not do as asked.
type JobError struct {
	Unit   string
	Verb   Verb
	Result string // canceled, timeout, failed, dependency, skipped (systemd's D-Bus API, JobRemoved)
}

// Error names the unit, and the command that tells more.
func (e *JobError) Error() string {
	return fmt.Sprintf("%s of unit %q: %s; systemctl status %q tells more", e.Verb, e.Unit, e.Result, e.Unit)
}

// ErrLost means that the connection ended while a job was waited for. The job itself goes on.
var ErrLost = errors.New("the connection to systemd was lost")

// Start starts a unit and waits until it is up, or has failed with a *JobError.
func (m *Manager) Start(ctx context.Context, unit string) error { return m.await(ctx, Start, unit) }

// Stop stops a unit and waits until it is down.
func (m *Manager) Stop(ctx context.Context, unit string) error { return m.await(ctx, Stop, unit) }

// Restart restarts a unit and waits until it is up.
func (m *Manager) Restart(ctx context.Context, unit string) error { return m.await(ctx, Restart, unit) }

// ReloadUnit asks a unit that is up to reload itself, and waits until it has.
func (m *Manager) ReloadUnit(ctx context.Context, unit string) error {
	return m.await(ctx, Reread, unit)
}

// Enqueue asks for the verb and returns when systemd has accepted the job.
func (m *Manager) Enqueue(ctx context.Context, v Verb, unit string) error {
	return m.do(func(c *dbus.Conn) error { return job(ctx, c, v, unit, nil) })
}

func (m *Manager) await(ctx context.Context, v Verb, unit string) error {
	var used *dbus.Conn
	done := make(chan string, 1)
	err := m.do(func(c *dbus.Conn) error {
		used = c
		return job(ctx, c, v, unit, done)
	})
	if err != nil {
		return err
	}
	return wait(ctx, used, v, unit, done)
}

// wait takes the result of a job. go-systemd says nothing to its waiters when the connection
// ends, so that is looked at from time to time.
func wait(ctx context.Context, c *dbus.Conn, v Verb, unit string, done <-chan string) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case result := <-done:
			if result == "done" {
				return nil
			}
			return &JobError{Unit: unit, Verb: v, Result: result}
		case <-ctx.Done():
			return fmt.Errorf("waiting for the %s of unit %q: %w", v, unit, ctx.Err())
		case <-tick.C:
			if !c.Connected() {
				return fmt.Errorf("waiting for the %s of unit %q: %w", v, unit, ErrLost)
			}
		}
	}
}

// job queues a job. Mode "replace" puts it in the place of a queued one that contradicts it.
func job(ctx context.Context, c *dbus.Conn, v Verb, unit string, done chan<- string) error {
	var err error
	switch v {
	case Start:
		_, err = c.StartUnitContext(ctx, unit, "replace", done)
	case Stop:
		_, err = c.StopUnitContext(ctx, unit, "replace", done)
	case Restart:
		_, err = c.RestartUnitContext(ctx, unit, "replace", done)
	case Reread:
		_, err = c.ReloadUnitContext(ctx, unit, "replace", done)
	default:
		err = fmt.Errorf("unknown verb")
	}
	if err == nil {
		return nil
	}
	if v == Stop && named(err, noSuchUnit) {
		if done != nil {
			done <- "done" // what is not loaded does not run
		}
		return nil
	}
	return fmt.Errorf("%s of unit %q: %w", v, unit, err)
}

const noSuchUnit = "org.freedesktop.systemd1.NoSuchUnit"

// named tells whether systemd answered with the D-Bus error of that name.
func named(err error, name string) bool {
	var answer godbus.Error
	return errors.As(err, &answer) && answer.Name == name
}

// ResetFailed forgets that a unit has failed. One that is not loaded has nothing to forget.
func (m *Manager) ResetFailed(ctx context.Context, unit string) error {
	err := m.do(func(c *dbus.Conn) error { return c.ResetFailedUnitContext(ctx, unit) })
	if err != nil && !named(err, noSuchUnit) {
		return fmt.Errorf("resetting unit %q: %w", unit, err)
	}
	return nil
}

// Reload makes systemd read all unit files again. It takes hundreds of milliseconds on a host
// with many units, and systemd does nothing else meanwhile.
func (m *Manager) Reload(ctx context.Context) error {
	if err := m.do(func(c *dbus.Conn) error { return c.ReloadContext(ctx) }); err != nil {
		return fmt.Errorf("reloading systemd: %w", err)
	}
	return nil
}

package systemd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
)

// Unit is what systemd says of a unit in one word each (systemd's D-Bus API,
// ListUnitsByPatterns).
type Unit struct {
	Name   string
	Load   string // loaded, not-found, bad-setting, error, masked
	Active string // active, reloading, inactive, failed, activating, deactivating
	Sub    string // running, exited, start, auto-restart, dead, ...
	Job    string // what is queued: start, stop, restart, ...; or empty
}

// Detail is more of a service; it costs a call each.
type Detail struct {
	Unit
	MainPID   int       // 0 when nothing runs
	Result    string    // success, exit-code, signal, timeout, watchdog, oom-kill, ...
	FileState string    // enabled, disabled, static, masked, ...; or empty without a file
	Entered   time.Time // when it last became active; zero for never
	Left      time.Time // when it last became inactive or failed; zero for never
	Stale     bool      // its file has changed since systemd read it
}

// List gives the loaded units whose names match one of the glob patterns; a backslash, which the
// names of slices have, stands for itself (FNM_NOESCAPE of fnmatch(3)). A unit that is inactive and
// that no other names is not loaded and not listed.
func (m *Manager) List(ctx context.Context, patterns ...string) ([]Unit, error) {
	var out []Unit
	err := m.do(func(c *dbus.Conn) error {
		units, err := c.ListUnitsByPatternsContext(ctx, nil, patterns)
		out = make([]Unit, 0, len(units))
		for _, u := range units {
			out = append(out, Unit{Name: u.Name, Load: u.LoadState, Active: u.ActiveState, Sub: u.SubState, Job: u.JobType})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing units %q: %w", patterns, err)
	}
	return out, nil
}

// Show gives the details of one service, and loads it for that if it must.
func (m *Manager) Show(ctx context.Context, unit string) (Detail, error) {
	var d Detail
	err := m.do(func(c *dbus.Conn) error {
		p := properties{ctx: ctx, conn: c, unit: unit}
		d = Detail{
			Unit: Unit{Name: unit, Load: get[string](&p, "Unit", "LoadState"), Active: get[string](&p, "Unit", "ActiveState"),
				Sub: get[string](&p, "Unit", "SubState")},
			FileState: get[string](&p, "Unit", "UnitFileState"),
			Entered:   p.moment("ActiveEnterTimestamp"),
			Left:      p.moment("InactiveEnterTimestamp"),
			Stale:     get[bool](&p, "Unit", "NeedDaemonReload"),
		}
		if strings.HasSuffix(unit, ".service") {
			d.MainPID = int(get[uint32](&p, "Service", "MainPID"))
			d.Result = get[string](&p, "Service", "Result")
		}
		return p.err
	})
	if err != nil {
		return Detail{}, fmt.Errorf("looking at unit %q: %w", unit, err)
	}
	return d, nil
}

// properties asks for one property after the other and keeps the first error. GetAll would be one
// call, but makes systemd format some 200 properties of a service.
type properties struct {
	ctx  context.Context
	conn *dbus.Conn
	unit string
	err  error
}

func get[T any](p *properties, kind, name string) (v T) {
	if p.err != nil {
		return v
	}
	found, err := p.conn.GetUnitTypePropertyContext(p.ctx, p.unit, kind, name)
	if err != nil {
		p.err = fmt.Errorf("property %s: %w", name, err)
		return v
	}
	v, ok := found.Value.Value().(T)
	if !ok {
		p.err = fmt.Errorf("property %s is a %T", name, found.Value.Value())
	}
	return v
}

// moment reads a timestamp in microseconds of the wall clock; 0 means never.
func (p *properties) moment(name string) time.Time {
	usec := get[uint64](p, "Unit", name)
	if usec == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(usec))
}

// Refresh tells systemd of unit files that were replaced: those that InstallUnits returned. It reloads
// only when one of them is loaded and outdated, such as a file of 0 bytes that systemd
// took for a masked unit, and then forgets the failures of those units.
func (m *Manager) Refresh(ctx context.Context, changed []string) (reloaded bool, err error) {
	outdated, err := m.outdated(ctx, changed)
	if err != nil || len(outdated) == 0 {
		return false, err
	}
	if err := m.Reload(ctx); err != nil {
		return false, err
	}
	for _, name := range outdated {
		if err := m.ResetFailed(ctx, name); err != nil {
			return true, err
		}
	}
	return true, nil
}

func (m *Manager) outdated(ctx context.Context, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	units, err := m.List(ctx, names...)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, u := range units {
		d, err := m.Show(ctx, u.Name)
		if err != nil {
			return nil, err
		}
		if d.Stale || u.Load != "loaded" {
			out = append(out, u.Name)
		}
	}
	return out, nil
}

//go:build host

// These tests run as root on a host whose process 1 is systemd. TestLabHost of contrib/systemd runs
// them on a lab host.
package systemd_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/hostexec"
	"gearmesh.dev/internal/systemd"
)

// unit installs a service for the test's time and takes it away without a trace.
func unit(t *testing.T, m *systemd.Manager, name, service string) string {
	t.Helper()
	install(t, systemd.UnitDir, api.TextFile{Name: name, Text: head + "[Service]\n" + service})
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		err := errors.Join(m.Stop(ctx, name), m.ResetFailed(ctx, name), systemd.RemoveUnits(systemd.UnitDir, []string{name}))
		if err != nil {
			t.Error(err)
		}
	})
	return name
}

func manager(t *testing.T) *systemd.Manager {
	m := systemd.New()
	t.Cleanup(m.Close)
	return m
}

func show(t *testing.T, m *systemd.Manager, name string) systemd.Detail {
	t.Helper()
	d, err := m.Show(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestHostLifeOfAUnitWithoutReload(t *testing.T) {
	m := manager(t)
	name := unit(t, m, "gear-test-life.service", "ExecStart=/bin/sleep 600\nRestart=always\nRestartSec=1ms\n")
	before := time.Now()
	if err := m.Start(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	d := show(t, m, name)
	if d.Active != "active" || d.Sub != "running" || d.MainPID == 0 || d.Result != "success" || d.FileState != "static" {
		t.Errorf("got %+v", d)
	}
	if d.Entered.Before(before.Add(-time.Second)) || !d.Left.IsZero() {
		t.Errorf("entered %v, left %v; started at %v", d.Entered, d.Left, before)
	}
	first := d.MainPID
	if err := m.Restart(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if d = show(t, m, name); d.MainPID == first || d.Active != "active" {
		t.Errorf("after a restart: %+v", d)
	}
	units, err := m.List(t.Context(), "gear-test-l*.service")
	if err != nil || len(units) != 1 || units[0].Name != name || units[0].Active != "active" {
		t.Errorf("listed %+v, %v", units, err)
	}
	if err := m.Stop(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if d = show(t, m, name); d.Active != "inactive" || d.MainPID != 0 {
		t.Errorf("after a stop: %+v", d)
	}
}

func TestHostFailureIsTold(t *testing.T) {
	m := manager(t)
	name := unit(t, m, "gear-test-fail.service", "Type=oneshot\nExecStart=/bin/false\n")
	var job *systemd.JobError
	if err := m.Start(t.Context(), name); !errors.As(err, &job) || job.Result != "failed" || job.Unit != name {
		t.Fatalf("got %v", err)
	}
	if d := show(t, m, name); d.Active != "failed" || d.Result != "exit-code" {
		t.Errorf("got %+v", d)
	}
	if err := m.ResetFailed(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if d := show(t, m, name); d.Active != "inactive" {
		t.Errorf("after a reset: %+v", d)
	}
}

func TestHostUnitsThatAreNotThere(t *testing.T) {
	m := manager(t)
	if err := m.Stop(t.Context(), "gear-test-none.service"); err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := m.ResetFailed(t.Context(), "gear-test-none.service"); err != nil {
		t.Errorf("reset: %v", err)
	}
	if err := m.Start(t.Context(), "gear-test-none.service"); err == nil {
		t.Error("a missing unit was started")
	}
	if d := show(t, m, "gear-test-none.service"); d.Load != "not-found" {
		t.Errorf("got %+v", d)
	}
}

func TestHostWaitEndsWithItsContext(t *testing.T) {
	m := manager(t)
	name := unit(t, m, "gear-test-slow.service", "Type=oneshot\nExecStart=/bin/sleep 600\n")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := m.Start(ctx, name); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := m.Enqueue(t.Context(), systemd.Start, name); err != nil {
		t.Errorf("enqueue: %v", err)
	}
	for end := time.Now().Add(3 * time.Minute); show(t, m, name).Active != "activating"; time.Sleep(50 * time.Millisecond) { // the job has its turn in a moment
		if time.Now().After(end) {
			t.Fatalf("got %+v", show(t, m, name))
		}
	}
}

// A power cut can leave a unit file of 0 bytes, which systemd takes for a masked unit.
func TestHostEmptyFileIsMended(t *testing.T) {
	m := manager(t)
	const name = "gear-test-empty.service"
	path := filepath.Join(systemd.UnitDir, name)
	write(t, path, "")
	// A unit that wants it keeps it loaded, masked.
	install(t, systemd.UnitDir, api.TextFile{Name: "gear-test-wants.service",
		Text: head + "[Unit]\nWants=" + name + "\n[Service]\nExecStart=/bin/sleep 600\n"})
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for _, n := range []string{"gear-test-wants.service", name} {
			if err := errors.Join(m.Stop(ctx, n), systemd.RemoveUnits(systemd.UnitDir, []string{n})); err != nil {
				t.Error(err)
			}
		}
	})
	if err := m.Start(t.Context(), "gear-test-wants.service"); err != nil {
		t.Fatal(err)
	}
	if d := show(t, m, name); d.Load != "masked" {
		t.Fatalf("an empty file is %q here; this test proves nothing", d.Load)
	}
	changed := install(t, systemd.UnitDir, api.TextFile{Name: name, Text: head + "[Service]\nExecStart=/bin/sleep 600\n"})
	if reloaded, err := m.Refresh(t.Context(), changed); err != nil || !reloaded {
		t.Fatalf("reloaded %v, %v", reloaded, err)
	}
	if err := m.Start(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if reloaded, err := m.Refresh(t.Context(), changed); err != nil || reloaded {
		t.Errorf("reloaded again: %v, %v", reloaded, err)
	}
}

func TestHostRefreshKnowsSlicesByName(t *testing.T) {
	m := manager(t)
	const name = `gear-test\x2dslice.slice`
	slice := func(tasks string) api.TextFile {
		return api.TextFile{Name: name, Text: head + "[Slice]\nTasksMax=" + tasks + "\n"}
	}
	install(t, systemd.UnitDir, slice("10"))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := errors.Join(m.Stop(ctx, name), systemd.RemoveUnits(systemd.UnitDir, []string{name})); err != nil {
			t.Error(err)
		}
	})
	if err := m.Start(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	// systemd compares the file's time, which has a coarse clock on some file systems.
	later := time.Now().Add(time.Minute)
	changed := install(t, systemd.UnitDir, slice("20"))
	if err := os.Chtimes(filepath.Join(systemd.UnitDir, name), later, later); err != nil {
		t.Fatal(err)
	}
	if reloaded, err := m.Refresh(t.Context(), changed); err != nil || !reloaded {
		t.Errorf("reloaded %v, %v", reloaded, err)
	}
}

func TestHostConnectionSurvivesReexec(t *testing.T) {
	m := manager(t)
	name := unit(t, m, "gear-test-reexec.service", "ExecStart=/bin/sleep 600\n")
	if err := m.Start(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	pid := show(t, m, name).MainPID
	if _, err := hostexec.Run(t.Context(), hostexec.Cmd{Argv: []string{"systemctl", "daemon-reexec"}}); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if d := show(t, m, name); d.MainPID != pid || d.Active != "active" {
			t.Fatalf("after the re-exec: %+v, want process %d", d, pid)
		}
	}
	if err := m.Restart(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

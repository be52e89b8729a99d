//go:build host

package engine_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/engine/enginetest"
	"gearmesh.dev/geard/podstate"
)

// The engine of a host keeps the same contract as the fake. Run inside a lab host, with gear-oci installed.
func TestHostContract(t *testing.T) {
	enginetest.ImportImage(t)
	e, err := engine.New(engine.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	enginetest.Contract(t, e, func(id string) {
		record := podstate.Host().Record(id)
		if err := errors.Join(os.MkdirAll(filepath.Dir(record), 0o755), os.WriteFile(record, []byte("/proc/1/ns/net\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(record) })
	})
}

// A container that gear-run did not make is refused, and the engine passes the reason on.
func TestHostNoRecordNoStart(t *testing.T) {
	enginetest.ImportImage(t)
	e, err := engine.New(engine.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	id, err := e.Create(t.Context(), enginetest.Spec("norecord", "sleep 9"))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Remove(t.Context(), id)
	if err := e.Start(t.Context(), id); err == nil || !strings.Contains(err.Error(), "no network namespace is on record") {
		t.Errorf("got %v", err)
	}
	if _, err := e.ImageID(t.Context(), "nosuch.invalid/x:1"); !errors.Is(err, engine.ErrNoImage) {
		t.Errorf("got %v", err)
	}
	if err := e.Pull(t.Context(), "127.0.0.1:1/x:1", nil); !errors.Is(err, engine.ErrRegistry) {
		t.Errorf("got %v, want ErrRegistry", err)
	}
	list, err := e.ListByLabel(t.Context(), engine.LabelUID, "u")
	if err != nil || len(list) != 1 || list[0].ID != id || list[0].Running {
		t.Errorf("got %+v, %v", list, err)
	}
}

//go:build host

package engine_test

import (
	"errors"
	"io"
	"log/slog"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/engine/enginetest"
	"gearmesh.dev/geard/images"
)

// On a real dockerd the collector removes what nobody uses, and neither what a stopped container has nor what is not on its record.
func TestHostImagesAreCollected(t *testing.T) {
	enginetest.ImportImage(t)
	e, err := engine.New(engine.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	docker := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil {
			t.Fatalf("docker %v: %v: %s", args, err, out)
		}
	}
	// Three images that differ, one of them in a container that has never run.
	for _, name := range []string{"old", "held", "theirs"} {
		docker("create", "--name", "make-"+name, "--label", "n="+name, "bb:1", "true")
		docker("commit", "-m", name, "make-"+name, "gc/"+name+":1")
		docker("rm", "make-"+name)
	}
	docker("create", "--name", "holder", "gc/held:1", "true")
	t.Cleanup(func() {
		docker("rm", "-f", "holder")
		docker("rmi", "gc/held:1", "gc/theirs:1")
	})
	record := images.NewRecord(filepath.Join(t.TempDir(), "images.json"))
	for _, ref := range []string{"gc/old:1", "gc/held:1", "bb:1"} {
		if err := record.Pulled(ref, time.Now().Add(-48*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	c := images.Collector{Policy: images.Policy{Age: time.Hour}, Engine: e, Record: record, DiskOf: images.DiskOf,
		Needed: func() ([]string, error) { return []string{"bb:1"}, nil }, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	gone, err := c.Pass(t.Context(), time.Now())
	if err != nil || !slices.Equal(gone, []string{"gc/old:1"}) {
		t.Fatalf("removed %v, %v", gone, err)
	}
	for ref, there := range map[string]bool{"gc/old:1": false, "gc/held:1": true, "gc/theirs:1": true, "bb:1": true} {
		if _, err := e.ImageID(t.Context(), ref); errors.Is(err, engine.ErrNoImage) == there || err != nil && there {
			t.Errorf("%s: %v, want there %v", ref, err, there)
		}
	}
	if err := e.RemoveImage(t.Context(), "gc/held:1"); err == nil {
		t.Error("an image of a container was removed")
	}
}

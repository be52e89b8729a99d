//go:build lab

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/internal/failpoint"
)

// TestLabFaults does the critical faults that the story does not tell, at a few points each, and holds them to what must
// not happen. How long things take is for make faults: a test asserts no times.
func TestLabFaults(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(root)
	o, err := parse([]string{"-lab", os.Getenv("LAB_PREFIX") + "faultstest"}, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	var progress bytes.Buffer
	t.Cleanup(func() { t.Logf("%s", progress.String()) })
	r, err := newRig(o, &progress)
	if err != nil {
		t.Fatal(err)
	}
	r.cuts = []failpoint.Name{failpoint.UnitsWritten, failpoint.RunAfterRecord}
	r.starts = []failpoint.Name{failpoint.SaveBeforePod, failpoint.NetAfterVeth}
	r.removals = []failpoint.Name{failpoint.RemoveContainers}
	err = o.Within(t.Context(), r.Lab, func() error {
		if err := r.boot(t.Context()); err != nil {
			return err
		}
		for _, f := range []fault{{ID: "F1", Do: loseThePower}, {ID: "F2", Do: killAgent}, {ID: "F20", Do: badRegistry}, {ID: "F21", Do: rulesBack}} {
			t.Run(f.ID, func(t *testing.T) { check(t, r, f) })
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// check does a fault. Of its rows those count whose goal is that there is nothing of something.
func check(t *testing.T, r *rig, f fault) {
	rows, err := r.one(context.WithoutCancel(t.Context()), f)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if row.Unit != "ms" && row.Met != nil && !*row.Met {
			t.Errorf("%s: %s: %s %s, want %s", row.ID, row.What, figures.Number(row.Value), row.Unit, row.Goal)
		}
	}
}

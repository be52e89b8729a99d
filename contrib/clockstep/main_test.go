package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAStepMovesTheWallClockAlone builds a program with the overlay and steps its clock while it runs.
func TestAStepMovesTheWallClockAlone(t *testing.T) {
	dir := t.TempDir()
	if err := run([]string{dir}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "step") // the test writes no file in /run
	step, err := os.ReadFile(filepath.Join(dir, "step.go.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "step.go.txt"), []byte(strings.ReplaceAll(string(step), "/run/clock-step", file)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, make([]byte, 8), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "run", "-overlay", filepath.Join(dir, "overlay.json"), "./testdata/stepper", file).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "wall -3600 s, monotonic 0 s" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestAnotherGoIsRefused(t *testing.T) {
	if _, err := steppable([]byte("package time\n\nfunc Now() Time { return clock() }\n")); err == nil {
		t.Error("a time.go that reads the clock in another way is no error")
	}
}

//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func arm(t *testing.T, action string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, string(UnitsWritten)), []byte(action+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestActionsActOnce(t *testing.T) {
	for action, want := range map[string]string{"error the disk is full": "the disk is full", "sleep 1ms": "", "sleep long": "want for example", "jump": "unknown action"} {
		dir := arm(t, action)
		switch err := hit(dir, UnitsWritten); {
		case err == nil && want != "", err != nil && (want == "" || !strings.Contains(err.Error(), want)):
			t.Errorf("%s gives the error %v, want %q", action, err, want)
		}
		if _, err := os.Stat(filepath.Join(dir, string(UnitsWritten)+".hit")); err != nil {
			t.Errorf("%s leaves no trace: %v", action, err)
		}
		if err := hit(dir, UnitsWritten); err != nil {
			t.Errorf("%s acts twice: %v", action, err)
		}
	}
	if err := hit(arm(t, "error x"), UnitsWanted); err != nil {
		t.Errorf("a point that is not armed gives %v", err)
	}
}

// TestProcessEnds hits a point in a process of its own.
func TestProcessEnds(t *testing.T) {
	if dir := os.Getenv("FAILPOINT_DIR"); dir != "" {
		_ = hit(dir, UnitsWritten)
		time.Sleep(time.Minute)
	}
	for action, want := range map[string]string{"kill": "signal: killed", "exit": "exit status 1"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestProcessEnds$")
		cmd.Env = append(cmd.Environ(), "FAILPOINT_DIR="+arm(t, action))
		if err := cmd.Run(); err == nil || err.Error() != want {
			t.Errorf("%s ends the process with %v, want %q", action, err, want)
		}
	}
}

func TestGoroutinesAreCounted(t *testing.T) {
	dir := t.TempDir()
	stop := count(dir, "agent", time.Millisecond)
	defer stop()
	idle := make(chan struct{})
	defer close(idle)
	for range 100 {
		go func() { <-idle }()
	}
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		var pid, n int
		text, err := os.ReadFile(filepath.Join(dir, "goroutines-agent"))
		if err != nil {
			continue
		}
		if _, err := fmt.Sscan(string(text), &pid, &n); err == nil && pid == os.Getpid() && n > 100 {
			return
		}
	}
	t.Error("a hundred goroutines are not counted")
}

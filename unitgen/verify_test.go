package unitgen_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gearmesh.dev/api"
)

// systemd-analyze verify reads unit files without a running systemd. It exits with 0 on lines it
// ignores, so what counts is that it says nothing of our files but that gear-run is not installed here.
func TestSystemdAcceptsTheUnits(t *testing.T) {
	for name, p := range map[string]api.Pod{"two containers": shop(), "init containers": ordered(), "shared processes": shared(), "native": native(), "links waited for": waiting(), "singleton": singleton()} {
		t.Run(name, func(t *testing.T) { verifies(t, p) })
	}
}

func verifies(t *testing.T, p api.Pod) {
	t.Helper()
	dir := t.TempDir()
	argv := []string{"verify", "--man=no"}
	for _, f := range render(t, p) {
		path := filepath.Join(dir, f.Name)
		if err := os.WriteFile(path, []byte(f.Text), 0o644); err != nil {
			t.Fatal(err)
		}
		argv = append(argv, path)
	}
	out, _ := exec.Command("systemd-analyze", argv...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "gear") && !strings.Contains(line, "gear-run is not executable") {
			t.Errorf("systemd-analyze verify: %s", line)
		}
	}
	broken := filepath.Join(dir, "gear-broken.service")
	if err := os.WriteFile(broken, []byte("[Service]\nExecStart=/bin/true\nNope=1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, _ := exec.Command("systemd-analyze", "verify", broken).CombinedOutput(); !strings.Contains(string(out), "Nope") {
		t.Fatalf("systemd-analyze does not see an unknown key; this test proves nothing: %s", out)
	}
}

//go:build lab

package story

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gearmesh.dev/contrib/lab"
)

// hostTested are the packages with tests that need a real host: systemd, dockerd, the journal. They
// have the build tag host and names that start with TestHost.
func hostTested() []string {
	return []string{"internal/systemd", "internal/journal", "unitgen", "geard/engine", "geard/realhost", "cmd/gear-run"}
}

// TestLabHost runs these tests on one lab host, each package's by its own program.
func TestLabHost(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	binaries := []string{filepath.Join(root, "bin/gear-run")}
	for _, pkg := range hostTested() {
		bin := filepath.Join(dir, testBinary(pkg))
		build := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "host", "-o", bin, "gearmesh.dev/"+pkg)
		build.Env = append(build.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("building the tests of %s: %v: %s", pkg, err, out)
		}
		binaries = append(binaries, bin)
	}
	l, err := lab.New(lab.Config{Name: labName("host"), Binaries: binaries})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Down(t.Context()); err != nil { // what a run that was killed left
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	if err := l.Up(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for _, pkg := range hostTested() {
		t.Run(pkg, func(t *testing.T) {
			var out bytes.Buffer
			code, err := l.Exec(t.Context(), "h1", []string{"/usr/local/bin/" + testBinary(pkg), "-test.v", "-test.run", "^TestHost"},
				lab.Streams{Out: &out, Err: &out})
			if err != nil || code != 0 || !bytes.Contains(out.Bytes(), []byte("--- PASS")) {
				t.Errorf("status %d, %v:\n%s", code, err, out.String())
			}
		})
	}
}

func testBinary(pkg string) string { return "gear-" + strings.ReplaceAll(pkg, "/", "-") + ".test" }

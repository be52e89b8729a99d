//go:build lab

package systemdunits_test

import (
	"bytes"
	"context"
	"net/netip"
	"os/exec"
	"path/filepath"
	"testing"

	"gearmesh.dev/contrib/lab"
)

// TestLabHost runs the tests that need a real systemd (tag host, named TestHost...) on a lab host.
func TestLabHost(t *testing.T) {
	dir := t.TempDir()
	var binaries []string
	for name, pkg := range map[string]string{"gear-systemd.test": "internal/systemd", "gear-unitgen.test": "unitgen"} {
		bin := filepath.Join(dir, name)
		build := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "host", "-o", bin, "gearmesh.dev/"+pkg)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("building the tests of %s: %v: %s", pkg, err, out)
		}
		binaries = append(binaries, bin)
	}
	l, err := lab.New(lab.Config{Name: "units", Subnet: netip.MustParsePrefix("10.99.77.0/24"), Binaries: binaries})
	if err != nil {
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
	for _, bin := range binaries {
		var out bytes.Buffer
		code, err := l.Exec(t.Context(), "h1", []string{"/usr/local/bin/" + filepath.Base(bin), "-test.v", "-test.run", "^TestHost"},
			lab.Streams{Out: &out, Err: &out})
		if err != nil || code != 0 || !bytes.Contains(out.Bytes(), []byte("--- PASS")) {
			t.Errorf("%s: status %d, %v:\n%s", filepath.Base(bin), code, err, out.String())
		}
	}
}

package systemdunits_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"gearmesh.dev/api"
	systemdunits "gearmesh.dev/contrib/systemd"
)

func all(t *testing.T) []api.TextFile {
	t.Helper()
	files, err := systemdunits.Texts(append(systemdunits.Host(), systemdunits.Master)...)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// written puts the units where systemd-analyze can read them.
func written(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, f := range all(t) {
		if err := os.WriteFile(filepath.Join(dir, f.Name), []byte(f.Text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var exposure = regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)

func TestExposure(t *testing.T) {
	dir := written(t)
	most := map[string]float64{systemdunits.Master: 2, systemdunits.Router: 2, systemdunits.Agent: 5, systemdunits.HAProxy: 3, systemdunits.Links: 3}
	for unit, limit := range most {
		out, err := exec.Command("systemd-analyze", "security", "--no-pager", "--offline=true", filepath.Join(dir, unit)).CombinedOutput()
		found := exposure.FindSubmatch(out)
		if err != nil || found == nil {
			t.Fatalf("systemd-analyze security: %v: %s", err, out)
		}
		got, err := strconv.ParseFloat(string(found[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.1f", unit, got)
		if got > limit {
			t.Errorf("%s is exposed at %.1f, at most %.1f is allowed:\n%s", unit, got, limit, out)
		}
	}
}

func TestSystemdKnowsEveryLine(t *testing.T) {
	dir := written(t)
	argv := []string{"verify", "--man=no"}
	for _, f := range all(t) {
		argv = append(argv, filepath.Join(dir, f.Name))
	}
	out, _ := exec.Command("systemd-analyze", argv...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "gear") && !strings.Contains(line, "geard is not executable") && !strings.Contains(line, "gear-run is not executable") {
			t.Errorf("systemd-analyze verify: %s", line)
		}
	}
}

// What ties a unit to another one would stop pods when the control plane stops.
func TestNothingStopsWithAnother(t *testing.T) {
	for _, f := range all(t) {
		for line := range strings.Lines(f.Text) {
			key, _, _ := strings.Cut(line, "=")
			switch key {
			case "Requires", "BindsTo", "PartOf", "Requisite", "Conflicts", "PropagatesStopTo", "StopPropagatedFrom":
				t.Errorf("%s has %s", f.Name, line)
			}
		}
		if strings.Contains(f.Text, "RuntimeDirectory=gear\n") && !strings.Contains(f.Text, "RuntimeDirectoryPreserve=yes\n") {
			t.Errorf("%s takes /run/gear away when it stops", f.Name)
		}
		if !strings.HasPrefix(f.Text, "# written by gear, do not edit\n") {
			t.Errorf("%s does not say who wrote it", f.Name)
		}
	}
}

func TestUnknownUnit(t *testing.T) {
	if _, err := systemdunits.Texts("sshd.service"); err == nil {
		t.Error("a unit that is not ours was found")
	}
}

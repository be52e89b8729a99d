package systemd

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"gearmesh.dev/api"
)

func TestCompare(t *testing.T) {
	dir := t.TempDir()
	ours := api.TextFile{Name: "gear-a.service", Text: Mark + "\n# uid: u1\n[Unit]\n"}
	path := filepath.Join(dir, ours.Name)
	for name, tc := range map[string]struct {
		text string
		want FileState
	}{
		"same": {ours.Text, FileSame}, "edited": {ours.Text + "X=1\n", FileDiffers}, "empty": {"", FileMissing}, "zeros": {"\x00\x00", FileMissing},
		"somebody's": {"[Unit]\n", FileForeign}, "another pod's": {Mark + "\n# uid: u2\n", FileForeign},
	} {
		if err := os.WriteFile(path, []byte(tc.text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, _, err := Compare(dir, ours); err != nil || got != tc.want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got, _, err := Compare(dir, ours); err != nil || got != FileMissing {
		t.Errorf("missing: %s, %v", got, err)
	}
	if _, _, err := Compare(dir, api.TextFile{Name: "../x"}); err == nil {
		t.Error("a path is taken for a name")
	}
}

// A unit that the operator has masked is not written over, and can be removed.
func TestMaskedStays(t *testing.T) {
	dir := t.TempDir()
	f := api.TextFile{Name: "gear-a.service", Text: Mark + "\n"}
	if err := os.Symlink("/dev/null", filepath.Join(dir, f.Name)); err != nil {
		t.Fatal(err)
	}
	if changed, err := InstallUnits(dir, []api.TextFile{f}); err != nil || len(changed) > 0 || !Masked(dir, f.Name) {
		t.Errorf("changed %v, %v", changed, err)
	}
	if err := RemoveUnits(dir, []string{f.Name}); err != nil || Masked(dir, f.Name) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestDropIns(t *testing.T) {
	etc, run := t.TempDir(), t.TempDir()
	file := func(parts ...string) string {
		path := filepath.Join(parts...)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	b, a := file(etc, "gear-a.service.d", "b.conf"), file(run, "gear-a.service.d", "a.conf")
	file(etc, "gear-a.service.d", "note.txt")
	file(etc, "ssh.service.d", "x.conf")
	got := dropInsIn([]string{etc, run, filepath.Join(etc, "missing")}, "gear-")
	if len(got) != 1 || len(got["gear-a.service"]) != 2 || !reflect.DeepEqual(map[string]bool{a: true, b: true}, map[string]bool{got["gear-a.service"][0]: true, got["gear-a.service"][1]: true}) {
		t.Errorf("%v", got)
	}
}

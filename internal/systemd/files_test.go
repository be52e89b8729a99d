package systemd_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/systemd"
)

const head = systemd.Mark + ", do not edit\n"

func file(name, uid, rest string) api.TextFile {
	return api.TextFile{Name: name, Text: head + "# uid: " + uid + "\n" + rest}
}

func install(t *testing.T, dir string, files ...api.TextFile) []string {
	t.Helper()
	changed, err := systemd.InstallUnits(dir, files)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestInstallWritesOnlyWhatDiffers(t *testing.T) {
	dir := t.TempDir()
	a, b, c := file("gear-a.service", "u1", "x"), file("gear-b.service", "u1", "x"), file(`gear-c\x2dd.slice`, "u1", "x")
	if got := install(t, dir, c, b, a); !slices.Equal(got, []string{a.Name, b.Name, c.Name}) {
		t.Fatalf("first: %q", got)
	}
	if got := install(t, dir, a, b, c); got != nil {
		t.Fatalf("again: %q", got)
	}
	write(t, filepath.Join(dir, a.Name), "")
	write(t, filepath.Join(dir, b.Name), strings.Repeat("\x00", 4096))
	write(t, filepath.Join(dir, c.Name), c.Text+"edited")
	if got := install(t, dir, a, b, c); len(got) != 3 {
		t.Fatalf("empty, zeroed and edited: %q", got)
	}
	for _, f := range []api.TextFile{a, b, c} {
		if text, err := os.ReadFile(filepath.Join(dir, f.Name)); err != nil || string(text) != f.Text {
			t.Errorf("%s has %q, %v", f.Name, text, err)
		}
	}
}

func TestStrangersAreLeftAlone(t *testing.T) {
	tests := map[string]struct{ text, next string }{
		"somebody's unit":   {"[Service]\nExecStart=/bin/true\n", "move "},
		"another pod's":     {file("", "u2", "x").Text, "gear host forget-pod HOST u2"},
		"a project's slice": {head, "move "},
	}
	for name, tt := range tests {
		text := tt.text
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "gear-x.service")
			write(t, path, text)
			changed, err := systemd.InstallUnits(dir, []api.TextFile{file("gear-a.service", "u1", ""), file("gear-x.service", "u1", "")})
			if !errors.Is(err, systemd.ErrForeign) || changed != nil || !strings.Contains(err.Error(), tt.next) {
				t.Fatalf("got %q, %v", changed, err)
			}
			if now, _ := os.ReadFile(path); string(now) != text {
				t.Errorf("the file became %q", now)
			}
			if _, err := os.Stat(filepath.Join(dir, "gear-a.service")); err == nil {
				t.Error("one file of a refused set was written")
			}
		})
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	install(t, dir, file("gear-a.service", "u1", ""), file("gear-b.service", "u1", ""))
	for range 2 {
		if err := systemd.Want(dir, "gear.target", []string{"gear-a.service", "gear-b.service"}); err != nil {
			t.Fatal(err)
		}
	}
	if to, err := os.Readlink(filepath.Join(dir, "gear.target.wants/gear-a.service")); to != "../gear-a.service" {
		t.Fatalf("the link leads to %q, %v", to, err)
	}
	write(t, filepath.Join(dir, "gear-a.service.d/override.conf"), "[Service]\n")
	write(t, filepath.Join(dir, "gear-c.service"), "[Service]\n")
	for range 2 {
		if err := systemd.RemoveUnits(dir, []string{"gear-a.service", "gear-none.service"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := systemd.RemoveUnits(dir, []string{"gear-c.service"}); !errors.Is(err, systemd.ErrForeign) {
		t.Errorf("a stranger's unit: %v", err)
	}
	var left []string
	filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(dir, p); !d.IsDir() {
			left = append(left, rel)
		}
		return err
	})
	if want := []string{"gear-b.service", "gear-c.service", "gear.target.wants/gear-b.service"}; !slices.Equal(left, want) {
		t.Errorf("left are %q, want %q", left, want)
	}
}

func TestNamesAreNoPaths(t *testing.T) {
	for _, name := range []string{"", "../x.service", "a/b", ".hidden", "a\x00b"} {
		_, err := systemd.InstallUnits(t.TempDir(), []api.TextFile{{Name: name}})
		if errs := []error{err, systemd.RemoveUnits(t.TempDir(), []string{name}), systemd.Want(t.TempDir(), "t", []string{name})}; slices.Contains(errs, nil) {
			t.Errorf("%q: %v", name, errs)
		}
	}
}

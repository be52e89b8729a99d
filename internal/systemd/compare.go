package systemd

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gearmesh.dev/api"
)

// FileState is how a unit file stands to what it should be.
type FileState string

// The states of a unit file.
const (
	FileSame    FileState = "same"
	FileMissing FileState = "missing" // not there, or without content, as a power cut leaves it
	FileDiffers FileState = "differs"
	FileForeign FileState = "foreign" // somebody else's, or another pod's
	FileMasked  FileState = "masked"  // the operator has linked it to /dev/null (systemctl mask), which is respected
)

// Compare tells how a unit file in dir stands to f, and gives its present text. It changes nothing.
func Compare(dir string, f api.TextFile) (FileState, string, error) {
	if err := checkName(f.Name); err != nil {
		return "", "", err
	}
	if Masked(dir, f.Name) {
		return FileMasked, "", nil
	}
	old, err := os.ReadFile(filepath.Join(dir, f.Name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return FileMissing, "", nil
	case err != nil:
		return "", "", err
	case lostContent(old):
		return FileMissing, "", nil
	case !strings.HasPrefix(string(old), Mark) || owner(string(old)) != owner(f.Text):
		return FileForeign, string(old), nil
	case string(old) != f.Text:
		return FileDiffers, string(old), nil
	}
	return FileSame, string(old), nil
}

// Masked tells whether the operator has masked a unit: its file is a link to /dev/null. systemctl mask makes none
// where a file of that name is in dir, so an operator moves that away or links over it (ln -sf).
func Masked(dir, name string) bool {
	target, err := os.Readlink(filepath.Join(dir, name))
	return err == nil && target == os.DevNull
}

// Wanted tells whether target starts a unit at boot.
func Wanted(dir, target, name string) bool {
	_, err := os.Lstat(filepath.Join(dir, target+".wants", name))
	return err == nil
}

// dropInDirs are where operators and packages put drop-ins, and systemctl edit --runtime (systemd.unit(5)).
func dropInDirs() []string {
	return []string{UnitDir, "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"}
}

// DropIns gives the drop-in files of all units whose names begin with prefix, by unit, as paths. Nothing of ours
// makes any, so they are all somebody's wish.
func DropIns(prefix string) map[string][]string { return dropInsIn(dropInDirs(), prefix) }

func dropInsIn(dirs []string, prefix string) map[string][]string {
	out := map[string][]string{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // most hosts have not all of them
		}
		for _, e := range entries {
			unit, ok := strings.CutSuffix(e.Name(), ".d")
			if !ok || !strings.HasPrefix(unit, prefix) {
				continue
			}
			files, err := filepath.Glob(filepath.Join(dir, e.Name(), "*.conf"))
			if err == nil && len(files) > 0 {
				out[unit] = append(out[unit], files...)
			}
		}
	}
	for _, files := range out {
		slices.Sort(files)
	}
	return out
}

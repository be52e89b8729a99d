package systemd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/atomicfile"
	"golang.org/x/sync/errgroup"
)

// UnitDir is where the host's administrator, and we, keep unit files (systemd.unit(5)).
const UnitDir = "/etc/systemd/system"

// Mark opens every unit file of ours. A file without it is somebody else's and is never replaced or removed.
const Mark = "# written by gear"

// ErrForeign means that a unit file of that name belongs to somebody else, or to another pod.
var ErrForeign = errors.New("the file is not ours")

// InstallUnits writes the files to dir that are missing, empty or different, each whole and
// durably, and gives the names of those it wrote, sorted. One that the operator has masked stays so. It refuses
// to replace a file that is not ours, and one that names another uid: service names of two pods can meet.
func InstallUnits(dir string, files []api.TextFile) (changed []string, err error) {
	for _, f := range files {
		differs, err := differs(dir, f)
		if err != nil {
			return nil, err
		}
		if differs {
			changed = append(changed, f.Name)
		}
	}
	// Written side by side: the file system then flushes them to disk together.
	var g errgroup.Group
	g.SetLimit(8)
	for _, f := range files {
		if slices.Contains(changed, f.Name) {
			g.Go(func() error { return atomicfile.Write(filepath.Join(dir, f.Name), []byte(f.Text), 0o644) })
		}
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("installing units: %w", err)
	}
	slices.Sort(changed)
	return changed, nil
}

func differs(dir string, f api.TextFile) (bool, error) {
	state, text, err := Compare(dir, f)
	switch {
	case err != nil:
		return false, fmt.Errorf("installing unit %q: %w", f.Name, err)
	case state == FileForeign && strings.HasPrefix(text, Mark) && owner(text) != "":
		return false, fmt.Errorf("installing unit %q: %w: the pod with uid %s has it, which is on this host too; when the master does not know that one, gear host forget-pod HOST %[3]s removes it", f.Name, ErrForeign, owner(text))
	case state == FileForeign:
		return false, fmt.Errorf("installing unit %q: %w: move %s away", f.Name, ErrForeign, filepath.Join(dir, f.Name))
	}
	return state == FileMissing || state == FileDiffers, nil
}

// lostContent tells whether a file is what a power cut leaves: nothing, or blocks of zeros.
func lostContent(data []byte) bool { return len(bytes.Trim(data, "\x00")) == 0 }

// owner gives the value of the line "# uid: " in a file's head, or "".
func owner(text string) string {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			return ""
		}
		if uid, ok := strings.CutPrefix(line, "# uid: "); ok {
			return strings.TrimSpace(uid)
		}
	}
	return ""
}

// Want makes target start the units when it starts, at boot: the links that systemctl enable
// makes. It takes no daemon-reload to be true at the next boot.
func Want(dir, target string, units []string) error {
	wants := filepath.Join(dir, target+".wants")
	if err := os.MkdirAll(wants, 0o755); err != nil {
		return fmt.Errorf("enabling units: %w", err)
	}
	made := false
	for _, u := range units {
		if err := checkName(u); err != nil {
			return err
		}
		err := os.Symlink("../"+u, filepath.Join(wants, u))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("enabling unit %q: %w", u, err)
		}
		made = made || err == nil
	}
	if !made {
		return nil
	}
	return atomicfile.SyncDir(wants)
}

// RemoveUnits removes unit files of ours from dir, with their drop-ins and the links of every
// target that wants them. What is not there is as it should be; what is not ours stays.
func RemoveUnits(dir string, names []string) error {
	var errs []error
	for _, n := range names {
		errs = append(errs, removeUnit(dir, n))
	}
	return errors.Join(append(errs, atomicfile.SyncDir(dir))...)
}

func removeUnit(dir, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing unit %q: %w", name, err)
	}
	if !lostContent(text) && !strings.HasPrefix(string(text), Mark) {
		return fmt.Errorf("removing unit %q: %w", name, ErrForeign)
	}
	doomed, err := links(dir, name)
	if err != nil {
		return err
	}
	for _, p := range append(doomed, path) {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing unit %q: %w", name, err)
		}
	}
	if err := os.RemoveAll(path + ".d"); err != nil {
		return fmt.Errorf("removing the drop-ins of unit %q: %w", name, err)
	}
	return nil
}

// links finds the .wants entries of a unit.
func links(dir, name string) ([]string, error) {
	targets, err := filepath.Glob(filepath.Join(dir, "*.wants"))
	if err != nil {
		return nil, fmt.Errorf("removing unit %q: %w", name, err)
	}
	for i, t := range targets {
		targets[i] = filepath.Join(t, name)
	}
	return targets, nil
}

// checkName refuses what would be a path.
func checkName(name string) error {
	if name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q is no unit name", name)
	}
	return nil
}

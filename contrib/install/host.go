package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	systemdunits "gearmesh.dev/contrib/systemd"
	"gearmesh.dev/internal/atomicfile"
	"gearmesh.dev/internal/systemd"
)

const binDir = "/usr/local/bin"

// binaries copies what /usr/local/bin lacks from beside the running program.
func (i *installer) binaries(context.Context) (string, error) {
	dir := i.path(binDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("installing binaries: %w", err)
	}
	var did []string
	for _, name := range []string{"gear", "geard", "gear-run"} {
		if i.exists(filepath.Join(binDir, name)) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(i.Binaries, name))
		if err != nil {
			return "", fmt.Errorf("%s is neither in %s nor beside this program: %w; unpack the whole release there", name, binDir, err)
		}
		if err := atomicfile.Write(filepath.Join(dir, name), data, 0o755); err != nil {
			return "", err
		}
		did = append(did, name)
	}
	err := os.Symlink("gear-run", filepath.Join(dir, "gear-oci"))
	if err == nil {
		did = append(did, "gear-oci")
	} else if !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("installing gear-oci: %w", err)
	}
	return sentence("installed %s in "+binDir, did), nil
}

// units writes unit files and makes systemd read them where they differ.
func (i *installer) units(names ...string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		files, err := systemdunits.Texts(names...)
		if err != nil {
			return "", err
		}
		if err := os.MkdirAll(i.path(systemd.UnitDir), 0o755); err != nil {
			return "", fmt.Errorf("writing units: %w", err)
		}
		changed, err := systemd.InstallUnits(i.path(systemd.UnitDir), files)
		if err != nil || len(changed) == 0 {
			return "", err
		}
		if _, err := i.Runner.Run(ctx, "systemctl", "daemon-reload"); err != nil {
			return "", err
		}
		return sentence("wrote %s", changed), nil
	}
}

// start enables units for the next boot and starts them now, where they are not.
func (i *installer) start(ctx context.Context, units ...string) (string, error) {
	var did []string
	for _, u := range units {
		for _, verb := range []struct{ question, command, word string }{
			{"is-enabled", "enable", "enabled "}, {"is-active", "start", "started "},
		} {
			if _, err := i.Runner.Run(ctx, "systemctl", "--quiet", verb.question, u); err == nil {
				continue
			}
			if err := i.systemctl(ctx, verb.command, u); err != nil {
				return "", err
			}
			did = append(did, verb.word+u)
		}
	}
	return sentence("%s", did), nil
}

// systemctl runs a verb on a unit for Patience at most: a unit may take minutes to say that it cannot start.
func (i *installer) systemctl(ctx context.Context, verb, unit string) error {
	ctx, cancel := context.WithTimeout(ctx, i.Patience)
	defer cancel()
	if _, err := i.Runner.Run(ctx, "systemctl", verb, unit); err != nil {
		return fmt.Errorf("%w; see why with: journalctl -u %s -n 30", err, unit)
	}
	return nil
}

// await asks until the answer is no error, for Patience at most; look is the command that tells more.
func (i *installer) await(ctx context.Context, what, look string, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, i.Patience)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %s, in vain: %w; see why with: %s", i.Patience, what, err, look)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// sentence says what was done to which things, or "" when to none.
func sentence(format string, things []string) string {
	if len(things) == 0 {
		return ""
	}
	return fmt.Sprintf(format, strings.Join(things, ", "))
}

// private makes a directory for root alone, below one that all may pass.
func private(dir string) error {
	if err := errors.Join(os.MkdirAll(filepath.Dir(dir), 0o755), os.MkdirAll(dir, 0o700)); err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	return nil
}

// write writes a file when its content differs.
func write(path string, data []byte, perm os.FileMode) (changed bool, err error) {
	if old, err := os.ReadFile(path); err == nil && string(old) == string(data) {
		return false, nil
	}
	return true, atomicfile.Write(path, data, perm)
}

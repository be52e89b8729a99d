package router

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/atomicfile"
	"gearmesh.dev/internal/hostexec"
)

// files keeps the router's directory: haproxy.cfg and hosts.map, from which HAProxy starts by
// itself at any time, and directory.json, from which they are made again.
type files struct {
	settings Settings
	haproxy  string // path or name of the program
	checked  string // shape that HAProxy has found right
}

// write puts a configuration on disk, checked by HAProxy first unless only addresses changed. When
// it is refused, the old files stay. The map comes last, as it does in HAProxy: until then a name that moves leads to
// no server, rather than to somebody else's. Only the very first comes before, since the check reads it.
func (f *files) write(ctx context.Context, c Config) error {
	if _, err := os.Stat(f.settings.MapFile()); errors.Is(err, fs.ErrNotExist) {
		if err := f.replace(f.settings.MapFile(), c.Map()); err != nil {
			return err
		}
	}
	text := c.File()
	if f.checked != c.shape() {
		if err := f.check(ctx, text); err != nil {
			return err
		}
		f.checked = c.shape()
	}
	if err := f.replace(f.settings.File(), text); err != nil {
		return err
	}
	return f.replace(f.settings.MapFile(), c.Map())
}

// check lets HAProxy read a configuration without starting it.
func (f *files) check(ctx context.Context, text []byte) error {
	path := f.settings.File() + ".new"
	defer func() { _ = os.Remove(path) }() // at worst, the next check writes over it
	if err := atomicfile.Write(path, text, 0o644); err != nil {
		return err
	}
	if _, err := hostexec.Run(ctx, hostexec.Cmd{Argv: []string{f.haproxy, "-c", "-f", path}}); err != nil {
		return fmt.Errorf("checking the configuration of HAProxy: %w", err)
	}
	return nil
}

// replace writes a file unless it has this text already.
func (f *files) replace(path string, text []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return nil
	}
	return atomicfile.Write(path, text, 0o644)
}

func (f *files) directoryFile() string { return filepath.Join(f.settings.Dir, "directory.json") }

// remember keeps the directory for the next start.
func (f *files) remember(d api.Directory) error {
	data, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("keeping the directory: %w", err)
	}
	return f.replace(f.directoryFile(), append(data, '\n'))
}

// recall reads the directory that was kept; false when there is none.
func (f *files) recall() (api.Directory, bool, error) {
	var d api.Directory
	data, err := os.ReadFile(f.directoryFile())
	if errors.Is(err, fs.ErrNotExist) {
		return d, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &d)
	}
	if err != nil {
		return d, false, fmt.Errorf("reading the directory of the last run: %w", err)
	}
	return d, true, nil
}

// exist tells whether HAProxy could start from what is on disk.
func (f *files) exist() bool {
	cfg, err := os.Stat(f.settings.File())
	_, mapErr := os.Stat(f.settings.MapFile())
	return err == nil && mapErr == nil && cfg.Size() > 0
}

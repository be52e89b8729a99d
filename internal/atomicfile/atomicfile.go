// Package atomicfile writes files that are either the old or the new one, whole, also after a
// power cut or on a full disk.
//
// A plain O_TRUNC write leaves 0 bytes on a full disk, and a rename without fsync may leave 0 bytes after a
// power cut; systemd then treats a unit as masked. So: a temporary file in the same directory,
// write, fsync, rename, fsync of the directory.
package atomicfile

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// Write replaces path by data with mode perm.
func Write(path string, data []byte, perm os.FileMode) error {
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(perm))
	if err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	defer func() { _ = f.Cleanup() }() // nothing after a replace; before it, the first error is the one to tell
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	return SyncDir(filepath.Dir(path))
}

// WriteJSON replaces path by v as indented JSON, for people to read.
func WriteJSON(path string, v any, perm os.FileMode) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	return Write(path, append(data, '\n'), perm)
}

// SyncDir makes the names in a directory durable (fsync(2): syncing a file does not sync its name).
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing directory %q: %w", dir, err)
	}
	return nil
}

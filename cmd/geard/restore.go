package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"gearmesh.dev/contrib/install"
	"gearmesh.dev/internal/backup"
	"gearmesh.dev/master"
	"gearmesh.dev/master/store/etcd"
)

// runRestore makes a master's directory from a backup on standard input, as gear restore opens it.
func runRestore(ctx context.Context, args []string, log *slog.Logger) error {
	f := flag.NewFlagSet("geard restore", flag.ContinueOnError)
	dir := f.String("dir", install.MasterDir, "directory of the master, which must not be one yet")
	if err := f.Parse(args); err != nil {
		return err
	}
	return restore(ctx, os.Stdin, *dir, log)
}

// restore builds the directory under another name, so that half of one is never taken for a master.
func restore(ctx context.Context, in io.Reader, dir string, log *slog.Logger) error {
	if left, err := os.ReadDir(dir); err == nil && len(left) > 0 {
		return fmt.Errorf("%q is not empty: move it away first, once its master is stopped", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("looking at the master's directory: %w", err)
	}
	from, err := backup.NewReader(in)
	if err != nil {
		return err
	}
	half := dir + ".restoring"
	if err := os.RemoveAll(half); err != nil {
		return fmt.Errorf("clearing what an earlier restore left: %w", err)
	}
	n, err := fill(ctx, from, half, log)
	if err != nil {
		return errors.Join(err, os.RemoveAll(half))
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replacing the empty directory: %w", err)
	}
	if err := os.Rename(half, dir); err != nil {
		return fmt.Errorf("putting the master's directory in place: %w", err)
	}
	log.Info("the master is restored", "directory", dir, "keys", n, "made", from.Header.Made, "revision", from.Header.Revision, "domain", string(from.Header.Kit.Domain))
	return nil
}

func fill(ctx context.Context, from *backup.Reader, dir string, log *slog.Logger) (int, error) {
	if err := install.WriteKit(dir, from.Header.Kit); err != nil {
		return 0, err
	}
	s, err := etcd.Start(ctx, etcd.Config{Dir: filepath.Join(dir, "etcd")}, log)
	if err != nil {
		return 0, err
	}
	n, err := master.Restore(ctx, s, from)
	return n, errors.Join(err, s.Close())
}

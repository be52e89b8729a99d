package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Extract unpacks an archive of one file or directory as the path to, whatever its first name is. A file
// replaces a file; a directory joins one that is there. Everything is written under an os.Root, so that no link that was
// there before, or came with the archive, leads out of to's directory.
func Extract(to string, from io.Reader, limits Limits, left func(name, why string)) error {
	x := &extract{reader: reader{tar: tar.NewReader(from), limits: limits, left: left}, to: to}
	defer x.close()
	for {
		h, err := x.next()
		if errors.Is(err, io.EOF) {
			return x.finish()
		}
		if err != nil {
			return err
		}
		if err := x.entry(h); err != nil {
			return fmt.Errorf("unpacking %q: %w", h.Name, err)
		}
	}
}

// extract is an Extract on its way.
type extract struct {
	reader
	to    string
	first string   // name of the archive's first entry, which becomes to
	root  *os.Root // the directory to, or the one that a single file is in
	base  string   // of a single file: its name in root
	dirs  []*tar.Header
}

func (x *extract) entry(h *tar.Header) error {
	if x.root == nil {
		return x.begin(h)
	}
	rest, ok := strings.CutPrefix(h.Name, x.first+"/")
	if x.base != "" || !ok && h.Name != x.first {
		return fmt.Errorf("it is not in %q, which the archive began with", x.first)
	}
	if !ok {
		return nil // the directory itself, again
	}
	return x.write(rest, h)
}

// begin opens what everything goes into.
func (x *extract) begin(h *tar.Header) (err error) {
	x.first = h.Name
	if strings.Contains(h.Name, "/") || h.Name == "." {
		return errors.New("an archive begins with what was asked for")
	}
	if h.Typeflag == tar.TypeDir {
		if err := os.Mkdir(x.to, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if x.root, err = os.OpenRoot(x.to); err == nil {
			x.dirs = append(x.dirs, dirHeader(h, "."))
		}
		return err
	}
	x.base = filepath.Base(x.to)
	if x.root, err = os.OpenRoot(filepath.Dir(x.to)); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg {
		return errors.New("it is neither a file nor a directory; copy what it leads to")
	}
	return x.file(x.base, h)
}

func dirHeader(h *tar.Header, name string) *tar.Header {
	own := *h
	own.Name = name
	return &own
}

func (x *extract) write(name string, h *tar.Header) error {
	if err := x.realParents(name); err != nil {
		return err
	}
	name = filepath.FromSlash(name)
	switch h.Typeflag {
	case tar.TypeDir:
		if err := x.root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		x.dirs = append(x.dirs, dirHeader(h, name))
		return nil
	case tar.TypeReg:
		return x.file(name, h)
	}
	if err := x.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if h.Typeflag == tar.TypeSymlink {
		return x.root.Symlink(h.Linkname, name)
	}
	old := filepath.FromSlash(strings.TrimPrefix(h.Linkname, x.first+"/"))
	// A second name of a symbolic link may stand elsewhere, where its target leads out.
	if info, err := x.root.Lstat(old); err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("it is a link to %q, which is no file", h.Linkname))
	}
	return x.root.Link(old, name)
}

// realParents refuses a name that leads through a symbolic link: what is put there would stand elsewhere than
// its name says, and so its own link could lead out.
func (x *extract) realParents(name string) error {
	for i, c := range name {
		if c != '/' {
			continue
		}
		if info, err := x.root.Lstat(filepath.FromSlash(name[:i])); err != nil || !info.IsDir() {
			return errors.Join(err, fmt.Errorf("%q is no directory", name[:i]))
		}
	}
	return nil
}

// file writes a file. What has the name already goes first, so that neither a link is followed nor another
// name of the same file changed.
func (x *extract) file(name string, h *tar.Header) error {
	if info, err := x.root.Lstat(name); err == nil && !info.IsDir() {
		if err := x.root.Remove(name); err != nil {
			return err
		}
	}
	f, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, x.tar); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Chmod(fs.FileMode(h.Mode)); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return x.root.Chtimes(name, h.ModTime, h.ModTime)
}

// finish sets what directories should be last: one that may not be written to could not be filled.
func (x *extract) finish() error {
	if x.root == nil {
		return errors.New("the archive is empty")
	}
	for _, h := range slices.Backward(x.dirs) {
		if err := x.root.Chmod(h.Name, fs.FileMode(h.Mode)); err != nil {
			return fmt.Errorf("unpacking %q: %w", h.Name, err)
		}
		if err := x.root.Chtimes(h.Name, h.ModTime, h.ModTime); err != nil {
			return fmt.Errorf("unpacking %q: %w", h.Name, err)
		}
	}
	return nil
}

func (x *extract) close() {
	if x.root != nil {
		x.root.Close()
	}
}

// Pack writes a file or directory as an archive whose names begin with name. What would be left
// out when it is unpacked is left out here.
func Pack(to io.Writer, from, name string, left func(name, why string)) error {
	w := tar.NewWriter(to)
	info, err := os.Stat(from) // a link that is named itself is followed
	if err != nil {
		return err
	}
	if !info.IsDir() {
		if err := packFile(w, func() (*os.File, error) { return os.Open(from) }, info, name, left); err != nil {
			return err
		}
		return w.Close()
	}
	root, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return packEntry(w, root, at, strings.TrimSuffix(name+"/"+at, "/."), info, left)
	})
	if err != nil {
		return err
	}
	return w.Close()
}

func packEntry(w *tar.Writer, root *os.Root, at, name string, info fs.FileInfo, left func(name, why string)) error {
	switch {
	case info.IsDir():
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: int64(info.Mode().Perm()), ModTime: info.ModTime()})
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := root.Readlink(at)
		if err != nil {
			return err
		}
		h := &tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777, ModTime: info.ModTime()}
		if why := unfit(name, h); why != "" {
			left(name, why)
			return nil
		}
		return w.WriteHeader(h)
	}
	return packFile(w, func() (*os.File, error) { return root.Open(at) }, info, name, left)
}

func packFile(w *tar.Writer, open func() (*os.File, error), info fs.FileInfo, name string, left func(name, why string)) error {
	if !info.Mode().IsRegular() {
		left(name, "it is neither file, directory nor link")
		return nil
	}
	f, err := open()
	if err != nil {
		return err
	}
	defer f.Close()
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: info.Size(), Mode: int64(info.Mode().Perm()), ModTime: info.ModTime()}); err != nil {
		return fmt.Errorf("packing %q: %w", name, err)
	}
	n, err := io.Copy(w, io.LimitReader(f, info.Size()))
	if err == nil && n < info.Size() {
		err = errors.New("it became shorter while it was read")
	}
	if err != nil {
		return fmt.Errorf("packing %q: %w", name, err)
	}
	return nil
}

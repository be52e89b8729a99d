// Package archive unpacks, packs and filters tar archives of strangers (gear cp): a container may hold
// any file, and its archive any name.
//
// What may be in one: directories, files, and links that stay inside of it. Everything else is left out and told
// about: devices, pipes, links that lead out. Set-user-id, set-group-id and sticky bits are dropped. A name that leads
// out, or an archive over its Limits, ends all with an error: no honest program writes the first, and half a copy
// is none.
package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Limits bounds an archive.
type Limits struct {
	Bytes   int64 // of all files together, unpacked
	Entries int
	Depth   int // of directories
}

// Default gives bounds that are far from what people copy by hand.
func Default() Limits { return Limits{Bytes: 64 << 30, Entries: 1 << 20, Depth: 100} }

// reader gives the entries of an archive that may be used, with clean names.
type reader struct {
	tar    *tar.Reader
	limits Limits
	left   func(name, why string) // told of what is left out
	bytes  int64
	count  int
}

// next gives the next entry; io.EOF at the end. Its name is clean, relative and inside; a link's too, in the
// archive's own terms for a hard link, as it stands for a symbolic one.
func (r *reader) next() (*tar.Header, error) {
	for {
		h, err := r.tar.Next()
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		if err != nil {
			return nil, fmt.Errorf("reading the archive: %w", err)
		}
		if err := r.bound(h); err != nil {
			return nil, err
		}
		name, err := inside(h.Name)
		if err != nil {
			return nil, err
		}
		if depth := strings.Count(name, "/"); depth > r.limits.Depth {
			return nil, fmt.Errorf("the archive has a path %d directories deep; the most is %d", depth, r.limits.Depth)
		}
		if why := unfit(name, h); why != "" {
			r.left(name, why)
			continue
		}
		h.Name, h.Mode = name, h.Mode&0o777
		return h, nil
	}
}

func (r *reader) bound(h *tar.Header) error {
	r.count++
	if r.count > r.limits.Entries {
		return fmt.Errorf("the archive has more than %d entries", r.limits.Entries)
	}
	if h.Size < 0 || h.Size > r.limits.Bytes-r.bytes {
		return fmt.Errorf("the archive's files have more than %d bytes", r.limits.Bytes)
	}
	r.bytes += h.Size
	return nil
}

// inside cleans a name, and refuses one that leads out.
func inside(name string) (string, error) {
	clean := path.Clean(strings.TrimSuffix(name, "/"))
	if name == "" || path.IsAbs(name) || clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("the archive has the name %.200q, which leads out of it", name)
	}
	return clean, nil
}

// unfit says why an entry is left out, or "".
func unfit(name string, h *tar.Header) string {
	switch h.Typeflag {
	case tar.TypeDir, tar.TypeReg:
		return ""
	case tar.TypeLink:
		target, err := inside(h.Linkname)
		if err != nil || top(target) != top(name) {
			return fmt.Sprintf("it is a link to %.200q, out of what is copied", h.Linkname)
		}
		h.Linkname = target
		return ""
	case tar.TypeSymlink:
		target := path.Join(path.Dir(name), h.Linkname)
		if h.Linkname == "" || path.IsAbs(h.Linkname) || top(target) != top(name) || strings.ContainsRune(h.Linkname, 0) {
			return fmt.Sprintf("it is a link to %.200q, out of what is copied", h.Linkname)
		}
		return ""
	case tar.TypeChar, tar.TypeBlock:
		return "it is a device"
	case tar.TypeFifo:
		return "it is a pipe"
	}
	return fmt.Sprintf("it is of a kind (%q) that is not copied", h.Typeflag)
}

func top(name string) string { first, _, _ := strings.Cut(name, "/"); return first }

// Filter copies what may be of an archive into another. Owners are dropped, so that it belongs to whom it is
// unpacked for.
func Filter(to io.Writer, from io.Reader, limits Limits, left func(name, why string)) error {
	r := &reader{tar: tar.NewReader(from), limits: limits, left: left}
	w := tar.NewWriter(to)
	for {
		h, err := r.next()
		if errors.Is(err, io.EOF) {
			return w.Close()
		}
		if err != nil {
			return err
		}
		fresh := &tar.Header{Typeflag: h.Typeflag, Name: h.Name, Linkname: h.Linkname, Size: h.Size, Mode: h.Mode, ModTime: h.ModTime}
		if h.Typeflag == tar.TypeDir {
			fresh.Name += "/"
		}
		if err := w.WriteHeader(fresh); err != nil {
			return fmt.Errorf("writing %q to the archive: %w", h.Name, err)
		}
		if _, err := io.Copy(w, r.tar); err != nil {
			return fmt.Errorf("copying %q: %w", h.Name, err)
		}
	}
}

package lab

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// disk is a host's root directory as this machine sees it: through its process
// 1 while it runs, since an overlay's upper layer must not change under it, and
// the upper layer itself while it is off. os.Root keeps links inside.
func (h host) disk() (*os.Root, error) {
	dir := h.file("upper")
	if p, ok := h.running(); ok {
		dir = fmt.Sprintf("/proc/%d/root", p.pid)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the disk of host %q: %w", h.name, err)
	}
	return root, nil
}

// newDisk makes the directories of a host that has none.
func newDisk(h host) error {
	for _, dir := range []string{"upper", "work", "docker", "root"} {
		if err := os.MkdirAll(h.file(dir), 0o755); err != nil {
			return fmt.Errorf("making the disk of host %q: %w", h.name, err)
		}
	}
	return nil
}

// furnish writes what the lab decides about a host: names, docker, binaries.
func (l *Lab) furnish(h host, hosts []host, registry netip.AddrPort) error {
	root, err := h.disk()
	if err != nil {
		return err
	}
	defer root.Close()
	texts := map[string]string{
		"etc/hostname":           h.name + "\n",
		"etc/hosts":              hostsFile(hosts, registry.Addr()),
		"etc/docker/daemon.json": dockerConfig(registry),
	}
	for path, text := range texts {
		if err := putFile(root, path, strings.NewReader(text), 0o644); err != nil {
			return fmt.Errorf("furnishing host %q: %w", h.name, err)
		}
	}
	if err := putBinaries(root, l.cfg.Binaries); err != nil {
		return fmt.Errorf("furnishing host %q: %w", h.name, err)
	}
	return nil
}

// RegistryName is the name under which hosts know the lab's registry, so that one manifest fits
// every lab: registry.lab:5000/guestbook/web:1.
const RegistryName = "registry.lab"

// hostsFile is every host's /etc/hosts.
func hostsFile(hosts []host, registry netip.Addr) string {
	var b strings.Builder
	b.WriteString("# Written by gear lab, do not edit.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n")
	fmt.Fprintf(&b, "%s\t%s\n", registry, RegistryName)
	for _, h := range hosts {
		fmt.Fprintf(&b, "%s\t%s\n", h.addr, h.name)
	}
	return b.String()
}

// dockerConfig is every host's daemon.json. dockerd looks for the gear runtime
// only when a container asks for it, so the binary may come later.
func dockerConfig(registry netip.AddrPort) string {
	config := map[string]any{
		"exec-opts":           []string{"native.cgroupdriver=systemd"},
		"insecure-registries": []string{registry.String(), fmt.Sprintf("%s:%d", RegistryName, registry.Port())},
		"live-restore":        true,
		"runtimes":            map[string]any{"gear": map[string]string{"path": "/usr/local/bin/gear-oci"}},
		"storage-driver":      "overlay2",
	}
	text, err := json.MarshalIndent(config, "", "\t")
	if err != nil {
		panic(err) // strings and booleans always encode
	}
	return string(text) + "\n"
}

// putBinaries copies files into usr/local/bin. gear-run is also the OCI runtime
// wrapper, under the name gear-oci.
func putBinaries(root *os.Root, files []string) error {
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		name := filepath.Base(file)
		err = putFile(root, "usr/local/bin/"+name, f, 0o755)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if name == "gear-run" {
			if err := putLink(root, "usr/local/bin/gear-oci", name); err != nil {
				return err
			}
		}
	}
	return nil
}

// putLink makes path a symbolic link to target.
func putLink(root *os.Root, path, target string) error {
	if have, err := root.Readlink(path); err == nil && have == target {
		return nil
	}
	if err := root.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return root.Symlink(target, path)
}

// putFile makes path have content, and leaves it alone if it already has. A
// running program's file is replaced by a rename, never written over.
func putFile(root *os.Root, path string, content io.ReadSeeker, mode fs.FileMode) error {
	same, err := sameContent(root, path, content)
	if err != nil || same {
		return err
	}
	if err := mkdirs(root, filepath.Dir(path)); err != nil {
		return err
	}
	tmp := path + ".lab-tmp"
	f, err := root.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	return root.Rename(tmp, path)
}

// mkdirs makes dir below root with plain modes, whatever the umask.
func mkdirs(root *os.Root, dir string) error {
	parts := strings.Split(dir, "/")
	for i := range parts {
		path := strings.Join(parts[:i+1], "/")
		err := root.Mkdir(path, 0o755)
		if err == nil {
			err = root.Chmod(path, 0o755)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// sameContent compares path with content and rewinds content.
func sameContent(root *os.Root, path string, content io.ReadSeeker) (bool, error) {
	want, err := digest(content)
	if err != nil {
		return false, err
	}
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	f, err := root.Open(path)
	if err != nil {
		return false, nil // missing or odd: write it
	}
	defer f.Close()
	have, err := digest(f)
	return err == nil && bytes.Equal(have, want), nil
}

func digest(r io.Reader) ([]byte, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

// mountsBelow lists this machine's mount points under dir, deepest first.
func mountsBelow(mountinfo, dir string) []string {
	var points []string
	for line := range strings.Lines(mountinfo) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			points = append(points, fields[4])
		}
	}
	slices.SortStableFunc(points, func(a, b string) int { return len(b) - len(a) })
	return points
}

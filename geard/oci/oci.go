// Package oci is the OCI runtime that dockerd knows as "gear": crun or runc with one thing put in
// between. Before a container is created, its bundle's config.json gets the network namespace that is on
// record for it, so a container of ours runs in its pod's network and in no other. Without a record,
// or without that namespace, it refuses: a container must never start in the host's network by mistake.
//
// Everything else is handed to the real runtime unchanged, in the same process (execve), so exit codes, signals
// and terminals are the runtime's own.
//
// The bundle and its config.json: https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#network
package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gearmesh.dev/internal/atomicfile"
)

// EnvRuntime names the environment variable that holds the absolute path of the real runtime. When it is
// not set, the first of runtimes that exists is used.
const EnvRuntime = "GEAR_RUNC"

// runtimes are where Linux distributions keep crun and runc. crun comes first: written in C, it makes
// a container in a fraction of the time.
func runtimes() []string {
	return []string{"/usr/bin/crun", "/usr/local/bin/crun", "/usr/bin/runc", "/usr/sbin/runc", "/usr/local/sbin/runc", "/usr/local/bin/runc"}
}

// Shim is one call of the runtime.
type Shim struct {
	// Record gives the path of the file that holds what is on record for a container (Record).
	Record func(id string) string
	// Exec replaces this process; unix.Exec but in tests.
	Exec func(path string, argv, env []string) error
}

// Run prepares what argv asks for and becomes the real runtime. It returns only when it refuses;
// the reason is also in the log that argv names, from where dockerd shows it to people.
func (s Shim) Run(argv, env []string) error {
	c := parse(argv)
	if err := s.prepare(c); err != nil {
		return errors.Join(err, c.report(err))
	}
	path, err := realRuntime(env)
	if err != nil {
		return errors.Join(err, c.report(err))
	}
	exec := s.Exec
	if exec == nil {
		exec = unix.Exec
	}
	if err := exec(path, append([]string{path}, argv[1:]...), env); err != nil {
		return fmt.Errorf("becoming the OCI runtime %q: %w", path, err)
	}
	return nil
}

// prepare puts the namespace into the bundle of a container that is about to be made.
func (s Shim) prepare(c call) error {
	if c.command != "create" && c.command != "run" {
		return nil
	}
	if c.id == "" || strings.ContainsAny(c.id, "/\x00") || c.id == "." || c.id == ".." {
		return fmt.Errorf("gear-oci: container id %q: want an id without a slash as the last argument", c.id)
	}
	record, err := s.record(c.id)
	if err != nil {
		return err
	}
	return edit(filepath.Join(c.bundle, "config.json"), record)
}

// record reads the record of a container and checks that it names a live network namespace.
func (s Shim) record(id string) (Record, error) {
	file := s.Record(id)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, fmt.Errorf("gear-oci: no network namespace is on record for container %s (%s): only gear-run starts containers with this runtime", id, file)
	}
	if err != nil {
		return Record{}, fmt.Errorf("gear-oci: reading the record of container %s: %w", id, err)
	}
	r, err := ParseRecord(data)
	if err != nil {
		return Record{}, fmt.Errorf("gear-oci: container %s: %w", id, err)
	}
	path := r.Namespace
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Record{}, fmt.Errorf("gear-oci: network namespace %q of container %s: %w; does its -net.service run?", path, id, err)
	}
	if st.Type != unix.NSFS_MAGIC {
		return Record{}, fmt.Errorf("gear-oci: %q of container %s is no namespace; does its -net.service run?", path, id)
	}
	return r, nil
}

// realRuntime finds runc or crun.
func realRuntime(env []string) (string, error) {
	for _, e := range env {
		if path, ok := strings.CutPrefix(e, EnvRuntime+"="); ok && path != "" {
			if !filepath.IsAbs(path) {
				return "", fmt.Errorf("gear-oci: %s is %q; want an absolute path", EnvRuntime, path)
			}
			return path, nil
		}
	}
	for _, path := range runtimes() {
		if unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("gear-oci: no OCI runtime at %s; install crun or runc, or set %s", strings.Join(runtimes(), ", "), EnvRuntime)
}

// edit puts what is on record into a bundle's config.json.
func edit(file string, record Record) error {
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("gear-oci: reading the bundle: %w", err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("gear-oci: reading the bundle: %w", err)
	}
	out, err := record.apply(data)
	if err != nil {
		return fmt.Errorf("gear-oci: bundle %q: %w", file, err)
	}
	return atomicfile.Write(file, out, info.Mode().Perm())
}

// report adds err to the log that the caller asked for, one JSON object a line as runc writes it.
func (c call) report(err error) error {
	if c.log == "" {
		return nil
	}
	line := fmt.Appendf(nil, "time=%q level=error msg=%q\n", time.Now().Format(time.RFC3339), err)
	if c.logFormat == "json" {
		line, _ = json.Marshal(map[string]string{"level": "error", "msg": err.Error(), "time": time.Now().Format(time.RFC3339)})
		line = append(line, '\n')
	}
	f, openErr := os.OpenFile(c.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if openErr != nil {
		return openErr
	}
	defer f.Close()
	_, writeErr := f.Write(line)
	return writeErr
}

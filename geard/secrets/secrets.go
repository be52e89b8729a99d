// Package secrets keeps the secrets of a host's pods.
//
//	STATE/agent/secret.key            the host's key, 0400; made by the agent
//	STATE/pods/UID/secrets.sealed     what the master sent for the pod, sealed for it with that key
//	RUN/secrets/UID/CONTAINER/N/KEY   a value as a file, 0400, owned by the container's user; N counts the container's mounts
//	RUN/secrets/UID/CONTAINER.env     secret variables; only there while a container is being created
//	RUN/secrets/UID/CONTAINER.state   fingerprint of what the container was given
//
// RUN is /run/gear, in memory. On disk there is nothing but the sealed copy, from which a host that
// powers on with no master and no agent starts its pods. gear-run lays a container's files before it is created
// and takes them away when it has ended; the agent changes them when the secret changes.
package secrets

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/internal/atomicfile"
	"gearmesh.dev/internal/seal"
)

// Values are the values of a pod's secrets: by secret, then by name. They print as nothing.
type Values map[api.Name]map[string][]byte

// String hides the values.
func (v Values) String() string { return fmt.Sprintf("%d secrets (hidden)", len(v)) }

// GoString hides the values.
func (v Values) GoString() string { return v.String() }

// Store keeps the secrets of one host. The zero Key seals and opens nothing that another made.
type Store struct {
	Dirs podstate.Dirs
	Key  seal.Key
}

// keyFile gives the path of the host's key.
func keyFile(dirs podstate.Dirs) string { return filepath.Join(dirs.State, "agent", "secret.key") }

// New opens the host's store, and makes its key when it has none.
func New(dirs podstate.Dirs) (Store, error) {
	key, err := seal.EnsureKey(keyFile(dirs))
	return Store{dirs, key}, err
}

// Open opens the host's store with the key that is there.
func Open(dirs podstate.Dirs) (Store, error) {
	key, err := seal.LoadKey(keyFile(dirs))
	return Store{dirs, key}, err
}

// Of picks the values that a pod needs out of what the master has sent. The error names the first that is missing.
func Of(pod api.Pod, sent []api.SecretValue) (Values, error) {
	out := Values{}
	for _, ref := range pod.Spec.SecretRefs() {
		i := slices.IndexFunc(sent, func(v api.SecretValue) bool { return v.Project == pod.Metadata.Project && v.Name == ref.Secret })
		if i < 0 {
			return nil, fmt.Errorf("secret %s/%s has not reached this host; does it exist?", pod.Metadata.Project, ref.Secret)
		}
		if _, ok := sent[i].Data[ref.Key]; !ok && ref.Key != "" {
			return nil, fmt.Errorf("secret %s/%s has no value %q", pod.Metadata.Project, ref.Secret, ref.Key)
		}
		out.take(ref, sent[i].Data)
	}
	return out, nil
}

func (v Values) take(ref api.SecretKey, data map[string][]byte) {
	if v[ref.Secret] == nil {
		v[ref.Secret] = map[string][]byte{}
	}
	if ref.Key != "" {
		v[ref.Secret][ref.Key] = data[ref.Key]
		return
	}
	maps.Copy(v[ref.Secret], data)
}

func (s Store) sealed(uid api.UID) string { return filepath.Join(s.Dirs.Pod(uid), "secrets.sealed") }

// context binds a sealed copy to its pod.
func context(uid api.UID) string { return "pod/" + string(uid) }

// Save keeps a pod's values on disk, sealed.
func (s Store) Save(uid api.UID, v Values) error {
	plain, err := json.Marshal(v) // sorted, so equal values are equal bytes
	if err != nil {
		return fmt.Errorf("keeping secrets: %w", err)
	}
	if s.Has(uid, v) {
		return nil
	}
	if err := os.MkdirAll(s.Dirs.Pod(uid), 0o755); err != nil {
		return fmt.Errorf("keeping secrets: %w", err)
	}
	return atomicfile.Write(s.sealed(uid), s.Key.Seal(plain, context(uid)), 0o400)
}

// Has tells whether a pod has exactly these values on disk.
func (s Store) Has(uid api.UID, v Values) bool {
	plain, err := json.Marshal(v)
	old, readErr := s.read(uid)
	return err == nil && readErr == nil && string(old) == string(plain)
}

// Load reads a pod's values from disk. The error is fs.ErrNotExist when there are none.
func (s Store) Load(uid api.UID) (Values, error) {
	plain, err := s.read(uid)
	if err != nil {
		return nil, err
	}
	var v Values
	if err := json.Unmarshal(plain, &v); err != nil {
		return nil, errors.New("reading secrets: the sealed copy is damaged") // without the decoder's words, which may quote
	}
	return v, nil
}

func (s Store) read(uid api.UID) ([]byte, error) {
	box, err := os.ReadFile(s.sealed(uid))
	if err != nil {
		return nil, fmt.Errorf("reading secrets: %w", err)
	}
	plain, err := s.Key.Open(box, context(uid))
	if err != nil {
		return nil, fmt.Errorf("reading secrets %q: %w", s.sealed(uid), err)
	}
	return plain, nil
}

// Mounts gives where a container's secrets are, as host path and path in the container.
func Mounts(dirs podstate.Dirs, uid api.UID, c api.Container) [][2]string {
	var out [][2]string
	for i, m := range c.Secrets {
		out = append(out, [2]string{filepath.Join(containerDir(dirs, uid, c.Name), strconv.Itoa(i), m.Key), m.Path})
	}
	return out
}

// EnvFile gives the file of a container's secret variables, "" when it has none.
func EnvFile(dirs podstate.Dirs, uid api.UID, c api.Container) string {
	if len(c.SecretEnv) == 0 {
		return ""
	}
	return containerDir(dirs, uid, c.Name) + ".env"
}

func podDir(dirs podstate.Dirs, uid api.UID) string {
	return filepath.Join(dirs.Run, "secrets", string(uid))
}

func containerDir(dirs podstate.Dirs, uid api.UID, c api.Name) string {
	return filepath.Join(podDir(dirs, uid), string(c))
}

// Uses tells whether a container has secrets at all.
func Uses(c api.Container) bool { return len(c.SecretEnv)+len(c.Secrets) > 0 }

// Fingerprint gives what tells one container's values from other ones, and nothing more.
func (s Store) Fingerprint(uid api.UID, c api.Container, v Values) string {
	mine := Values{}
	for _, ref := range c.Refs() {
		mine.take(ref, v[ref.Secret])
	}
	plain, _ := json.Marshal(mine) // maps of bytes always encode
	return s.Key.Hash(plain, context(uid))
}

// Laid gives the fingerprint of what a container was given, "" when it was given nothing.
func (s Store) Laid(uid api.UID, c api.Name) string {
	data, err := os.ReadFile(containerDir(s.Dirs, uid, c) + ".state")
	if err != nil {
		return ""
	}
	return string(data)
}

// Lay writes the files of a container: also when they are mounted already, so files are written in place.
func (s Store) Lay(pod api.Pod, c api.Container) error {
	if !Uses(c) {
		return nil
	}
	v, err := s.Load(pod.Metadata.UID)
	if err != nil {
		return err
	}
	dir := containerDir(s.Dirs, pod.Metadata.UID, c.Name)
	if err := private(s.Dirs, dir); err != nil {
		return err
	}
	for i, m := range c.Secrets {
		if err := layFiles(filepath.Join(dir, strconv.Itoa(i)), m, owner(m, c), v[m.Secret]); err != nil {
			return fmt.Errorf("laying secret %q: %w", m.Secret, err)
		}
	}
	if err := layEnv(EnvFile(s.Dirs, pod.Metadata.UID, c), c, v); err != nil {
		return err
	}
	return writeInPlace(dir+".state", []byte(s.Fingerprint(pod.Metadata.UID, c, v)), 0)
}

// private makes the directories of secrets, which only root passes.
func private(dirs podstate.Dirs, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("laying secrets: %w", err)
	}
	return os.Chmod(filepath.Join(dirs.Run, "secrets"), 0o700)
}

// owner gives the user that reads a mount.
func owner(m api.SecretMount, c api.Container) int {
	if m.UID != nil {
		return *m.UID
	}
	user, _, _ := strings.Cut(c.User, ":")
	if uid, err := strconv.Atoi(user); err == nil && uid >= 0 {
		return uid
	}
	return 0
}

// layFiles writes the values of a mount and removes those that are no more.
func layFiles(dir string, m api.SecretMount, uid int, values map[string][]byte) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := give(dir, uid); err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(values))
	if m.Key != "" {
		names = []string{m.Key}
	}
	for _, k := range names {
		value, ok := values[k]
		if !ok {
			return fmt.Errorf("it has no value %q", k)
		}
		if err := writeInPlace(filepath.Join(dir, k), value, uid); err != nil {
			return err
		}
	}
	old, err := os.ReadDir(dir)
	for _, e := range old {
		if !slices.Contains(names, e.Name()) {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// layEnv writes the variables of a container for the OCI runtime.
func layEnv(file string, c api.Container, v Values) error {
	if file == "" {
		return nil
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c.SecretEnv)) {
		ref := c.SecretEnv[name]
		value, ok := v[ref.Secret][ref.Key]
		if !ok {
			return fmt.Errorf("laying secret %q: it has no value %q", ref.Secret, ref.Key)
		}
		if strings.ContainsRune(string(value), 0) {
			return fmt.Errorf("laying secret %q: the value %q has a NUL byte, which no variable can carry; use a file", ref.Secret, ref.Key)
		}
		b.WriteString(name + "=" + string(value) + "\x00")
	}
	return writeInPlace(file, []byte(b.String()), 0)
}

// writeInPlace changes a file without making a new one: a mounted file would stay the old one.
func writeInPlace(path string, data []byte, uid int) error {
	if err := missingIsFine(os.Chmod(path, 0o600)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	return errors.Join(err, f.Truncate(int64(len(data))), give(path, uid), f.Chmod(0o400), f.Close())
}

// give makes a file a user's. Who is not root (make dev) keeps it.
func give(path string, uid int) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, uid, -1)
}

// DropEnv removes a container's variables: once it has been created nobody needs them.
func DropEnv(dirs podstate.Dirs, uid api.UID, c api.Container) error {
	file := EnvFile(dirs, uid, c)
	if file == "" {
		return nil
	}
	return missingIsFine(os.Remove(file))
}

// Clear removes everything that was laid for a container, and the pod's directory with the last one.
func Clear(dirs podstate.Dirs, uid api.UID, c api.Container) error {
	if !Uses(c) {
		return nil
	}
	dir := containerDir(dirs, uid, c.Name)
	err := errors.Join(os.RemoveAll(dir), missingIsFine(os.Remove(dir+".env")), missingIsFine(os.Remove(dir+".state")))
	_ = os.Remove(podDir(dirs, uid)) // not while another container has files there
	return err
}

func missingIsFine(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

package runner

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/geard/secrets"
	"gearmesh.dev/internal/failpoint"
)

// A container may be made ahead: the engine takes about as long for it as systemd takes to get to the container's unit. Who
// makes it holds a lock on a file meanwhile, and then writes the engine's id and the container's labels into it. The runner waits for the lock, takes
// the file away and goes on with that container, or makes one itself, whatever was wrong. The engine is not asked about it: nobody else
// can start such a container, since it is not on record, and whether it is still there its start tells. The file is in the runtime
// state: what was made before a power cut is not taken.

// aheadPatience is how long a runner waits for its container to be made ahead.
const aheadPatience = 3 * time.Second

// aheadFile gives the file that tells of a container that is made ahead.
func aheadFile(dirs podstate.Dirs, uid api.UID, container api.Name) string {
	return filepath.Join(dirs.RunPod(uid), string(container)+".ahead")
}

// Ahead is the making of one container ahead of its runner.
type Ahead struct {
	dirs podstate.Dirs
	pod  api.Pod
	spec api.Container
	file *os.File
}

// NewAhead announces that a container is made ahead; its runner waits until Make is done. It gives nil for a
// container that needs more than the engine before it can be made, which is its runner's to prepare, and for one whose unit waits
// for a link, perhaps for long.
func NewAhead(dirs podstate.Dirs, pod api.Pod, c api.Container) (*Ahead, error) {
	waits := slices.ContainsFunc(pod.Spec.Template.Links, func(l api.Link) bool { return l.WaitFor != "" })
	if c.Native != nil || len(c.Mounts) > 0 || secrets.Uses(c) || waits {
		return nil, nil
	}
	if err := dirs.MakeLinks(pod.Metadata.UID); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(aheadFile(dirs, pod.Metadata.UID, c.Name), os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making container %q ahead: %w", c.Name, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("making container %q ahead: its runner is at work: %w", c.Name, err)
	}
	return &Ahead{dirs, pod, c, f}, nil
}

// Make makes the container, in the systemd slice, and lets its runner go on.
func (a *Ahead) Make(ctx context.Context, e interface {
	Create(ctx context.Context, s engine.Spec) (id string, err error)
}, slice string) error {
	defer a.file.Close() // which ends the lock
	id, err := e.Create(ctx, MakeSpec(a.dirs, a.pod, a.spec, slice))
	if err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.AheadMade); err != nil {
		return err
	}
	_, err = a.file.WriteString(aheadText(id, Labels(a.pod, a.spec.Name)))
	return err
}

// aheadText gives what the file says of a container: its id, and its labels in order, by which a runner knows its own pod.
func aheadText(id string, labels map[string]string) string {
	text := id + "\n"
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		text += fmt.Sprintf("%s=%q\n", k, labels[k])
	}
	return text
}

// maxAhead bounds what is read of such a file.
const maxAhead = 8 << 10

// madeAhead gives the engine's id of the container when one was made ahead, else "".
func (r *run) madeAhead(ctx context.Context) string {
	f, err := os.OpenFile(aheadFile(r.Dirs, r.UID, r.Container), os.O_RDWR, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	defer func() { _ = os.Remove(f.Name()) }() // it counts once
	for end := time.Now().Add(aheadPatience); unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil; sleep(ctx, 2*time.Millisecond) {
		if ctx.Err() != nil || time.Now().After(end) {
			return ""
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxAhead))
	if err != nil {
		return ""
	}
	id, _, _ := strings.Cut(string(text), "\n")
	if id == "" || string(text) != aheadText(id, Labels(r.pod, r.Container)) {
		return ""
	}
	return id
}

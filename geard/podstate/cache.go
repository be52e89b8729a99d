package podstate

import (
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"gearmesh.dev/api"
)

// Cache reads what Dirs reads, and decodes a file again only when it is another one than the last time: an
// agent looks at all its pods every few seconds, and nearly always nothing has changed. What it gives is shared
// and must not be changed. It is safe for concurrent use.
type Cache struct {
	dirs Dirs

	mu    sync.Mutex
	files map[string]remembered // by path
}

// NewCache gives an empty cache.
func NewCache(d Dirs) *Cache { return &Cache{dirs: d, files: map[string]remembered{}} }

type remembered struct {
	is    identity
	value any
}

// identity tells one state of a file from the next. A replaced file has another inode, one that is written
// over another change time, which no program can set.
type identity struct {
	inode   uint64
	size    int64
	changed syscall.Timespec
}

// settled is the age from which a file's change time tells of every later change: the kernel's clock for it
// moves every 4 to 10 ms, and two changes within one tick have the same.
const settled = 50 * time.Millisecond

// LoadPod is Dirs.LoadPod.
func (c *Cache) LoadPod(uid api.UID) (*api.Pod, error) {
	return remember(c, filepath.Join(c.dirs.Pod(uid), "pod.json"), func() (*api.Pod, error) {
		pod, err := c.dirs.LoadPod(uid)
		return &pod, err
	})
}

// LoadNet is Dirs.LoadNet.
func (c *Cache) LoadNet(uid api.UID) (Net, error) {
	return remember(c, filepath.Join(c.dirs.Pod(uid), "net.json"), func() (Net, error) { return c.dirs.LoadNet(uid) })
}

// LoadRun is Dirs.LoadRun.
func (c *Cache) LoadRun(uid api.UID, container api.Name) (api.ContainerStatus, error) {
	return remember(c, c.dirs.run(uid, container), func() (api.ContainerStatus, error) { return c.dirs.LoadRun(uid, container) })
}

// Pods is Dirs.Pods. What is remembered of pods that it does not list is forgotten.
func (c *Cache) Pods() ([]api.UID, error) {
	uids, err := c.dirs.Pods()
	if err != nil {
		return nil, err
	}
	there := make(map[string]bool, len(uids))
	for _, uid := range uids {
		there[string(uid)] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for path := range c.files {
		if !there[filepath.Base(filepath.Dir(path))] {
			delete(c.files, path)
		}
	}
	return uids, nil
}

// remember gives what load gave when the file was last what it is now. The file is looked at before it is read:
// a change in between is found the next time. Errors are not kept.
func remember[T any](c *Cache, path string, load func() (T, error)) (T, error) {
	is, old := identify(path)
	c.mu.Lock()
	last, ok := c.files[path]
	c.mu.Unlock()
	if v, right := last.value.(T); ok && right && old && last.is == is {
		return v, nil
	}
	v, err := load()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.files, path)
	if err == nil && old {
		c.files[path] = remembered{is: is, value: v}
	}
	return v, err
}

// identify gives a file's identity, and whether it is old enough for that to tell.
func identify(path string) (identity, bool) {
	var st syscall.Stat_t // os.Lstat makes much more of it, for each file of each pod
	if syscall.Lstat(path, &st) != nil {
		return identity{}, false
	}
	age := time.Since(time.Unix(st.Ctim.Unix()))
	return identity{inode: st.Ino, size: st.Size, changed: st.Ctim}, age > settled
}

package runner

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
)

// cgroups is where the control groups are mounted (cgroups(7)).
const cgroups = "/sys/fs/cgroup"

// recentOOM is how long ago the kernel may have killed a process of a container for its end to be
// a consequence: the first process often ends because a child was killed.
const recentOOM = 10 * time.Second

// oomFile finds where the kernel counts the processes of a cgroup that it killed over a memory limit, from
// the text of /proc/PID/cgroup: memory.events of version 2, memory.oom_control of version 1. Both
// have a line "oom_kill N".
func oomFile(root, procCgroup string) (file string, version2 bool, err error) {
	for line := range strings.Lines(procCgroup) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		for controller := range strings.SplitSeq(part[1], ",") {
			if controller == "memory" {
				return filepath.Join(root, "memory", part[2], "memory.oom_control"), false, nil
			}
		}
		if part[0] == "0" {
			file, version2 = filepath.Join(root, part[2], "memory.events"), true
		}
	}
	if file == "" {
		return "", false, fmt.Errorf("no memory controller in %.200q", procCgroup)
	}
	return file, version2, nil
}

// oomKills reads the number of a line "oom_kill N".
func oomKills(text []byte) (int, error) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if n, ok := strings.CutPrefix(lines.Text(), "oom_kill "); ok {
			return strconv.Atoi(n)
		}
	}
	return 0, fmt.Errorf("no line oom_kill in %.100q", text)
}

// watchOOM tells each time the kernel kills processes of the container over its memory limit, until ctx
// ends or the container does. Its first process may live on: then nobody else tells.
func (r *run) watchOOM(ctx context.Context, id string) {
	c, err := r.Engine.Inspect(ctx, id)
	if err != nil || c.Pid == 0 {
		return
	}
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(c.Pid), "cgroup"))
	if err != nil {
		return // it has ended meanwhile
	}
	file, version2, err := oomFile(cgroups, string(text))
	if err != nil {
		r.Log.Warn("what the kernel kills over the memory limit is not told", "error", err)
		return
	}
	if err := followOOM(ctx, file, version2, r.oomKilled); err != nil && ctx.Err() == nil {
		if _, gone := os.Stat(file); gone == nil {
			r.Log.Warn("what the kernel kills over the memory limit is not told", "error", err)
		}
	}
}

// oomKilled notes that the kernel has killed n processes more.
func (r *run) oomKilled(n int) {
	r.vitals.oom.Store(time.Now().UnixNano())
	limit := "the pod's memory limit"
	if r.spec.Resources.Memory > 0 {
		limit = fmt.Sprintf("the memory limit of %s", r.spec.Resources.Memory)
	}
	r.Log.Warn("the kernel killed processes of the container over "+limit, "reason", api.ReasonOOMKilled, "killed", n)
}

// lateOOM tells whether the kernel has killed a process of the container just now.
func (r *run) lateOOM(now time.Time) bool {
	at := r.vitals.oom.Load()
	return at != 0 && now.Sub(time.Unix(0, at)) < recentOOM
}

// followOOM reads the count after each event of the kernel and tells by how much it has grown.
func followOOM(ctx context.Context, file string, version2 bool, grown func(n int)) error {
	before, err := readKills(file)
	if err != nil {
		return err
	}
	events, err := subscribe(file, version2)
	if err != nil {
		return fmt.Errorf("waiting for events of %q: %w", file, err)
	}
	defer events.Close()
	stop := context.AfterFunc(ctx, func() { events.Close() })
	defer stop()
	for buf := make([]byte, 4096); ; {
		if _, err := events.Read(buf); err != nil {
			return err
		}
		// Version 1 tells of the event first and counts the killed process then.
		for range 5 {
			now, err := readKills(file)
			if err != nil {
				return err
			}
			if now > before {
				grown(now - before)
				before = now
				break
			}
			sleep(ctx, 20*time.Millisecond)
		}
	}
}

func readKills(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return oomKills(text)
}

// subscribe gives a file that can be read from after each event: an inotify instance (version 2:
// "Userspace can watch the files with inotify", kernel Documentation/admin-guide/cgroup-v2.rst) or an eventfd that is
// registered (version 1: Documentation/admin-guide/cgroup-v1/memory.rst, 10. OOM Control). Neither costs a thread.
func subscribe(file string, version2 bool) (*os.File, error) {
	if version2 {
		fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
		if err != nil {
			return nil, err
		}
		events := os.NewFile(uintptr(fd), "inotify")
		if _, err := unix.InotifyAddWatch(fd, file, unix.IN_MODIFY|unix.IN_DELETE_SELF); err != nil {
			events.Close()
			return nil, err
		}
		return events, nil
	}
	control, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	events := os.NewFile(uintptr(fd), "eventfd")
	line := fmt.Appendf(nil, "%d %d", fd, control.Fd())
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "cgroup.event_control"), line, 0o200); err != nil {
		events.Close()
		return nil, err
	}
	return events, nil
}

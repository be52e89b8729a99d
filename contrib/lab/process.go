package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// killTime is how long killed processes may take to go. A host's process 1
// takes all of its processes with it, usually within 30 ms.
const killTime = time.Minute

// process names one process for good: a pid is used again, but not with the
// same start time (clock ticks since boot) in the same boot.
type process struct {
	pid   int
	start string
	boot  string
}

// readProcess reads "PID START BOOT" as start-host.sh writes it.
func readProcess(file string) (process, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return process{}, err
	}
	fields := strings.Fields(string(text))
	if len(fields) != 3 {
		return process{}, fmt.Errorf("%q: want \"PID START BOOT\", have %q", file, text)
	}
	pid, err := strconv.Atoi(fields[0])
	if err != nil || pid < 2 {
		return process{}, fmt.Errorf("%q: bad pid %q", file, fields[0])
	}
	return process{pid: pid, start: fields[1], boot: fields[2]}, nil
}

// alive tells whether this very process runs. A zombie does not.
func (p process) alive() bool {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || strings.TrimSpace(string(boot)) != p.boot {
		return false
	}
	status, start := procStat(p.pid)
	return start == p.start && status != "Z" && status != "X"
}

// procStat returns fields 3 and 22 of /proc/PID/stat (proc(5)), counted from
// the last ')' because a process may put anything into its name.
func procStat(pid int) (status, start string) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", ""
	}
	return parseStat(string(text))
}

func parseStat(text string) (status, start string) {
	end := strings.LastIndexByte(text, ')')
	fields := strings.Fields(text[end+1:])
	if end < 0 || len(fields) < 20 {
		return "", ""
	}
	return fields[0], fields[19]
}

// running returns the host's process 1, or false if the host is off. A process
// that is ending loses its root some time before it is gone (do_exit in the
// kernel's exit.c): it no longer counts, though wipe still has to wait for it.
func (h host) running() (process, bool) {
	p, err := readProcess(h.file("pid"))
	if err != nil || !p.alive() {
		return process{}, false
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/", p.pid)); err != nil {
		return process{}, false
	}
	return p, true
}

// recordedPID returns the pid of the host's process 1 while there is anything
// of that process, even if the host no longer counts as running.
func (h host) recordedPID() []int {
	p, err := readProcess(h.file("pid"))
	if err != nil || !p.alive() {
		return nil
	}
	return []int{p.pid}
}

// netnsPIDs lists the processes whose network namespace is the one behind file.
func netnsPIDs(file string) []int {
	want, err := os.Stat(file)
	if err != nil {
		return nil
	}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	var pids []int
	for _, link := range links {
		// Processes end while we look: an unreadable one is none of ours.
		if have, err := os.Stat(link); err == nil && os.SameFile(want, have) {
			if pid, err := strconv.Atoi(strings.Split(link, "/")[2]); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// killAll kills what find lists until it lists nothing.
func killAll(ctx context.Context, find func() []int) error {
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	for {
		pids := slices.DeleteFunc(find(), func(pid int) bool {
			status, _ := procStat(pid)
			return pid == os.Getpid() || pid < 2 || status == "Z" || status == ""
		})
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if err := kill(pid); err != nil {
				return err
			}
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("waiting for killed processes %v to end: %w", pids, err)
		}
	}
}

func kill(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return fmt.Errorf("finding process %d: %w", pid, err)
	}
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("killing process %d: %w", pid, err)
	}
	return nil
}

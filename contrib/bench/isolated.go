package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// isolatedParts are what this program can be in network and mounts of its own. Each gives what is printed as JSON.
func isolatedParts() map[string]func(context.Context, isolation) (any, error) {
	return map[string]func(context.Context, isolation) (any, error){"relink": relinkMany, "path": linkPath}
}

// isolation is what such a part gets.
type isolation struct {
	dir  string // on a real disk, empty, removed afterwards
	runs int
	say  func(format string, args ...any)
}

// isolated runs a part in a process with network and mounts of its own, and reads its result. Whatever it makes in them, namespaces,
// interfaces, routes and rules, ends with the process, however that ends; nothing of the machine's own network is touched.
func isolated(ctx context.Context, name string, runs int, result any) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("this makes network namespaces and rules and needs root; try it with sudo")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "gear-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c := exec.CommandContext(ctx, self, "-isolated", name, "-isolated-dir", dir, "-runs", strconv.Itoa(runs))
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is about the thread that has started it
	defer runtime.UnlockOSThread()
	out, err := c.Output()
	if err != nil {
		return fmt.Errorf("part %q in a network of its own: %w", name, err)
	}
	return json.Unmarshal(out, result)
}

// beIsolated is the other side of isolated.
func beIsolated(ctx context.Context, o options, out, progress io.Writer) error {
	part, ok := isolatedParts()[o.isolated]
	if !ok {
		return fmt.Errorf("-isolated %q is for this program's own use", o.isolated)
	}
	if err := ownNetwork(); err != nil {
		return err
	}
	say := func(format string, args ...any) { fmt.Fprintf(progress, "  "+format+"\n", args...) }
	result, err := part(ctx, isolation{o.isolatedDir, o.runs, say})
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

// ownNetwork refuses to work in the machine's own network, and gives this process an empty /run, where namespaces have their names.
func ownNetwork() error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Attrs().OperState == netlink.OperUp {
			return fmt.Errorf("this network is not empty: it has %q", l.Attrs().Name)
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mounting an empty /run: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

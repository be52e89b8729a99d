package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podnet"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/geard/volumes"
	"gearmesh.dev/linker"
)

// netUp makes a pod's network.
func netUp(ctx context.Context, uid string) error {
	dirs := podstate.Host()
	if err := mountMemory(dirs, api.UID(uid)); err != nil {
		return err
	}
	return podnet.Up(ctx, dirs, api.UID(uid), podnet.Hooks{
		Links: layLinks,
		Host:  func(ctx context.Context) error { return layHost(ctx, hostRules(dirs)) },
	})
}

// netDown takes a pod's network away.
func netDown(uid string) error {
	if err := api.UID(uid).Validate(); err != nil {
		return fmt.Errorf("taking down the network: %w", err)
	}
	return errors.Join(volumes.UnmountMemory(podstate.Host(), api.UID(uid)), podnet.Down(podstate.Host(), api.UID(uid)))
}

// mountMemory makes the pod's volumes that are in memory. They live as long as its network.
func mountMemory(dirs podstate.Dirs, uid api.UID) error {
	if err := uid.Validate(); err != nil {
		return err
	}
	pod, err := dirs.LoadPod(uid)
	if err != nil {
		return err
	}
	return volumes.MountMemory(dirs, pod)
}

// pidsUp makes a pod's shared pid namespace and makes its process 1 the unit's main process.
func pidsUp(uid string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	pid, err := podnet.PidsUp(podstate.Host(), api.UID(uid), self, "pids-init")
	if err != nil {
		return err
	}
	notify(fmt.Sprintf("MAINPID=%d\nREADY=1", pid))
	return nil
}

// layLinks puts a pod's links into its namespace. A fresh one has no rules, so nothing is read first.
func layLinks(ctx context.Context, netns string, fresh bool, pod netip.Addr, links []api.LinkTarget) error {
	rules, err := linker.PodPlan(pod, links)
	if err != nil {
		return err
	}
	if fresh {
		return linker.Lay(ctx, netns, rules)
	}
	return linker.Apply(ctx, netns, rules)
}

// hostRules is the file in which the agent keeps what it last made the host's rules of, a
// linker.HostConfig: a host that powers on without an agent has its host ports from there.
func hostRules(dirs podstate.Dirs) string {
	return filepath.Join(dirs.State, "agent", "hostrules.json")
}

// layHost lays the host's own rules as the agent last had them. A host whose agent has never kept any has none.
func layHost(ctx context.Context, file string) error {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the host's rules: %w", err)
	}
	var config linker.HostConfig
	if err := json.Unmarshal(data, &config); err != nil {
		return fmt.Errorf("reading the host's rules in %q: %w", file, err)
	}
	rules, err := linker.HostPlan(config)
	if err != nil {
		return fmt.Errorf("the host's rules in %q: %w", file, err)
	}
	return linker.Apply(ctx, "", rules)
}

// Package podstate owns what a host keeps on disk of each pod. The agent writes it, gear-run and
// the pod's network unit read it, and a host powers on from it alone.
//
//	STATE/pods/UID/pod.json    the pod as the master assigned it (api.Pod, without status)
//	STATE/pods/UID/net.json    its address and host ports (Net)
//	STATE/pods/UID/links.json  its links as they were last resolved ([]api.LinkTarget)
//	STATE/links/changed.json   links that changed for many pods at once, before they are in their links.json (ChangedLinks)
//	STATE/pods/UID/drains.json backends that are gone from its links, and until when connections to them may stay ([]linker.Drain)
//	STATE/pods/UID/told.json   the addresses that its DNS server has told it of, where its egress goes by names ([]Told)
//	STATE/pods/UID/{hosts,hostname,resolv.conf}  mounted into its containers
//
// The JSON files carry a checksum (atomicfile.WriteSummed), and net.json has a copy.
//
//	RUN/pods/UID/CONTAINER.json  the state of a container (api.ContainerStatus), written by gear-run
//	RUN/pods/UID/links/          its containers see this directory, read-only, at LinksMount; the agent's links.sock is in it
//
// STATE is /var/lib/gear and survives a power cut; RUN is /run/gear and does not.
package podstate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/atomicfile"
	"gearmesh.dev/internal/failpoint"
	"gearmesh.dev/linker"
)

// Dirs are the two roots of a host's state, absolute paths.
type Dirs struct {
	State string // /var/lib/gear
	Run   string // /run/gear
}

// Host gives the directories of a real host.
func Host() Dirs { return Dirs{State: "/var/lib/gear", Run: "/run/gear"} }

// Net is a pod's place in its host's network. It is decided once, when the pod arrives, and kept
// until it is gone, so that a pod has the same address and host ports after a reboot.
type Net struct {
	Address     netip.Addr     `json:"address"`     // of the pod, a /32
	HostAddress netip.Addr     `json:"hostAddress"` // of its host, as other hosts reach it
	Ports       []api.HostPort `json:"ports,omitempty"`
	Domain      api.Hostname   `json:"domain"` // DNS domain of the cluster
}

// Pod gives a pod's directory.
func (d Dirs) Pod(uid api.UID) string { return filepath.Join(d.State, "pods", string(uid)) }

// RunPod gives the directory of a pod's runtime state.
func (d Dirs) RunPod(uid api.UID) string { return filepath.Join(d.Run, "pods", string(uid)) }

// Volumes gives the directory of a service's volumes of the default class.
func (d Dirs) Volumes(project, service api.Name) string {
	return filepath.Join(d.State, "volumes", string(project), string(service))
}

// Namespace gives the path of a pod's network namespace.
func (d Dirs) Namespace(uid api.UID) string { return "/run/netns/gear-" + string(uid) }

// Pids gives the path of the pid namespace that a pod's containers share, when they do.
func (d Dirs) Pids(uid api.UID) string { return filepath.Join(d.Run, "pidns", string(uid)) }

// Record gives the path of the file that tells the OCI runtime which namespace a container of the engine gets.
func (d Dirs) Record(engineID string) string { return filepath.Join(d.Run, "containers", engineID) }

// HostRules gives the path of what the host's rules were last made of (linker.HostConfig): a host that
// powers on without its agent has its host ports from there.
func (d Dirs) HostRules() string { return filepath.Join(d.State, "agent", "hostrules.json") }

// LoadPod reads a pod as it was assigned.
func (d Dirs) LoadPod(uid api.UID) (api.Pod, error) {
	path := filepath.Join(d.Pod(uid), "pod.json")
	p, err := loadSummed[api.Pod](path)
	if err == nil {
		err = checkPod(path, uid, p)
	}
	if err != nil {
		return api.Pod{}, err
	}
	return p, nil
}

// LoadNet reads a pod's network place. Nobody else knows it, so there is a copy for the case that the
// file is damaged: a running pod would lose its address.
func (d Dirs) LoadNet(uid api.UID) (Net, error) {
	n, err := loadNet(filepath.Join(d.Pod(uid), "net.json"))
	if err == nil {
		return n, nil
	}
	if spare, spareErr := loadNet(filepath.Join(d.Pod(uid), netCopy)); spareErr == nil {
		return spare, nil
	}
	return Net{}, err
}

// netCopy is the name of net.json's copy.
const netCopy = "net.copy.json"

// LoadDrains reads which backends of a pod's links drain.
func (d Dirs) LoadDrains(uid api.UID) ([]linker.Drain, error) {
	return loadSummed[[]linker.Drain](d.drains(uid))
}

// SaveDrains replaces which backends of a pod's links drain.
func (d Dirs) SaveDrains(uid api.UID, drains []linker.Drain) error {
	return atomicfile.WriteSummed(d.drains(uid), drains, 0o644)
}

func (d Dirs) drains(uid api.UID) string { return filepath.Join(d.Pod(uid), "drains.json") }

// LoadRun reads the state of a container. The zero state, without error, means that its gear-run
// has not run since the host booted.
func (d Dirs) LoadRun(uid api.UID, container api.Name) (api.ContainerStatus, error) {
	s, err := load[api.ContainerStatus](d.run(uid, container))
	if Missing(err) {
		return api.ContainerStatus{}, nil
	}
	return s, err
}

// SaveRun replaces the state of a container.
func (d Dirs) SaveRun(uid api.UID, container api.Name, s api.ContainerStatus) error {
	if err := os.MkdirAll(d.RunPod(uid), 0o755); err != nil {
		return fmt.Errorf("keeping the state of container %q: %w", container, err)
	}
	return atomicfile.WriteJSON(d.run(uid, container), s, 0o644)
}

// run gives the path of the state of a container.
func (d Dirs) run(uid api.UID, container api.Name) string {
	return filepath.Join(d.RunPod(uid), string(container)+".json")
}

// Save writes everything of a pod that a power-on needs. pod.json comes last: a directory without
// it is one whose save was cut short, and means no pod.
func (d Dirs) Save(p api.Pod, n Net, links []api.LinkTarget) error {
	dir := d.Pod(p.Metadata.UID)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("keeping pod %q: %w", p.Metadata.Name, err)
	}
	// Written side by side: the file system then flushes them to disk together.
	var g errgroup.Group
	g.Go(func() error { return atomicfile.WriteSummed(filepath.Join(dir, "net.json"), n, 0o644) })
	g.Go(func() error { return atomicfile.WriteSummed(filepath.Join(dir, netCopy), n, 0o644) })
	g.Go(func() error { return d.SaveLinks(p.Metadata.UID, links) })
	for name, text := range mounted(p, n, links) {
		g.Go(func() error { return atomicfile.Write(filepath.Join(dir, name), []byte(text), 0o644) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.SaveBeforePod); err != nil {
		return err
	}
	if err := d.SavePod(p); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(dir))
}

// SavePod replaces a pod as it was assigned.
func (d Dirs) SavePod(p api.Pod) error {
	p.Status = api.PodStatus{}
	return atomicfile.WriteSummed(filepath.Join(d.Pod(p.Metadata.UID), "pod.json"), p, 0o600)
}

// SaveLinks replaces a pod's links.
func (d Dirs) SaveLinks(uid api.UID, links []api.LinkTarget) error {
	return atomicfile.WriteSummed(filepath.Join(d.Pod(uid), "links.json"), links, 0o644)
}

// Remove takes away everything of a pod but its volumes. pod.json goes first, so that a removal
// cut short is not taken for a pod.
func (d Dirs) Remove(uid api.UID) error {
	if err := uid.Validate(); err != nil {
		return fmt.Errorf("removing a pod's state: %w", err)
	}
	if err := os.Remove(filepath.Join(d.Pod(uid), "pod.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a pod's state: %w", err)
	}
	if err := failpoint.Hit(failpoint.RemoveAfterPod); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(d.Pod(uid)), os.RemoveAll(d.RunPod(uid)), os.RemoveAll(filepath.Join(d.Run, "secrets", string(uid))))
}

// Pods lists the pods that have state on disk, readable or not.
func (d Dirs) Pods() ([]api.UID, error) {
	entries, err := os.ReadDir(filepath.Join(d.State, "pods"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing pods on disk: %w", err)
	}
	var uids []api.UID
	for _, e := range entries {
		if uid := api.UID(e.Name()); uid.Validate() == nil {
			uids = append(uids, uid)
		}
	}
	return uids, nil
}

// Missing tells whether a load did not succeed because there is nothing to load.
func Missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func load[T any](path string) (T, error) {
	var v T
	data, err := os.ReadFile(path)
	if err != nil {
		return v, fmt.Errorf("loading pod state: %w", err)
	}
	if err := json.Unmarshal(data, &v); err != nil {
		var none T // not what was read until then
		return none, fmt.Errorf("loading pod state %q: %w", path, err)
	}
	return v, nil
}

// Package realhost is the host that an agent really runs on: systemd runs the pods, the container
// engine holds their images, netfilter carries links and host ports.
package realhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"gearmesh.dev/api"
	"gearmesh.dev/geard"
	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/images"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/geard/runner"
	"gearmesh.dev/internal/failpoint"
	"gearmesh.dev/internal/loop"
	"gearmesh.dev/internal/systemd"
	"gearmesh.dev/linker"
	"gearmesh.dev/unitgen"
)

// Host is this machine.
type Host struct {
	dirs    podstate.Dirs
	systemd *systemd.Manager
	engine  *engine.Engine
	log     *slog.Logger

	pulls, reloads singleflight.Group
	seen           seenImages

	balancer  Balancer
	linksOver string // interface that links travel over; any when empty

	images *images.Record // those that were pulled here

	unitsMu  sync.Mutex // one at a time writes or removes unit files
	verified map[api.UID][]unitFile

	links     *linker.Writer
	linksOnce sync.Once // says how links are written

	rulesMu sync.Mutex
	laid    *laid
}

var (
	_ geard.Machine   = (*Host)(nil)
	_ geard.Explainer = (*Host)(nil)
	_ geard.Inspector = (*Host)(nil)
)

// New gives this machine. Nothing is connected or changed yet.
func New(dirs podstate.Dirs, m *systemd.Manager, e *engine.Engine, log *slog.Logger) *Host {
	return &Host{dirs: dirs, systemd: m, engine: e, log: log, verified: map[api.UID][]unitFile{},
		images: images.NewRecord(filepath.Join(dirs.State, "agent", "images.json")), links: linker.NewWriter(linker.HostChoice)}
}

// Images gives the record of images that were pulled here.
func (h *Host) Images() *images.Record { return h.images }

// Pods implements geard.Machine.
func (h *Host) Pods(ctx context.Context, pods []api.Pod) (map[api.UID]geard.UnitsState, error) {
	list, err := h.systemd.List(ctx, unitgen.Prefix+"*.service", unitgen.Prefix+"*.timer")
	if err != nil {
		return nil, err
	}
	units := make(map[string]systemd.Unit, len(list))
	for _, u := range list {
		units[u.Name] = u
	}
	out := make(map[api.UID]geard.UnitsState, len(pods))
	for _, p := range pods {
		out[p.Metadata.UID] = geard.UnitsState{Installed: h.installed(p), Up: up(p, units), Stopped: h.stopped(p, units), Leased: leased(p, units)}
	}
	return out, nil
}

// unitFile is what Install has compared a unit file with. A pod's files never change, so its size is enough to
// go by, and looking at it costs next to nothing.
type unitFile struct {
	path string
	size int64
}

func unitFiles(files []api.TextFile) []unitFile {
	out := make([]unitFile, 0, len(files))
	for _, f := range files {
		out = append(out, unitFile{filepath.Join(systemd.UnitDir, f.Name), int64(len(f.Text))})
	}
	return out
}

// installed tells whether the pod's unit files are there. After the agent's start each pod's files
// count as missing until Install has compared them once: a power cut may have left one empty.
func (h *Host) installed(p api.Pod) bool {
	h.unitsMu.Lock()
	defer h.unitsMu.Unlock()
	files, ok := h.verified[p.Metadata.UID]
	if !ok {
		return false
	}
	for _, f := range files {
		info, err := os.Lstat(f.path)
		if err != nil || info.Size() != f.size && !systemd.Masked(filepath.Split(f.path)) {
			return false
		}
	}
	return true
}

// containerUnits gives the units of a pod's containers, in the order in which they start.
func containerUnits(p api.Pod) []string { return unitgen.ContainerUnits(p) }

func up(p api.Pod, units map[string]systemd.Unit) bool {
	for _, name := range containerUnits(p) {
		switch u := units[name]; {
		case u.Job == string(systemd.Start) || u.Job == string(systemd.Restart):
		case u.Active == "active" || u.Active == "activating" || u.Active == "reloading" || u.Active == "deactivating":
		default:
			return false
		}
	}
	return true
}

// stopped tells whether the operator stopped or masked a container's unit: gear-run was asked to
// end by systemd, which writes so, and the unit has been inactive since. A reboot clears it.
func (h *Host) stopped(p api.Pod, units map[string]systemd.Unit) bool {
	for i, name := range containerUnits(p) {
		if units[name].Load == "masked" || systemd.Masked(systemd.UnitDir, name) {
			return true
		}
		if u := units[name]; u.Job != "" || u.Active != "" && u.Active != "inactive" {
			continue // systemctl restart passes through inactive, with a job
		}
		if p.Singleton() {
			continue // its timer stops it as an operator does
		}
		if run, err := h.dirs.LoadRun(p.Metadata.UID, p.Spec.Template.All()[i].Name); err == nil && run.State == api.RunStopped {
			return true
		}
	}
	return false
}

// Install implements geard.Machine.
func (h *Host) Install(ctx context.Context, p api.Pod) error {
	files, err := unitgen.Render(p)
	if err != nil {
		return err
	}
	h.unitsMu.Lock()
	changed, err := systemd.InstallUnits(systemd.UnitDir, files)
	if err == nil {
		err = failpoint.Hit(failpoint.UnitsWritten)
	}
	if err == nil {
		err = systemd.Want(systemd.UnitDir, unitgen.Target, unitgen.Wants(p))
	}
	if err == nil {
		h.verified[p.Metadata.UID] = unitFiles(files)
	}
	h.unitsMu.Unlock()
	if err == nil {
		err = failpoint.Hit(failpoint.UnitsWanted)
	}
	if err != nil || len(changed) == 0 {
		return err
	}
	_, err = h.systemd.Refresh(ctx, changed)
	return err
}

// Pull implements geard.Machine. An image that is here is not asked for again: a tag that should
// mean something new needs a new name.
func (h *Host) Pull(ctx context.Context, p api.Pod) error {
	for _, c := range p.Spec.Template.All() {
		if c.Native != nil {
			continue
		}
		if err := h.pull(ctx, p, c.Image); err != nil {
			return err
		}
	}
	return nil
}

func (h *Host) pull(ctx context.Context, p api.Pod, ref string) error {
	if h.seen.lately(ref) {
		return nil
	}
	_, err := h.engine.ImageID(ctx, ref)
	if errors.Is(err, engine.ErrNoImage) {
		// Pods of one service arrive together: one fetches, all wait. Another project may have another login.
		_, err, _ = h.pulls.Do(string(p.Metadata.Project)+" "+ref, func() (any, error) {
			login, err := h.login(p, ref)
			if err != nil {
				return nil, err
			}
			h.log.Info("pulling", "image", ref, "login", login.Username != "")
			if err := h.engine.PullAs(ctx, ref, login, nil); err != nil {
				return nil, err
			}
			return nil, h.images.Pulled(ref, time.Now())
		})
	}
	switch {
	case errors.Is(err, engine.ErrDown):
		return geard.Because(api.ReasonEngineDown, err)
	case err != nil:
		return geard.Because(api.ReasonImagePull, err)
	}
	h.seen.now(ref)
	return nil
}

// Start implements geard.Machine. The containers' units come first: they want the network's, and systemd
// keeps the order without asking us in between. Then it waits for the network, which is quick and whose
// error belongs to the pod. The containers' readiness has no bound and is not waited for. Meanwhile the engine makes the
// first container.
func (h *Host) Start(ctx context.Context, p api.Pod) error {
	defer h.makeAhead(ctx, p)()
	for _, unit := range containerUnits(p) {
		if err := h.systemd.Enqueue(ctx, systemd.Start, unit); err != nil {
			return err
		}
	}
	return h.systemd.Start(ctx, unitgen.NetUnit(p.Metadata.Project, p.Metadata.Name))
}

// makeAhead has the engine make a pod's first container while systemd gets to its unit, and gives what waits for that. It is
// a head start and no more: what does not succeed here, gear-run does, and says why it cannot.
func (h *Host) makeAhead(ctx context.Context, p api.Pod) (wait func()) {
	ahead, err := runner.NewAhead(h.dirs, p, p.Spec.Template.All()[0])
	if err != nil {
		h.log.Debug("a container is not made ahead", "pod", p.Metadata.Name, "err", err)
	}
	if ahead == nil {
		return func() {}
	}
	var making sync.WaitGroup
	making.Go(func() {
		if err := ahead.Make(ctx, h.engine, unitgen.PodSlice(p.Metadata.Project, p.Metadata.Name)); err != nil {
			h.log.Debug("a container was not made ahead", "pod", p.Metadata.Name, "err", err)
		}
	})
	return making.Wait
}

// Remove implements geard.Machine.
func (h *Host) Remove(ctx context.Context, p api.Pod) error {
	own := unitgen.OwnUnits(p)
	units := append(containerUnits(p), own...)
	var stops sync.WaitGroup
	errs := make([]error, len(units))
	for i, unit := range containerUnits(p) {
		stops.Go(func() { errs[i] = h.systemd.Stop(ctx, unit) })
	}
	stops.Wait()
	for i := len(units) - 1; i >= len(units)-len(own); i-- {
		errs[i] = h.systemd.Stop(ctx, units[i])
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := h.clearNetwork(ctx, p); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.RemoveAfterStop); err != nil {
		return err
	}
	if err := h.removeContainers(ctx, p.Metadata.UID); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.RemoveContainers); err != nil {
		return err
	}
	if err := h.removeUnits(ctx, p, units); err != nil {
		return err
	}
	if err := failpoint.Hit(failpoint.RemoveUnits); err != nil {
		return err
	}
	for _, unit := range units {
		if err := h.systemd.ResetFailed(ctx, unit); err != nil {
			return err
		}
	}
	return h.forget(ctx, units)
}

// forgetDelay lets the removals of many pods share one reload.
const forgetDelay = time.Second

// forget makes systemd drop units that it still has in memory without a file: gear.target has wanted
// them since boot, and only a reload makes it read its links again. Pods that were made since
// then need none.
func (h *Host) forget(ctx context.Context, units []string) error {
	for range 3 { // a reload that others had begun may have read the links before ours went
		left, err := h.systemd.List(ctx, units...)
		if err != nil || len(left) == 0 {
			return err
		}
		_, err, _ = h.reloads.Do("reload", func() (any, error) {
			loop.Sleep(ctx, forgetDelay)
			return nil, h.systemd.Reload(ctx)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// removeContainers takes away what a gear-run that was killed may have left.
func (h *Host) removeContainers(ctx context.Context, uid api.UID) error {
	left, err := h.engine.ListByLabel(ctx, engine.LabelUID, string(uid))
	for _, c := range left {
		err = errors.Join(err, h.engine.Remove(ctx, c.ID))
	}
	return err
}

// removeUnits removes the files of a pod's units, and the project's slice with its last pod.
func (h *Host) removeUnits(ctx context.Context, p api.Pod, units []string) error {
	h.unitsMu.Lock()
	defer h.unitsMu.Unlock()
	delete(h.verified, p.Metadata.UID)
	if err := systemd.RemoveUnits(systemd.UnitDir, units); err != nil {
		return err
	}
	slice := unitgen.ProjectSlice(p.Metadata.Project)
	used, err := hasSubSlice(slice)
	if used || err != nil {
		return err
	}
	if err := h.systemd.Stop(ctx, slice); err != nil {
		return err
	}
	return systemd.RemoveUnits(systemd.UnitDir, []string{slice})
}

// hasSubSlice tells whether a slice below this one is installed. Names nest at hyphens, and a hyphen
// of a name is escaped, so the prefix is exact (systemd.slice(5)).
func hasSubSlice(slice string) (bool, error) {
	entries, err := os.ReadDir(systemd.UnitDir)
	prefix := strings.TrimSuffix(slice, ".slice") + "-"
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		return strings.HasPrefix(e.Name(), prefix) && strings.HasSuffix(e.Name(), ".slice")
	}), err
}

// Balancer carries balanced links, with a HAProxy that runs.
type Balancer interface {
	Balance(ctx context.Context, links []api.BalancedLink, down func(netip.Addr) bool) error
}

// BalanceWith says who carries balanced links. It is called before the agent runs.
func (h *Host) BalanceWith(b Balancer) { h.balancer = b }

// LinksOver names the only interface that links to other hosts may travel over. It is called before the agent runs.
func (h *Host) LinksOver(name string) { h.linksOver = name }

// Balance implements geard.Machine.
func (h *Host) Balance(ctx context.Context, links []api.BalancedLink, down func(netip.Addr) bool) error {
	if len(links) > 0 {
		return h.balancer.Balance(ctx, links, down)
	}
	units, err := h.systemd.List(ctx, unitgen.LinksUnit)
	if err != nil || len(units) == 0 || units[0].Active == "inactive" {
		return err
	}
	return h.systemd.Stop(ctx, unitgen.LinksUnit)
}

// The units of the router.
const (
	routerUnit  = "gear-router.service"
	haproxyUnit = "gear-haproxy.service"
)

// Router implements geard.Machine.
func (h *Host) Router(ctx context.Context, on bool) error {
	units, err := h.systemd.List(ctx, routerUnit)
	if err != nil {
		return err
	}
	runs := len(units) == 1 && (units[0].Active == "active" || units[0].Active == "activating" || units[0].Job != "")
	switch {
	case on && !runs:
		if err := systemd.Want(systemd.UnitDir, unitgen.Target, []string{routerUnit}); err != nil {
			return err
		}
		return h.systemd.Enqueue(ctx, systemd.Start, routerUnit)
	case !on && runs:
		link := filepath.Join(systemd.UnitDir, unitgen.Target+".wants", routerUnit)
		if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("turning the router off: %w", err)
		}
		return errors.Join(h.systemd.Stop(ctx, routerUnit), h.systemd.Stop(ctx, haproxyUnit))
	}
	return nil
}

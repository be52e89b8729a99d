package realhost

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net"
	"os"
	"reflect"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"gearmesh.dev/api"
	"gearmesh.dev/geard"
	"gearmesh.dev/geard/podnet"
	"gearmesh.dev/internal/atomicfile"
	"gearmesh.dev/internal/loop"
	"gearmesh.dev/internal/systemd"
	"gearmesh.dev/linker"
	"gearmesh.dev/unitgen"
)

// Relink implements geard.Machine.
func (h *Host) Relink(ctx context.Context, l geard.PodLinks) error {
	ns := h.dirs.Namespace(l.UID)
	if _, err := os.Stat(ns); errors.Is(err, fs.ErrNotExist) {
		return geard.ErrNoNamespace
	}
	want, err := linker.PodPlan(l.Address, l.New)
	if err != nil {
		return err
	}
	if err := h.lay(ctx, ns, l, want); err != nil {
		return err
	}
	if err := h.showLinks(ctx, l); err != nil {
		return err
	}
	if h.links.Quiet(ctx, ns) {
		return nil
	}
	ended, err := linker.Cut(ctx, ns, l.Old, l.New, l.Down)
	if err == nil && len(l.Over) > 0 {
		var drained map[linker.Reason]int
		drained, err = linker.EndDrained(ctx, ns, l.New, l.Over)
		maps.Copy(ended, drained)
	}
	if len(ended) > 0 {
		h.log.Info("connections of links ended", "uid", l.UID, "flows", ended)
	}
	return err
}

// ListensIPv6 implements geard.Machine.
func (h *Host) ListensIPv6(_ context.Context, uid api.UID, ports []api.HostPort) ([]api.Name, error) {
	return linker.ListensIPv6(h.dirs.Namespace(uid), ports)
}

// showLinks makes the units of links that a pod always needs be up while these have a backend. A unit that goes down stops
// nothing: it is for people, and for units of theirs that want it.
func (h *Host) showLinks(ctx context.Context, l geard.PodLinks) error {
	var pod api.Pod
	for i, t := range l.New {
		had := i < len(l.Old) && len(l.Old[i].Backends) > 0
		if has := len(t.Backends) > 0; t.WaitFor != api.WaitAlways || l.Known && has == had {
			continue
		}
		if pod.Metadata.UID == "" {
			var err error
			if pod, err = h.dirs.LoadPod(l.UID); err != nil {
				return err
			}
		}
		if err := h.showLink(ctx, unitgen.LinkUnit(pod.Metadata.Project, pod.Metadata.Name, i+1), len(t.Backends) > 0); err != nil {
			return err
		}
	}
	return nil
}

// showLink starts or stops a link's unit. One that waits is left to wait: its end would let those start that come after it.
func (h *Host) showLink(ctx context.Context, unit string, up bool) error {
	units, err := h.systemd.List(ctx, unit)
	if err != nil || len(units) == 0 {
		return err // the start of the pod starts it
	}
	switch active := units[0].Active; {
	case up && active == "inactive":
		return h.systemd.Enqueue(ctx, systemd.Start, unit)
	case !up && active == "active":
		return h.systemd.Enqueue(ctx, systemd.Stop, unit)
	}
	return nil
}

// lay looks at what is there only when that is not known.
func (h *Host) lay(ctx context.Context, ns string, l geard.PodLinks, want linker.Rules) error {
	if !l.Known {
		// Another version may have made the pod's network.
		if err := podnet.EnsureRoutes(l.UID, l.Address); err != nil {
			return err
		}
		if err := h.links.Apply(ctx, ns, want); err != nil {
			return err
		}
		return podnet.EnsureIPv6(h.dirs, l.UID, l.Address) // after the rules that keep it in bounds
	}
	old, err := linker.PodPlan(l.Address, l.Old)
	if err != nil {
		return h.links.Apply(ctx, ns, want)
	}
	h.learnLinks(ctx)
	return h.links.Update(ctx, ns, old, want)
}

// fewUnsure is of how many pods the rules are read at a time that nobody is known to have changed.
const fewUnsure = 4

// Touched implements geard.Machine.
func (h *Host) Touched(ctx context.Context, pods []api.UID) (touched []api.UID, err error) {
	used, unsure := map[string]bool{"": true}, 0 // the host's own is always
	for _, uid := range pods {
		ns := h.dirs.Namespace(uid)
		is := h.links.Standing(ctx, ns)
		used[ns] = is != linker.Gone // a socket would keep the namespace itself
		switch is {
		case linker.Touched:
			h.log.Warn("somebody else has changed the rules in a pod's namespace; they are laid anew", "uid", uid)
			touched = append(touched, uid)
		case linker.Unsure:
			if unsure++; unsure <= fewUnsure {
				touched = append(touched, uid)
			}
		}
	}
	return touched, h.links.Keep(func(ns string) bool { return used[ns] })
}

// learnLinks finds out how links can be written, which takes a while.
func (h *Host) learnLinks(ctx context.Context) {
	h.linksOnce.Do(func() {
		if err := h.links.Direct(ctx); err != nil && ctx.Err() == nil {
			h.log.Info("links are changed by one iptables-restore a pod", "why", err)
		}
	})
}

// laid is what the host's rules were made when they were last laid.
type laid struct {
	config linker.HostConfig
	rules  linker.Rules
	wrote  time.Time // without reading
	unkept bool      // the kernel cannot do linker.Keep
}

// HostRules implements geard.Machine.
func (h *Host) HostRules(ctx context.Context, r geard.HostRules) error {
	h.rulesMu.Lock()
	defer h.rulesMu.Unlock()
	c := h.hostConfig(r)
	changed := h.laid == nil || !reflect.DeepEqual(h.laid.config, c)
	if !changed && h.standsLocked(ctx) {
		return nil
	}
	plan, err := linker.HostPlan(c)
	if err != nil {
		return err
	}
	if changed {
		if err := atomicfile.WriteSummed(h.dirs.HostRules(), c, 0o600); err != nil {
			return err
		}
	}
	next, err := h.layHost(ctx, c, plan)
	if err != nil {
		h.laid = nil
		return err
	}
	if h.laid != nil && changed {
		if _, err := linker.Flush(ctx, "", h.laid.config, c); err != nil {
			return err
		}
	}
	if err := podnet.SetIPv6(h.dirs, c.Address6.IsValid()); err != nil {
		h.laid = nil
		return err
	}
	h.laid = next
	h.learnLinks(ctx) // at the first pass, so that the first change of a link does not wait for it
	return nil
}

// unsurePeriod is how long rules that were just written are not read to be sure: they were written for a pod that is starting, and reading
// them would be in its way. A later pass does it.
const unsurePeriod = time.Second

// standsLocked tells whether the rules are those that were last laid.
func (h *Host) standsLocked(ctx context.Context) bool {
	if h.laid == nil {
		return false
	}
	is := h.links.Standing(ctx, "")
	return is == linker.Stands || is == linker.Unsure && time.Since(h.laid.wrote) < unsurePeriod
}

// layHost writes what differs from the plan. Where nobody has changed anything since the last time it writes without reading.
func (h *Host) layHost(ctx context.Context, c linker.HostConfig, plan linker.Rules) (*laid, error) {
	kept, err := h.keep(ctx, c.Address6.IsValid())
	if err != nil {
		return nil, err
	}
	next := &laid{config: c, rules: plan, unkept: !kept}
	if h.laid != nil && !reflect.DeepEqual(h.laid.config, c) && h.links.Standing(ctx, "") != linker.Touched {
		next.wrote = time.Now()
		return next, h.links.Update(ctx, "", h.laid.rules, plan)
	}
	return next, h.links.Apply(ctx, "", plan)
}

// keep lets open flows outlive a flush of the rules, and tells whether it does. Rules are right without it, so a
// kernel that cannot is told of, once.
func (h *Host) keep(ctx context.Context, ipv6 bool) (bool, error) {
	kind, err := h.links.Kind(ctx)
	if err != nil || kind != linker.NFT || h.laid != nil && h.laid.unkept {
		return false, err
	}
	err = linker.Keep(ipv6)
	if err != nil {
		h.log.Warn("open connections to host ports will end when somebody flushes iptables", "err", err)
	}
	return err == nil, nil
}

// calm is the least time between two calls of WatchRules' touched: another program that insists on rules of its own must
// not make the agent spin.
const calm = 250 * time.Millisecond

// glance is how often WatchRules looks though it has heard nothing, as of iptables-legacy.
const glance = 2 * time.Second

// WatchRules calls touched when the rules of this host have changed and are to be looked at, until ctx ends.
func (h *Host) WatchRules(ctx context.Context, touched func()) error {
	changes := loop.NewKick()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := linker.Watch(ctx, changes.Wake); err != nil {
			h.log.Warn("changes of the rules by others are noticed late", "err", err)
		}
		return nil
	})
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-changes:
			case <-time.After(glance):
			}
			if !h.stands(ctx) {
				touched()
				loop.Sleep(ctx, calm)
			}
		}
	})
	return g.Wait()
}

func (h *Host) stands(ctx context.Context) bool {
	h.rulesMu.Lock()
	defer h.rulesMu.Unlock()
	return h.standsLocked(ctx)
}

func (h *Host) hostConfig(r geard.HostRules) linker.HostConfig {
	c := linker.HostConfig{Address: r.Address, Address6: r.IPv6, LinksOver: h.linksOver, Members: r.Members, Public: r.Public, Routes6: podnet.RoutesIPv6(h.dirs)}
	return podnet.HostConfig(c, r.Pods, r.Balanced, r.Egress)
}

// PortFree implements geard.Machine.
func (h *Host) PortFree(p api.Protocol, port uint16) bool {
	addr := ":" + strconv.Itoa(int(port))
	if p == api.UDP {
		c, err := net.ListenPacket("udp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	l, err := net.Listen("tcp", addr)
	if err == nil {
		l.Close()
	}
	return err == nil
}

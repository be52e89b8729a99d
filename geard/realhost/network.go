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
	"gearmesh.dev/linker"
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

// lay looks at what is there only when that is not known.
func (h *Host) lay(ctx context.Context, ns string, l geard.PodLinks, want linker.Rules) error {
	if !l.Known {
		// Another version may have made the pod's network.
		if err := podnet.EnsureRoutes(l.UID, l.Address); err != nil {
			return err
		}
		return linker.Apply(ctx, ns, want)
	}
	old, err := linker.PodPlan(l.Address, l.Old)
	if err != nil {
		return linker.Apply(ctx, ns, want)
	}
	h.linksOnce.Do(func() {
		if err := h.links.Direct(ctx); err != nil && ctx.Err() == nil {
			h.log.Info("links are changed by one iptables-restore a pod", "why", err)
		}
	})
	return h.links.Update(ctx, ns, old, want)
}

// laid is what the host's rules were made when they were last laid.
type laid struct {
	config     linker.HostConfig
	rules      linker.Rules
	generation uint32
	// sure: they were read and found right while the generation stood still. Rules that were just written are not sure: somebody
	// else may have changed others between the reading and the writing. The next pass reads them again.
	sure   bool
	looked time.Time
	unkept bool // the kernel cannot do linker.Keep
}

// lookPeriod is how often the rules are read although the generation stands still. Nothing is known to change them without it.
const lookPeriod = time.Minute

// HostRules implements geard.Machine.
func (h *Host) HostRules(ctx context.Context, r geard.HostRules) error {
	h.rulesMu.Lock()
	defer h.rulesMu.Unlock()
	c := hostConfig(r)
	changed := h.laid == nil || !reflect.DeepEqual(h.laid.config, c)
	if !changed && h.standsLocked() {
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
	h.laid = next
	return nil
}

// standsLocked tells whether the rules are certainly those that were last laid.
func (h *Host) standsLocked() bool {
	return h.laid != nil && h.laid.sure && generationIs(h.laid.generation) && time.Since(h.laid.looked) < lookPeriod
}

// layHost writes what differs from the plan. Where nobody has changed anything since the last time it writes without reading.
func (h *Host) layHost(ctx context.Context, c linker.HostConfig, plan linker.Rules) (*laid, error) {
	if err := h.choose(ctx); err != nil {
		return nil, err
	}
	kept := h.keep()
	before, err := linker.Generation()
	known := err == nil && h.variant == linker.NFT
	next := &laid{config: c, rules: plan, looked: time.Now(), unkept: !kept}
	blind := known && h.laid != nil && before == h.laid.generation && (h.laid.sure || !reflect.DeepEqual(h.laid.config, c))
	if blind {
		err = linker.Update(ctx, "", h.laid.rules, plan)
		next.looked = h.laid.looked
	} else {
		err = linker.Apply(ctx, "", plan)
	}
	if err != nil {
		return nil, err
	}
	after, err := linker.Generation()
	next.generation = after
	next.sure = known && err == nil && before == after && (!blind || h.laid.sure)
	return next, nil
}

// choose finds out which iptables this host has.
func (h *Host) choose(ctx context.Context) error {
	if h.variant != linker.HostChoice {
		return nil
	}
	v, err := linker.Chosen(ctx)
	if err != nil {
		return err
	}
	h.variant = v
	return nil
}

// keep lets open flows outlive a flush of the rules, and tells whether it does. Rules are right without it, so a
// kernel that cannot is told of, once.
func (h *Host) keep() bool {
	if h.variant != linker.NFT || h.laid != nil && h.laid.unkept {
		return false
	}
	err := linker.Keep()
	if err != nil {
		h.log.Warn("open connections to host ports will end when somebody flushes iptables", "err", err)
	}
	return err == nil
}

// calm is the least time between two calls of WatchRules' touched: another program that insists on rules of its own must
// not make the agent spin.
const calm = 250 * time.Millisecond

// WatchRules calls touched when the rules of this host have changed and are to be looked at, until ctx ends. Of iptables-legacy it hears
// nothing, and the agent's own period has to do.
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
			}
			if !h.stands() {
				touched()
				loop.Sleep(ctx, calm)
			}
		}
	})
	return g.Wait()
}

func (h *Host) stands() bool {
	h.rulesMu.Lock()
	defer h.rulesMu.Unlock()
	return h.standsLocked()
}

func generationIs(g uint32) bool {
	now, err := linker.Generation()
	return err == nil && now == g
}

func hostConfig(r geard.HostRules) linker.HostConfig {
	return podnet.HostConfig(r.Address, r.Members, r.Public, r.Pods, r.Balanced, r.Egress)
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

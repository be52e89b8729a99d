package realhost

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"reflect"
	"strconv"

	"gearmesh.dev/api"
	"gearmesh.dev/geard"
	"gearmesh.dev/geard/podnet"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/internal/atomicfile"
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
	if len(ended) > 0 {
		h.log.Info("connections of links ended", "uid", l.UID, "flows", ended)
	}
	return err
}

// lay looks at what is there only when that is not known.
func (h *Host) lay(ctx context.Context, ns string, l geard.PodLinks, want linker.Rules) error {
	if !l.Known {
		return linker.Apply(ctx, ns, want)
	}
	old, err := linker.PodPlan(l.Address, l.Old)
	if err != nil {
		return linker.Apply(ctx, ns, want)
	}
	return linker.Update(ctx, ns, old, want)
}

// HostRules implements geard.Machine.
func (h *Host) HostRules(ctx context.Context, r geard.HostRules) error {
	h.rulesMu.Lock()
	defer h.rulesMu.Unlock()
	c := hostConfig(r)
	plan, err := linker.HostPlan(c)
	if err != nil {
		return err
	}
	if h.rules == nil || !reflect.DeepEqual(*h.rules, c) {
		if err := atomicfile.WriteJSON(h.dirs.HostRules(), c, 0o600); err != nil {
			return err
		}
	}
	if err := linker.Apply(ctx, "", plan); err != nil {
		return err
	}
	if h.rules != nil {
		if _, err := linker.Flush(ctx, "", *h.rules, c); err != nil {
			return err
		}
	}
	h.rules = &c
	return nil
}

func hostConfig(r geard.HostRules) linker.HostConfig {
	c := linker.HostConfig{Bridge: podnet.VethPattern, PodNet: podstate.Prefix(), Address: r.Address, Members: r.Members,
		Open: []linker.OpenPort{{Protocol: api.TCP, Port: routerPort}}}
	for _, p := range r.Pods {
		c.Pods = append(c.Pods, linker.HostPod{Address: p.Address, Ports: p.Ports})
	}
	return c
}

// routerPort is where routers listen; pods may be clients of them.
const routerPort = 80

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

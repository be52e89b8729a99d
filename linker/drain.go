package linker

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"gearmesh.dev/api"
)

// ReasonDrained ends a flow whose backend is gone for as long as the link's MaxDrain.
const ReasonDrained Reason = "drained"

// Drain is a backend that is gone from a link whose open connections may stay for a while.
type Drain struct {
	Local    netip.Addr     `json:"local"` // with the next two: which link of the pod
	Port     uint16         `json:"port"`
	Protocol api.Protocol   `json:"protocol"`
	Backend  netip.AddrPort `json:"backend"`
	Until    time.Time      `json:"until"`
}

// Drains gives what drains now that a pod's links are new and were old, and known drained before. A backend that is back drains no
// more. No time is later than it would be if the backend were gone only now, whatever a clock has done meanwhile.
func Drains(known []Drain, old, new []api.LinkTarget, now time.Time) []Drain {
	var out []Drain
	for _, l := range new {
		if l.MaxDrain <= 0 || l.Retarget == api.Cut || l.Protocol == api.UDP {
			continue // Cut ends these
		}
		latest := now.Add(time.Duration(l.MaxDrain))
		var mine []Drain
		for _, d := range known {
			if d.of(l) && !slices.Contains(leadsTo(l), d.Backend) {
				if d.Until.After(latest) {
					d.Until = latest
				}
				mine = append(mine, d)
			}
		}
		for _, b := range gone(l, old) {
			if !slices.ContainsFunc(mine, func(d Drain) bool { return d.Backend == b }) {
				mine = append(mine, Drain{l.Local, l.Port, l.Protocol, b, latest})
			}
		}
		out = append(out, mine...)
	}
	return out
}

// FindDrains gives what drains when that was forgotten, from what of each link stands in the pod's namespace: backends that are
// gone and have open connections. Their time begins anew.
func FindDrains(links []api.LinkTarget, states []api.LinkState, now time.Time) []Drain {
	var out []Drain
	for i, l := range links {
		for _, b := range states[i].Backends {
			if b.Gone && b.Open > 0 {
				out = append(out, Drain{l.Local, l.Port, l.Protocol, b.Address, now.Add(time.Duration(l.MaxDrain))})
			}
		}
	}
	return out
}

// gone gives the backends that a link had and has no more.
func gone(l api.LinkTarget, old []api.LinkTarget) []netip.AddrPort {
	i := slices.IndexFunc(old, func(o api.LinkTarget) bool {
		return o.Local == l.Local && o.Port == l.Port && o.Protocol == l.Protocol
	})
	if i < 0 {
		return nil
	}
	return slices.DeleteFunc(leadsTo(old[i]), func(b netip.AddrPort) bool { return slices.Contains(leadsTo(l), b) })
}

func (d Drain) of(l api.LinkTarget) bool {
	return d.Local == l.Local && d.Port == l.Port && d.Protocol == l.Protocol
}

// Over splits drains into those whose time is over and the rest.
func Over(drains []Drain, now time.Time) (over, rest []Drain) {
	for _, d := range drains {
		if d.Until.After(now) {
			rest = append(rest, d)
		} else {
			over = append(over, d)
		}
	}
	return over, rest
}

// EndDrained ends the flows of a pod's namespace to backends whose time is over, and gives their number by reason. Call it
// after Update.
func EndDrained(ctx context.Context, path string, links []api.LinkTarget, over []Drain) (map[Reason]int, error) {
	ended, err := end(ctx, path, func(f flow) (Reason, bool) { return drainVerdict(f, links, over) })
	if err != nil {
		return ended, fmt.Errorf("ending drained flows in namespace %q: %w", path, err)
	}
	return ended, nil
}

func drainVerdict(f flow, links []api.LinkTarget, over []Drain) (Reason, bool) {
	l, ok := linkOf(f, links)
	return ReasonDrained, ok && !slices.Contains(leadsTo(l), f.answers) &&
		slices.ContainsFunc(over, func(d Drain) bool { return d.of(l) && d.Backend == f.answers })
}

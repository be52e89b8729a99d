package geard

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podnet"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/linker"
)

const (
	// toldLeast is how long a pod may at least connect to an address that it was told of: programs keep addresses longer than their TTL.
	toldLeast = time.Minute
	// toldMost bounds what one pod is told of at a time; the oldest goes first.
	toldMost = 256
)

// egress gives what a pod is held to: what the master says at present, else what it said last.
func (a *Agent) egress(h held) *api.Egress {
	if p, ok := a.mem.pod(h.pod.Metadata.UID); ok {
		return p.Spec.Egress
	}
	return h.pod.Spec.Egress
}

// keepEgress brings what a pod is held to to disk, so that it is the same when the host starts without its agent, or has lost its directory.
func (a *Agent) keepEgress(h held) error {
	e := a.egress(h)
	if reflect.DeepEqual(e, h.pod.Spec.Egress) {
		return nil
	}
	p := *h.pod
	p.Spec.Egress = e
	return a.cfg.Dirs.SavePod(p)
}

// egressRules gives what the host's rules hold a pod to.
func (a *Agent) egressRules(h held) *linker.Egress {
	uid := h.pod.Metadata.UID
	return podnet.Egress(uid, a.egress(h), a.told(uid))
}

// hold adds a pod to the host's rules whose file says nothing of it. It may be running: it keeps its ports, and since nobody knows what it may
// connect to, it may connect to nothing but its links and names.
func (r *HostRules) hold(uid api.UID, net podstate.Net) {
	if net.Address.IsValid() {
		r.Pods = append(r.Pods, net)
		r.Egress[net.Address] = podnet.Egress(uid, &api.Egress{}, nil)
	}
}

// told gives what a pod was told; it must not be changed.
func (a *Agent) told(uid api.UID) []podstate.Told {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.workLocked(uid)
	if w.told == nil {
		list := a.cfg.Dirs.LoadTold(uid)
		w.told = &list
	}
	return *w.told
}

func (a *Agent) setTold(uid api.UID, list []podstate.Told) error {
	if err := a.cfg.Dirs.SaveTold(uid, list); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.workLocked(uid).told = &list
	return nil
}

// Told lets a pod connect to addresses that the DNS server is about to tell it of, where its egress has a rule for the name. When it
// returns the rules are laid.
func (a *Agent) Told(ctx context.Context, pod netip.Addr, name string, addrs []netip.Addr, ttl time.Duration) error {
	disk, err := a.loadPods()
	if err != nil {
		return err
	}
	for uid, h := range disk {
		if h.pod == nil || h.net.Address != pod {
			continue
		}
		news, err := a.noteTold(uid, name, addrs, ttl)
		if err != nil || !news {
			return err
		}
		return a.layHostRules(ctx)
	}
	return fmt.Errorf("no pod of this host has the address %s", pod)
}

// noteTold takes note of addresses, and tells whether any was new.
func (a *Agent) noteTold(uid api.UID, name string, addrs []netip.Addr, ttl time.Duration) (bool, error) {
	a.toldMu.Lock()
	defer a.toldMu.Unlock()
	now := time.Now()
	list, news, longer := learn(a.told(uid), strings.ToLower(strings.TrimSuffix(name, ".")), addrs, now.Add(max(ttl, toldLeast)), now.Add(ttl))
	if !news && !longer {
		return false, nil
	}
	return news, a.setTold(uid, list)
}

// learn adds addresses of a name to a list. Those that are on it until least need no change, so that a file is not written for every answer.
func learn(old []podstate.Told, name string, addrs []netip.Addr, until, least time.Time) (list []podstate.Told, news, longer bool) {
	list = slices.Clone(old)
	for _, addr := range addrs {
		if !addr.IsValid() || addr.Is4In6() || addr.IsLoopback() || addr.IsUnspecified() || addr.IsMulticast() {
			continue
		}
		i := slices.IndexFunc(list, func(t podstate.Told) bool { return t.Name == name && t.Address == addr })
		switch {
		case i < 0:
			list, news = append(list, podstate.Told{Name: name, Address: addr, Until: until}), true
		case list[i].Until.Before(least):
			list[i].Until, longer = until, true
		}
	}
	if over := len(list) - toldMost; over > 0 {
		slices.SortStableFunc(list, func(x, y podstate.Told) int { return x.Until.Compare(y.Until) })
		list = list[over:]
	}
	return list, news, longer
}

// forgetTold takes back what pods were told and whose time is over, unless they have a connection to there.
func (a *Agent) forgetTold(ctx context.Context, disk map[api.UID]held) {
	a.toldMu.Lock()
	defer a.toldMu.Unlock()
	now := time.Now()
	over := func(t podstate.Told) bool { return t.Until.Before(now) }
	var talking func(pod, to netip.Addr) bool
	for uid, h := range disk {
		if h.pod == nil || !slices.ContainsFunc(a.told(uid), over) {
			continue
		}
		if talking == nil {
			var err error
			if talking, err = a.cfg.Machine.Talking(ctx); err != nil {
				a.log.Warn("open connections cannot be listed; addresses that pods were told of stay allowed", "err", err)
				return
			}
		}
		list := slices.DeleteFunc(slices.Clone(a.told(uid)), func(t podstate.Told) bool { return over(t) && !talking(asSeenBy(h.net.Address, t.Address), t.Address) })
		for i := range list {
			if over(list[i]) {
				list[i].Until = now.Add(toldLeast)
			}
		}
		if err := a.setTold(uid, list); err != nil {
			a.log.Warn("addresses that a pod was told of stay allowed", "pod", h.pod.Metadata.Name, "err", err)
		}
	}
}

// asSeenBy gives a pod's address in the version of IP that another address is of.
func asSeenBy(pod, other netip.Addr) netip.Addr {
	if other.Is4() {
		return pod
	}
	return linker.IPv6(pod)
}

// Follows tells whether a pod's egress has a rule for a name, given without the final dot.
func Follows(e *api.Egress) func(name string) bool {
	if e == nil || !slices.ContainsFunc(e.Allow, func(r api.EgressRule) bool { return r.Name != "" }) {
		return nil
	}
	return func(name string) bool {
		return slices.ContainsFunc(e.Allow, func(r api.EgressRule) bool { return r.Matches(name) })
	}
}

// Refused writes to the journal that a packet was refused. The kernel bounds how often.
func (a *Agent) Refused(r linker.Refusal) {
	disk, err := a.loadPods()
	if err != nil {
		a.log.Warn("a packet was refused", "interface", r.Interface, "to", r.To, "protocol", r.Protocol, "err", err)
		return
	}
	for uid, h := range disk {
		if h.pod != nil && podnet.VethName(uid) == r.Interface {
			a.log.Warn("egress refused", "project", h.pod.Metadata.Project, "pod", h.pod.Metadata.Name, "to", r.To, "protocol", r.Protocol)
		}
	}
}

// explainEgress tells what a pod is held to, for gear why.
func (a *Agent) explainEgress(ctx context.Context, h held) (*api.EgressState, error) {
	e := a.egress(h)
	if e == nil {
		return nil, nil
	}
	uid := h.pod.Metadata.UID
	n, err := a.cfg.Explain.Refused(ctx, uid)
	if err != nil {
		return nil, err
	}
	out := &api.EgressState{Egress: *e, Refused: n}
	follows := Follows(e)
	for _, t := range a.told(uid) {
		if follows != nil && follows(t.Name) {
			out.Told = append(out.Told, api.ToldName{Name: t.Name, Address: t.Address, Until: t.Until})
		}
	}
	return out, nil
}

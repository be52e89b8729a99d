package linker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
)

// Cut ends the flows of a pod's namespace that its new links make wrong, and gives their number by
// reason. down says of a backend's host that it is down; nil means that none is. Call it after Update,
// so that no new flow can take the old way. The rules are:
//
//   - a backend on a host that is down ends its flows, whatever the policy;
//   - a backend that is gone ends its TCP flows with api.Cut, and leaves them with api.Drain,
//     also when no backend is left;
//   - a backend that is gone always ends its UDP flows;
//   - a link that is gone ends its flows.
//
// The program sees a reset when it next uses the connection, and the end of it after abortDelay when it does not. Where nothing of this can be the case the flows are not looked at: reading
// those of one namespace costs as much as those of the whole machine are.
func Cut(ctx context.Context, path string, old, new []api.LinkTarget, down func(netip.Addr) bool) (map[Reason]int, error) {
	if !mayEnd(old, new, down != nil) {
		return map[Reason]int{}, ctx.Err()
	}
	ended, err := end(ctx, path, func(f flow) (Reason, bool) { return linkVerdict(f, old, new, down) })
	if err != nil {
		return ended, fmt.Errorf("cutting links in namespace %q: %w", path, err)
	}
	return ended, nil
}

// Flush ends the flows of the host's namespace that belong to a pod which is gone, or to a host port which
// has become another's, and gives their number by reason. Call it after Update, and before a freed address or port is given away.
func Flush(ctx context.Context, path string, old, new HostConfig) (map[Reason]int, error) {
	was, is := old.lookup(), new.lookup()
	if !mayFlush(was, is) {
		return map[Reason]int{}, ctx.Err()
	}
	ended, err := end(ctx, path, func(f flow) (Reason, bool) { return hostVerdict(f, was, is) })
	if err != nil {
		return ended, fmt.Errorf("flushing flows in namespace %q: %w", path, err)
	}
	return ended, nil
}

// end deletes the entries of a namespace that doomed names.
func end(ctx context.Context, path string, doomed func(flow) (Reason, bool)) (map[Reason]int, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e := &ending{doomed: doomed, count: map[Reason]int{}, sockets: aborter{path: path}}
	defer e.sockets.begin()
	h, err := handle(path)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		for range maxPasses { // a table that changes while it is read can hide an entry
			_, err = h.ConntrackDeleteFilters(netlink.ConntrackTable, family, e)
			if !errors.Is(err, netlink.ErrDumpInterrupted) {
				break
			}
		}
		if err != nil {
			return e.count, fmt.Errorf("deleting connection tracking entries: %w", err)
		}
	}
	return e.count, nil
}

// entries lists the flows of a namespace, of both versions of IP.
func entries(h *netlink.Handle) ([]*netlink.ConntrackFlow, error) {
	var all []*netlink.ConntrackFlow
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		list, err := h.ConntrackTableList(netlink.ConntrackTable, family)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

// Talking gives a test for whether a namespace has a flow that an address started to another.
func Talking(ctx context.Context, path string) (func(from, to netip.Addr) bool, error) {
	open := map[[2]netip.Addr]bool{}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h, err := handle(path)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	for range maxPasses {
		var flows []*netlink.ConntrackFlow
		if flows, err = entries(h); err == nil {
			for _, c := range flows {
				if f, ok := flowOf(c); ok {
					open[[2]netip.Addr{f.source, f.dialled.Addr()}] = true
				}
			}
			return func(from, to netip.Addr) bool { return open[[2]netip.Addr{from, to}] }, nil
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return nil, fmt.Errorf("listing flows in namespace %q: %w", path, err)
}

// handle opens a netfilter socket in a namespace; "" means the caller's.
func handle(path string) (*netlink.Handle, error) {
	if path == "" {
		h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		if err != nil {
			return nil, fmt.Errorf("opening a netfilter socket: %w", err)
		}
		return h, nil
	}
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("opening network namespace: %w", err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("opening a netfilter socket: %w", err)
	}
	return h, nil
}

// ending picks and counts the entries to delete.
type ending struct {
	doomed  func(flow) (Reason, bool)
	count   map[Reason]int
	sockets aborter
}

var _ netlink.CustomConntrackFilter = (*ending)(nil)

// MatchConntrackFlow reports whether an entry is to be deleted, which it then is at once.
func (e *ending) MatchConntrackFlow(c *netlink.ConntrackFlow) bool {
	f, ok := flowOf(c)
	if !ok {
		return false
	}
	reason, ok := e.doomed(f)
	if ok {
		e.count[reason]++
		e.sockets.note(c.Forward)
	}
	return ok
}

// flowOf gives what of an entry the decisions need; false for protocols without ports.
func flowOf(c *netlink.ConntrackFlow) (flow, bool) {
	protocol := map[uint8]api.Protocol{unix.IPPROTO_TCP: api.TCP, unix.IPPROTO_UDP: api.UDP}[c.Forward.Protocol]
	source, ok1 := addrOf(c.Forward.SrcIP)
	dialled, ok2 := addrOf(c.Forward.DstIP)
	answers, ok3 := addrOf(c.Reverse.SrcIP)
	return flow{protocol, source, netip.AddrPortFrom(dialled, c.Forward.DstPort), netip.AddrPortFrom(answers, c.Reverse.SrcPort)},
		protocol != "" && ok1 && ok2 && ok3
}

func addrOf(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok
}

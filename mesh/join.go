package mesh

import (
	"bufio"
	"context"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// peers are the addresses where other members may be.
type peers struct {
	news chan struct{} // one slot

	mu    sync.Mutex
	addrs []netip.Addr
}

func (p *peers) init() { p.news = make(chan struct{}, 1) }

func (p *peers) set(addrs []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addrs = slices.Clone(addrs)
	kick(p.news)
}

func (p *peers) list() []netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.addrs)
}

// Join names the hosts that should be members, in place of those named before; it returns at
// once. They are tried until they are members, for as long as the node runs: that also brings
// together two halves of a cluster that forgot each other. An empty list changes nothing: it never
// means that there are no others.
func (n *Node) Join(addrs []netip.Addr) {
	if len(addrs) > 0 {
		n.peers.set(addrs)
	}
}

// The waits between attempts to join: short while alone, long while only some are missing.
const (
	firstWait  = 500 * time.Millisecond
	aloneWait  = 5 * time.Second
	memberWait = 30 * time.Second
	triesARun  = 3 // peers tried in one attempt; serf tells of the rest
)

func (n *Node) join(ctx context.Context) {
	wait := firstWait
	for {
		n.tryJoin(ctx)
		alone := len(n.alive()) < 2
		if !alone {
			wait = memberWait
		}
		select {
		case <-ctx.Done():
			return
		case <-n.peers.news:
			wait = firstWait
		case <-time.After(wait):
			wait = min(2*wait, aloneWait)
		}
	}
}

// tryJoin tries some of the missing peers until one answers.
func (n *Node) tryJoin(ctx context.Context) {
	missing := n.missing()
	rand.Shuffle(len(missing), func(i, j int) { missing[i], missing[j] = missing[j], missing[i] })
	for _, a := range missing[:min(len(missing), triesARun)] {
		if ctx.Err() != nil {
			return
		}
		at := netip.AddrPortFrom(a, n.config.Port).String()
		_, err := n.serf.Join([]string{at}, true)
		if err == nil {
			kick(n.dirty)
			return
		}
		n.config.Logger.Debug("a peer does not answer yet", "peer", at, "error", err)
	}
}

// missing gives the peers that are not living members.
func (n *Node) missing() []netip.Addr {
	alive := n.alive()
	return slices.DeleteFunc(n.peers.list(), func(a netip.Addr) bool { return a == n.config.Address || alive[a] })
}

// alive gives the addresses of the living members, as serf sees them now.
func (n *Node) alive() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, m := range merge(nil, n.serf.Members(), time.Time{}) {
		if m.State == Alive {
			out[m.Address] = true
		}
	}
	return out
}

// snapshotPeers reads the members that were alive last from serf's snapshot. Serf tries them once
// when it starts, which is too early when a whole cluster is powered on. Unknown lines and
// a missing file are nothing: Join names the others.
func snapshotPeers(path string) []netip.Addr {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var names []string
	at := map[string]netip.Addr{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		kind, rest, _ := strings.Cut(lines.Text(), ": ")
		name, addr, _ := strings.Cut(rest, " ")
		switch kind {
		case "alive":
			if a, err := netip.ParseAddrPort(addr); err == nil {
				names, at[name] = append(names, name), a.Addr().Unmap()
			}
		case "leave":
			clear(at)
		}
	}
	var out []netip.Addr
	for _, name := range names { // also those that failed later: they may be back
		if a, ok := at[name]; ok && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

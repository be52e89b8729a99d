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

// The waits between attempts to join.
const (
	firstWait  = 500 * time.Millisecond
	aloneWait  = 2 * time.Second // at most, while alone
	lostWait   = 500 * time.Millisecond
	lostFor    = 2 * time.Minute
	memberWait = 30 * time.Second
	triesARun  = 3 // peers tried in one attempt; serf tells of the rest
)

func (n *Node) join(ctx context.Context) {
	tries, lost := 0, time.Now()
	for {
		n.tryJoin(ctx)
		select {
		case <-ctx.Done():
			return
		case <-n.peers.news:
			tries = 0
		case <-n.lost:
			tries, lost = 0, time.Now()
		case <-time.After(joinWait(tries, len(n.alive()), time.Since(lost))):
			tries++
		}
	}
}

// joinWait is the time to the next attempt, after a number of tries: short while alone, and long while only some are missing. When one has
// been lost a while ago it may have been the network, which is back before serf tries that host again; all who are left
// try so often that one of them does every lostWait.
func joinWait(tries, alive int, sinceLost time.Duration) time.Duration {
	short := min(firstWait<<min(tries, 8), aloneWait)
	switch {
	case alive < 2:
		return short
	case sinceLost < lostFor:
		return min(max(short, time.Duration(alive)*lostWait), memberWait)
	}
	return memberWait
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

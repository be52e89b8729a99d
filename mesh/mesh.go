// Package mesh keeps a host in the gossip of the cluster: who else is there, who has vanished,
// and hints that something is newer than what one has.
//
// Gossip hints, it never decides. An event may be lost (of a burst of 20,000 a receiver was seen
// to get 573), repeated or late, and whoever holds the gossip key can say anything in anyone's name: serf
// has no identity of nodes. So a hint only ever says "this number is at least N, pull", being a
// member authorises nothing, and a host that gossip calls failed loses its place in links, DNS and
// routers, which is cheap to undo, and nothing else.
//
// Hosts do not leave when their agent stops or is upgraded: their containers run on. They leave
// when an operator removes them.
package mesh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"gearmesh.dev/api"
)

// Node is this host's membership of the mesh. Its methods may be called by several goroutines.
type Node struct {
	config  Config
	serf    *serf.Serf
	events  chan serf.Event
	changed chan struct{} // one slot, read by the user
	dirty   chan struct{} // one slot: serf's members may differ from view
	lost    chan struct{} // one slot: a member has failed
	view    atomic.Pointer[view]
	peers   peers
	hints   hints
	graces  graces

	keysMu sync.Mutex // one at a time changes the keys
	ring   *memberlist.Keyring

	cancel context.CancelFunc
	loops  sync.WaitGroup
}

// Start listens and becomes a member. It returns at once, alone or not: peers from the snapshot,
// and those that Join names later, are tried in the background.
func Start(c Config) (*Node, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	n := &Node{config: c, events: make(chan serf.Event, 1024), changed: make(chan struct{}, 1), dirty: make(chan struct{}, 1), lost: make(chan struct{}, 1)}
	n.view.Store(&view{})
	n.peers.init()
	n.hints.init()
	n.peers.set(snapshotPeers(c.Snapshot))
	ghosts := loadFailed(c.failedPath())
	var err error
	if n.ring, err = c.keyring(); err != nil {
		return nil, err
	}
	at := netip.AddrPortFrom(c.Address, c.Port)
	t, err := listen(at, c.Logger)
	if err != nil {
		return nil, fmt.Errorf("starting the mesh on %s: %w", at, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.loops.Go(func() { n.drain(ctx) })
	sc := c.serf(n.events, n.ring)
	sc.MemberlistConfig.Transport = t
	if n.serf, err = serf.Create(sc); err != nil {
		cancel()
		n.loops.Wait()
		return nil, errors.Join(fmt.Errorf("starting the mesh on %s: %w", at, err), t.Shutdown())
	}
	n.refresh(ghosts)
	n.loops.Go(func() { n.watch(ctx) })
	n.loops.Go(func() { n.join(ctx) })
	n.loops.Go(func() { n.send(ctx) })
	return n, nil
}

// Changed is kicked when a member changed or a hint came in. It has one slot: many changes may
// be one kick, so read Members, Down and Hints anew.
func (n *Node) Changed() <-chan struct{} { return n.changed }

// Close stops for a restart. The host does not leave: it says that it restarts, so that the others
// spare it for Tuning.RestartGrace, and keeps its snapshot.
func (n *Node) Close(ctx context.Context) error {
	n.sayRestart(ctx)
	return n.stop()
}

// Leave tells the others that this host is no more, and stops. Only for a host that an operator
// removed: its endpoints vanish everywhere. It takes about two seconds.
func (n *Node) Leave(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- n.serf.Leave() }()
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		err = fmt.Errorf("leaving the mesh: %w", err)
	}
	return errors.Join(err, n.stop())
}

// Forget removes a failed host that an operator removed, here and at all members, instead of
// waiting for Tuning.Forget. A host that still lives refutes it.
func (n *Node) Forget(host api.Name) error {
	if err := n.serf.RemoveFailedNodePrune(string(host)); err != nil {
		return fmt.Errorf("forgetting host %q in the mesh: %w", host, err)
	}
	n.view.Load().ghosts.drop(host)
	kick(n.dirty)
	return nil
}

// stop ends serf first: its goroutines may be writing to events, which must be drained until
// they are done.
func (n *Node) stop() error {
	err := n.serf.Shutdown()
	n.cancel()
	n.loops.Wait()
	if err != nil {
		return fmt.Errorf("stopping the mesh: %w", err)
	}
	return nil
}

// drain takes every event at once. Serf holds its locks while it writes to the channel, so this
// goroutine calls nothing of serf: it would wait for itself.
func (n *Node) drain(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-n.events:
			n.handle(e)
		}
	}
}

func (n *Node) handle(e serf.Event) {
	switch e := e.(type) {
	case serf.MemberEvent:
		kick(n.dirty)
		if e.Type == serf.EventMemberFailed {
			kick(n.lost)
		}
	case serf.UserEvent:
		if n.take(e.Name, e.Payload) {
			kick(n.changed)
		}
	}
}

// watch keeps the view up to date. Member events only say that it may be stale: with a snapshot serf
// drops those that come too fast, which is also why there is a period.
func (n *Node) watch(ctx context.Context) {
	period := time.NewTicker(5 * time.Second)
	defer period.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.dirty:
		case <-period.C:
		case <-n.graces.expired():
		}
		if n.refresh(n.view.Load().ghosts) {
			kick(n.changed)
		}
		pause(ctx, 20*time.Millisecond) // a burst of joins is one refresh
	}
}

// kick fills a one-slot channel.
func kick(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// pause waits and tells whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// serf gives the configuration of serf and memberlist.
func (c Config) serf(events chan<- serf.Event, ring *memberlist.Keyring) *serf.Config {
	logger := log.New(&lineLog{log: c.Logger}, "", 0)
	out := serf.DefaultConfig()
	out.NodeName = string(c.Name)
	out.Tags = c.Tags.encode()
	out.EventCh = events
	out.Logger = logger
	out.SnapshotPath = c.Snapshot
	out.Merge = gate{}
	// With resolution on, members vote who may bear a name, and the loser shuts down: whoever
	// holds the key could silence any host.
	out.EnableNameConflictResolution = false
	out.DisableCoordinates = true // not used, and they ride on every ping
	out.ReconnectInterval = c.Tuning.Reconnect
	out.ReconnectTimeout = c.Tuning.Forget
	out.TombstoneTimeout = c.Tuning.Forget
	out.MinQueueDepth = 4096 // grows with the members
	out.MemberlistConfig = c.memberlist(logger, ring)
	return out
}

func (c Config) memberlist(logger *log.Logger, ring *memberlist.Keyring) *memberlist.Config {
	t, out := c.Tuning, memberlist.DefaultLANConfig()
	out.Logger = logger
	out.Keyring = ring
	out.BindAddr, out.BindPort = c.Address.String(), int(c.Port)
	out.AdvertiseAddr, out.AdvertisePort = c.Address.String(), int(c.Port)
	out.ProbeInterval, out.ProbeTimeout = t.ProbeInterval, t.ProbeTimeout
	out.SuspicionMult, out.SuspicionMaxTimeoutMult = t.SuspicionMult, t.SuspicionMaxMult
	out.GossipInterval, out.GossipNodes = t.GossipInterval, t.GossipNodes
	out.DeadNodeReclaimTime = t.Reclaim
	out.TCPTimeout = t.StreamTimeout
	out.EnableCompression = false // messages are small, and a bomb would need unpacking
	return out
}

// gate refuses members whose name is not a Name, before it comes into any log, file or rule.
type gate struct{}

var _ serf.MergeDelegate = gate{}

func (gate) NotifyMerge(members []*serf.Member) error {
	for _, m := range members {
		if err := api.Name(m.Name).Validate(); err != nil {
			return fmt.Errorf("member from %s: %w", m.Addr, err)
		}
	}
	return nil
}

// discard is the logger of a Config without one.
func discard(l *slog.Logger) *slog.Logger { return cmp.Or(l, slog.New(slog.DiscardHandler)) }

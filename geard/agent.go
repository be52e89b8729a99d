// Package geard is the agent: it makes what runs on its host equal to what the master assigned to
// it, and goes on from its own disk when there is no master.
//
// Six loops share one memory of the desired state:
//
//	follow     the master's stream of patches → memory (disk first, then everybody else)
//	reconcile  desired pods + what there is → plan (pure) → one task at a time a pod
//	network    directory + mesh → link rules of each pod, host port rules
//	balance    balanced links → the host's HAProxy for them
//	report     state of the pods and own endpoints → master, mesh hint; as rarely as the master allows
//	peers      endpoints straight from the hosts that hint news, also with no master
//
// What network has laid of a pod's links, package linkfeed tells the pod's containers.
//
// None waits for another: they wake each other with kicks.
package geard

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/linkfeed"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/geard/secrets"
	"gearmesh.dev/geard/volumes"
	"gearmesh.dev/internal/loop"
	"gearmesh.dev/linker"
)

// Master is what the agent asks of the master.
type Master interface {
	// Desired streams the changes of the host's desired state. A connection that is lost or silent
	// gives an error and is made again; the first patch of each is full.
	Desired(ctx context.Context, host api.Name) iter.Seq2[api.Patch, error]
	// Report tells the state of the host and renews its lease, and those of the singletons that the answer names. The answer also says
	// how long the next one may wait.
	Report(ctx context.Context, r api.HostReport) (api.ReportAnswer, error)
}

// Mesh is what the agent asks of the mesh. It only hints: nothing is assigned or moved on its word.
type Mesh interface {
	// Down tells whether a host is reported as failed. Unknown hosts are not.
	Down(host api.Name) bool
	// Changed wakes after each change of the members or of a hint.
	Changed() <-chan struct{}
	// Alive counts the members that answer, this host included.
	Alive() int
	// HintEndpoints tells the others that this host's endpoints are at seq.
	HintEndpoints(seq int64)
	// Hints gives the highest seq that each host has hinted at.
	Hints() map[api.Name]int64
	// Join makes peers known, to be joined when they answer.
	Join(peers []netip.Addr)
	// SetKeys changes the keys, on disk and in use: the first one encrypts, all are accepted.
	SetKeys(keys [][]byte) error
}

// Machine is the part of the host that runs pods. Every method is idempotent and can be cut
// short. The real one is systemd, dockerd and netfilter; the fake one of the tests is in memory.
type Machine interface {
	// Pods sums up the units of each of the pods.
	Pods(ctx context.Context, pods []api.Pod) (map[api.UID]UnitsState, error)
	// Install writes the unit files of a pod that are missing or differ.
	Install(ctx context.Context, pod api.Pod) error
	// Pull fetches the images of a pod that the host lacks.
	Pull(ctx context.Context, pod api.Pod) error
	// Start asks for the start of a pod's units and does not wait until they are ready.
	Start(ctx context.Context, pod api.Pod) error
	// Lease sets a singleton's dead-man timer anew, whether the pod runs or not: unless it is set again, the host itself ends
	// the pod api.SingletonLease later, whatever has become of the agent.
	Lease(ctx context.Context, pod api.Pod) error
	// Lapse does at once what the timer does at its end. It does not wait.
	Lapse(ctx context.Context, pod api.Pod) error
	// Renew tells a container that its secrets have changed: by a signal, or by a restart of its unit when signal is
	// empty. It does not wait.
	Renew(ctx context.Context, pod api.Pod, container api.Name, signal string) error
	// Remove stops a pod and removes its units and containers.
	Remove(ctx context.Context, pod api.Pod) error
	// Relink changes the link rules in a pod's namespace. Connections to what is down are cut.
	Relink(ctx context.Context, l PodLinks) error
	// LinkStates tells what of each link stands in a pod's namespace.
	LinkStates(ctx context.Context, uid api.UID, links []api.LinkTarget, drains []linker.Drain) ([]api.LinkState, error)
	// ListensIPv6 names those of a pod's ports on which somebody in its namespace waits over IPv6.
	ListensIPv6(ctx context.Context, uid api.UID, ports []api.HostPort) ([]api.Name, error)
	// Touched gives those of the pods in whose namespaces the rules are not certainly as Relink has last laid them: somebody else
	// has changed them, or, of a few at a time, nobody has looked yet. It is told of all pods of the host, and it is cheap.
	Touched(ctx context.Context, pods []api.UID) ([]api.UID, error)
	// HostRules lays the host's own rules: port mappings and guards.
	HostRules(ctx context.Context, r HostRules) error
	// Talking gives a test for open flows from a pod to an address.
	Talking(ctx context.Context) (func(pod, to netip.Addr) bool, error)
	// PortFree tells whether nobody listens on a port of the host.
	PortFree(p api.Protocol, port uint16) bool
	// Router starts or stops the router on this host.
	Router(ctx context.Context, on bool) error
	// Balance makes the host's HAProxy for balanced links carry these, starting it when it does not run; with none it is stopped.
	// Connections to backends that are gone end as the links say, and those to hosts that are down.
	Balance(ctx context.Context, links []api.BalancedLink, down func(netip.Addr) bool) error
}

// PodLinks is a change of a pod's links.
type PodLinks struct {
	UID      api.UID
	Address  netip.Addr
	Old, New []api.LinkTarget
	Over     []linker.Drain        // backends whose connections are to end
	Known    bool                  // Old is what was last laid, and not a guess from disk
	Down     func(netip.Addr) bool // tells of a host address whether the mesh reports the host as failed; nil when none is
}

// HostRules is what the rules of a host are made from.
type HostRules struct {
	Address netip.Addr          // of the host
	IPv6    netip.Addr          // of the host too; the zero one when it has none
	Members []netip.Addr        // of all hosts of the cluster, IPv4 and IPv6
	Public  []linker.PublicPort // of other hosts of the cluster
	Pods    []podstate.Net
	// Balanced are the ports of the host's balancer that links lead to, by the pod's address.
	Balanced map[netip.Addr][]uint16
	Egress   map[netip.Addr]*linker.Egress // of the pods that are held to something, by address
}

// Config is what an agent needs. All fields must be set but Inside and IPv6.
type Config struct {
	// MaxPolicy is the most that this host lets any pod have, whatever the master says: a wrong master
	// gets no more. Empty is restricted.
	MaxPolicy api.Policy
	// Volumes names the directories of this host's volume classes; nil when it has none but the default.
	Volumes volumes.Classes

	Name     api.Name
	Address  netip.Addr          // where other hosts reach this one
	IPv6     func() api.HostIPv6 // its IPv6 addresses; it may have one later
	Domain   api.Hostname        // DNS domain of the cluster
	Version  string
	Capacity api.Resources // what pods may use in all
	Dirs     podstate.Dirs
	Master   Master
	Mesh     Mesh
	Machine  Machine
	Inspect  Inspector
	Peers    Peers
	Explain  Explainer
	Inside   Inside // nil where nobody may reach into pods
	Log      *slog.Logger
}

// Agent runs the pods of one host.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	mem     *memory
	disk    *podstate.Cache // the pods' files
	secrets secrets.Store
	feeds   *linkfeed.Server
	changed broadcast // the directory, or who of it is alive, has changed

	leaseNews broadcast // an answer has named singletons

	reconcileKick, networkKick, balanceKick, reportKick, peersKick loop.Kick

	tasks   sync.WaitGroup
	turns   turns
	mu      sync.Mutex
	places  places
	pods    map[api.UID]*podWork
	report  api.HostReport
	trouble map[api.Reason]string // conditions of the host itself

	routerOn    bool      // as it was last asked for; both are network's alone
	routerAsked time.Time // when

	ports     *linkPorts
	linkFiles *linkFiles
	balanceMu sync.Mutex // one at a time changes the balancer
	balances  bool       // it was last asked to run, or nobody knows
	toldMu    sync.Mutex // one at a time changes what pods were told
	rulesMu   sync.Mutex // one at a time lays rules
	rulesLaid bool       // since the start
	rulesIPv6 bool       // they were of a host with IPv6
	detached  atomic.Bool

	gossip   atomic.Int64 // Seq of the mesh's keys in use
	sessions atomic.Int64 // that people have open in pods
}

// podWork is what the agent remembers of a pod between passes; all of it can be lost.
type podWork struct {
	busy     bool
	failures int
	retry    time.Time
	progress Progress
	told     *[]podstate.Told // nil when not read yet
	linked   []api.LinkTarget // as last laid; nil when not known
	made     bool             // by this agent: its namespace has the rules of this version
	drain    drain
	listens  listens

	lease   time.Time // of a singleton: when the newest report was sent whose answer named it
	renewed time.Time // and the one by which its timer was set
}

// New opens the host's state. It starts nothing.
func New(cfg Config) (*Agent, error) {
	dir := filepath.Join(cfg.Dirs.State, "agent")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	mem, err := openMemory(cfg.Dirs, cfg.Log)
	if err != nil {
		return nil, err
	}
	kept, err := secrets.New(cfg.Dirs)
	if err != nil {
		return nil, err
	}
	ports, err := newLinkPorts(cfg.Dirs)
	if err != nil {
		cfg.Log.Warn("the ports of balanced links are lost and given anew", "err", err)
	}
	return &Agent{ports: ports, linkFiles: newLinkFiles(cfg.Dirs, cfg.Log), balances: true, balanceKick: loop.NewKick(), cfg: cfg, log: cfg.Log, mem: mem, disk: podstate.NewCache(cfg.Dirs), secrets: kept, feeds: linkfeed.New(cfg.Dirs, cfg.Log), places: newPlaces(rand.Uint32()), pods: map[api.UID]*podWork{}, turns: newTurns(),
		trouble: map[api.Reason]string{}, reconcileKick: loop.NewKick(), networkKick: loop.NewKick(),
		reportKick: loop.NewKick(), peersKick: loop.NewKick()}, nil
}

// The longest times between two passes of a loop, for what no kick tells of.
const (
	reconcilePeriod = 10 * time.Second
	networkPeriod   = 4 * time.Second // rules that others flushed are back within it
	peersPeriod     = 30 * time.Second
	touchedPeriod   = 2 * time.Second // rules of pods that others changed are back within it and a pass
	routerPeriod    = 15 * time.Second
)

// passGap is the time between the starts of two passes of a loop at least.
const passGap = 10 * time.Millisecond

// Run works until ctx ends. It stops nothing that runs: pods do not need the agent.
func (a *Agent) Run(ctx context.Context) error {
	a.mendPlaces()
	g, ctx := errgroup.WithContext(ctx)
	loops := map[*loop.Kick]struct {
		period time.Duration
		pass   func(context.Context)
	}{
		&a.reconcileKick: {reconcilePeriod, a.reconcile},
		&a.networkKick:   {networkPeriod, a.network},
		&a.balanceKick:   {balancePeriod, a.balance},
		&a.peersKick:     {peersPeriod, a.pullPeers},
	}
	for kick, l := range loops {
		g.Go(func() error { loop.Run(ctx, *kick, passGap, l.period, l.pass); return nil })
	}
	g.Go(func() error { loop.RunPaced(ctx, a.reportKick, passGap, a.sendReport); return nil })
	g.Go(func() error { return a.follow(ctx) })
	g.Go(func() error { return a.watchMesh(ctx) })
	g.Go(func() error { return a.listenKicks(ctx) })
	g.Go(func() error { <-ctx.Done(); a.feeds.Stop(); return nil })
	g.Go(func() error { loop.Run(ctx, loop.NewKick(), 0, touchedPeriod, a.watchPods); return nil })
	g.Go(func() error { loop.Run(ctx, a.mem.changed, flushDelay, flushPeriod, a.flush); return nil })
	err := g.Wait()
	a.tasks.Wait()
	return errors.Join(err, a.mem.flush())
}

// reasonVolumes is the condition of a host that cannot hold volumes to their sizes.
const reasonVolumes = api.Reason("VolumeSizeNotHeld")

// flush brings the directory to disk.
func (a *Agent) flush(context.Context) { a.condition(reasonFlush, a.mem.flush()) }

// reasonFlush is the condition of a host that cannot keep its directory on disk.
const reasonFlush = api.Reason("DirectoryNotKept")

// follow keeps the stream of desired state open, for ever.
func (a *Agent) follow(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := a.followOnce(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("the stream of desired state is started anew", "err", err)
		}
		loop.Sleep(ctx, time.Second+rand.N(500*time.Millisecond))
	}
	return nil
}

func (a *Agent) followOnce(ctx context.Context) error {
	for patch, err := range a.cfg.Master.Desired(ctx, a.cfg.Name) {
		if err != nil {
			a.log.Warn("the master's stream was lost; this host goes on with what it has", "err", err)
			continue
		}
		err = a.mem.apply(patch)
		a.condition(reasonPatch, err)
		if err != nil {
			return err
		}
		if patch.Report || patch.Full { // a leader that is new may not have heard of this host yet
			a.reportKick.Wake()
		}
		if patch.Gossip != nil {
			a.setGossip(*patch.Gossip)
		}
		if len(patch.Secrets) > 0 {
			a.secretsArrived()
		}
		if !patch.Empty() {
			a.directoryChanged()
		}
		if patch.OfPods() { // what pods make of the rest, network tells
			a.reconcileKick.Wake()
		}
	}
	return errors.New("the master closed the stream")
}

// reasonPatch is the condition of a host that did not take what the master sent: the disk is full,
// or the master is not the leader any more.
const reasonPatch = api.Reason("PatchRefused")

// directoryChanged wakes all that is made from the directory.
func (a *Agent) directoryChanged() {
	a.networkKick.Wake()
	a.changed.wake()
	a.cfg.Mesh.Join(a.members())
}

// watchMesh passes on what the mesh notices.
func (a *Agent) watchMesh(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.cfg.Mesh.Changed():
			a.networkKick.Wake()
			a.changed.wake()
			a.peersKick.Wake()
			a.reportKick.Wake()
		}
	}
}

// condition notes that something is wrong with the host itself, or no longer is.
func (a *Agent) condition(reason api.Reason, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		delete(a.trouble, reason)
		return
	}
	if a.trouble[reason] != err.Error() {
		a.log.Error("this host has a problem", "reason", reason, "err", err)
	}
	a.trouble[reason] = err.Error()
}

// Directory gives what this host knows of the cluster, without the endpoints of hosts that the
// mesh reports as failed. Changed wakes after each change of it.
func (a *Agent) Directory() api.Directory { return a.mem.get().Directory.Alive(a.cfg.Mesh.Down) }

// Changed gives a channel that is closed at the next change of Directory.
func (a *Agent) Changed() <-chan struct{} { return a.changed.next() }

// members gives the addresses of all hosts of the cluster.
func (a *Agent) members() []netip.Addr {
	out := []netip.Addr{a.cfg.Address}
	for _, h := range a.mem.get().Directory.Hosts {
		if h.Name != a.cfg.Name && h.Address.IsValid() {
			out = append(out, h.Address)
		}
	}
	return out
}

// ipv6 gives this host's IPv6 addresses.
func (a *Agent) ipv6() api.HostIPv6 {
	if a.cfg.IPv6 == nil {
		return api.HostIPv6{}
	}
	return a.cfg.IPv6()
}

// members6 gives all IPv6 addresses of the hosts of the cluster.
func (a *Agent) members6() []netip.Addr {
	out := a.ipv6().AllIPv6()
	for _, h := range a.mem.get().Directory.Hosts {
		if h.Name != a.cfg.Name {
			out = append(out, h.AllIPv6()...)
		}
	}
	return out
}

// broadcast wakes any number of waiters at once.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

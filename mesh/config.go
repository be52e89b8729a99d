package mesh

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"gearmesh.dev/api"
)

// DefaultPort is the UDP and TCP port of the mesh.
const DefaultPort = 7946

// KeyLen is the length of a gossip key in bytes: AES-256-GCM.
const KeyLen = 32

// Config says who this host is in the mesh.
type Config struct {
	Name     api.Name     // the host's; unique in the cluster
	Address  netip.Addr   // listened on, and told to the others
	Port     uint16       // UDP and TCP; DefaultPort when 0. Every host has the same
	Key      []byte       // KeyLen bytes; a mesh without encryption is refused
	Keyring  string       // file in which SetKeys keeps the keys; when there is one it replaces Key. May be empty
	Tags     Tags         // what the others are told of this host
	Snapshot string       // file of the members known last, to rejoin without being told peers; may be empty. A second file, Snapshot+".failed", has the failed ones
	Logger   *slog.Logger // nothing is logged when nil
	Tuning   Tuning       // LAN() when zero
}

// Tags are what a member tells of itself. They are hints like all of gossip.
type Tags struct {
	Role    string         // such as "master,router"
	Version string         // of the agent
	API     netip.AddrPort // where its agent answers
}

// Tuning is how fast failures are seen, and how sure one is of them. Per host it costs about
// 2/ProbeInterval small datagrams a second, whatever the size of the cluster. An idle host wakes for little else
// than these and the rounds of gossip, so they are most of what its agent costs it.
//
// A host that lost power is called failed after, at the median,
//
//	ProbeInterval × (0.8 + 1 + SuspicionMult × max(1, log10 hosts))
//
// which is: until somebody's turn to probe it comes; until that probe has failed in all ways; while it
// may still speak up. With LAN and up to 10 hosts that is 2.9 s, and 3.5 s at the 99th percentile.
type Tuning struct {
	// ProbeInterval is the time between two probes that a host makes, of one other host in turn.
	// memberlist's 1 s leaves up to 2 s until the first probe; it is the part of the detection time
	// that makes nobody surer, so it is short.
	ProbeInterval time.Duration
	// ProbeTimeout is how long the direct UDP probe may take; the rest of ProbeInterval is for the
	// indirect probes over three other hosts and one over TCP. It needs to be above the round trip
	// of the network and of a busy host's scheduler.
	ProbeTimeout time.Duration
	// SuspicionMult × ProbeInterval is how long an unanswered host stays a suspect, in which it can
	// refute. It is what bears loss, pauses and restarts, so it takes most of the time there is:
	// 2 s with LAN. At 10 % loss one probe in 400 fails in all ways, and the refutation then has
	// 10 rounds of gossip. In clusters of SuspicionMult and more hosts, SuspicionMult-2 others must
	// have found the same.
	SuspicionMult int
	// SuspicionMaxMult × that is waited when the others do not confirm: then it may be our own fault.
	SuspicionMaxMult int
	// GossipInterval is the time between rounds of gossip, each to GossipNodes others. Without
	// news nothing is sent. It bounds how fast hints and refutations travel.
	GossipInterval time.Duration
	// GossipNodes is the number of hosts told in a round.
	GossipNodes int
	// Reconnect is the time between attempts to reach failed hosts: how soon halves of a healed
	// network find each other.
	Reconnect time.Duration
	// Reclaim is how long a host must be failed until its name may come back with another address.
	// With the same address it is taken back at once.
	Reclaim time.Duration
	// Forget is how long failed and left hosts stay known. Long: a host that is off over a weekend
	// comes back as itself, and until then counts in the brake.
	Forget time.Duration
	// RestartGrace is how long a host that said it restarts is not called down.
	RestartGrace time.Duration
	// Together is the time in which more than half of the members vanish when it is rather the
	// network, or this host: see Believe.
	Together time.Duration
	// StreamTimeout bounds a TCP exchange with another host.
	StreamTimeout time.Duration
}

// LAN is the tuning for hosts with round trips under 50 ms.
func LAN() Tuning {
	return Tuning{
		ProbeInterval: 500 * time.Millisecond, ProbeTimeout: 250 * time.Millisecond,
		SuspicionMult: 4, SuspicionMaxMult: 3,
		GossipInterval: 200 * time.Millisecond, GossipNodes: 4,
		Reconnect: 10 * time.Second, Reclaim: 5 * time.Second, Forget: 7 * 24 * time.Hour,
		RestartGrace: 10 * time.Second, Together: 30 * time.Second, StreamTimeout: 3 * time.Second,
	}
}

func (c Config) withDefaults() Config {
	if c.Port == 0 {
		c.Port = DefaultPort
	}
	if c.Tuning == (Tuning{}) {
		c.Tuning = LAN()
	}
	c.Logger = discard(c.Logger)
	return c
}

func (c Config) validate() error {
	if err := c.Name.Validate(); err != nil {
		return fmt.Errorf("mesh: host: %w", err)
	}
	if !c.Address.IsValid() || c.Address.IsUnspecified() || c.Address.IsMulticast() {
		return fmt.Errorf("mesh: address %q: an address that other hosts reach is needed, such as 192.0.2.7", c.Address)
	}
	if len(c.Key) != KeyLen {
		return fmt.Errorf("mesh: the gossip key has %d bytes; %d are needed, no host speaks unencrypted", len(c.Key), KeyLen)
	}
	t := c.Tuning
	if t.ProbeTimeout <= 0 || t.ProbeTimeout >= t.ProbeInterval || t.SuspicionMult < 1 || t.SuspicionMaxMult < 1 ||
		t.GossipInterval <= 0 || t.GossipNodes < 1 || t.Reconnect <= 0 || t.Forget <= 0 || t.StreamTimeout <= 0 {
		return fmt.Errorf("mesh: tuning %+v: all must be above 0, and ProbeTimeout below ProbeInterval; start from LAN()", t)
	}
	return nil
}

func (t Tags) encode() map[string]string {
	out := map[string]string{"role": t.Role, "version": t.Version}
	if t.API.IsValid() {
		out["api"] = t.API.String()
	}
	return out
}

// decodeTags takes what it understands: other versions may say more or less.
func decodeTags(m map[string]string) Tags {
	out := Tags{Role: m["role"], Version: m["version"]}
	out.API, _ = netip.ParseAddrPort(m["api"])
	return out
}

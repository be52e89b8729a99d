package mesh

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/serf/serf"

	"gearmesh.dev/api"
)

// State is what gossip says of a member.
type State string

// The states of a member.
const (
	Alive  State = "alive"
	Failed State = "failed" // does not answer, and has not refuted it
	Left   State = "left"   // was removed by an operator
)

// Member is a host as gossip sees it.
type Member struct {
	Name    api.Name
	Address netip.Addr
	State   State
	Since   time.Time // when this host saw the state begin, also over restarts for Failed
	Tags    Tags
}

// view is what Members and Down answer from; it is never changed, but for the ghosts' own lock.
type view struct {
	members []Member
	down    map[api.Name]bool
	trusted bool
	ghosts  *ghosts
}

// Members gives every known host, this one included, sorted by name.
func (n *Node) Members() []Member { return slices.Clone(n.view.Load().members) }

// Down tells whether links, DNS and routers should do without a host: it failed or left, is not
// just restarting, and did not vanish together with most others. A host that the mesh has never
// heard of is not down: gossip only hints.
func (n *Node) Down(host api.Name) bool { return n.view.Load().down[host] }

// Trusted tells whether every failure is believed. It is false after more than half of the
// members vanished together.
func (n *Node) Trusted() bool { return n.view.Load().trusted }

// Believe gives the members that are down, and whether all that vanished are among them.
//
// When more than half of the members known at a time vanish within the time together, it is
// more likely that this host is cut off, or the network or a switch is broken, than that they all
// died: those are not given as down, so links keep their backends and nothing is rewritten. The ones
// that vanished before stay down. Two hosts are not "more than half": of a pair, the other can fail.
func Believe(members []Member, together time.Duration) (down []api.Name, trusted bool) {
	gone := slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return m.State == Alive })
	slices.SortFunc(gone, func(a, b Member) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Name, b.Name)) })
	alive := len(members) - len(gone)
	doubted := make([]bool, len(gone))
	last, marked := 0, 0
	for first := range gone {
		for last < len(gone) && gone[last].Since.Sub(gone[first].Since) <= together {
			last++
		}
		// Known when the batch began: those alive now, and those that vanished since.
		if known := alive + len(gone) - first; 2*(last-first) > known {
			for marked = max(marked, first); marked < last; marked++ {
				doubted[marked] = true
			}
		}
	}
	for i, m := range gone {
		if !doubted[i] {
			down = append(down, m.Name)
		}
	}
	slices.Sort(down)
	return down, len(down) == len(gone)
}

// refresh reads serf's members into a new view and tells whether anything that users see is
// different.
func (n *Node) refresh(g *ghosts) bool {
	old := n.view.Load()
	now := time.Now()
	members := g.add(merge(old.members, n.serf.Members(), now), now.Add(-n.config.Tuning.Forget))
	next := &view{members: members, ghosts: g, down: map[api.Name]bool{}}
	var down []api.Name
	down, next.trusted = Believe(members, n.config.Tuning.Together)
	for _, name := range down {
		if !n.graces.has(name, now) {
			next.down[name] = true
		}
	}
	n.hints.keep(members)
	n.view.Store(next)
	if next.trusted != old.trusted {
		n.sayTrust(next.trusted)
	}
	if err := g.save(members, n.config.failedPath()); err != nil {
		n.config.Logger.Warn("the failed hosts are not on disk", "error", err)
	}
	return next.trusted != old.trusted || !slices.Equal(old.members, members) || !maps.Equal(old.down, next.down)
}

func (n *Node) sayTrust(trusted bool) {
	if trusted {
		n.config.Logger.Info("gossip is trusted again")
		return
	}
	n.config.Logger.Warn("more than half of the mesh vanished together: their backends are kept")
}

// merge gives serf's members, with the time that each one's state is known to have begun.
func merge(old []Member, now []serf.Member, at time.Time) []Member {
	since := make(map[api.Name]Member, len(old))
	for _, m := range old {
		since[m.Name] = m
	}
	out := make([]Member, 0, len(now))
	for _, s := range now {
		m := Member{Name: api.Name(s.Name), State: stateOf(s.Status), Since: at, Tags: decodeTags(s.Tags)}
		if a, ok := netip.AddrFromSlice(s.Addr); ok {
			m.Address = a.Unmap()
		}
		if o, ok := since[m.Name]; ok && o.State == m.State {
			m.Since = o.Since
		}
		out = append(out, m)
	}
	slices.SortFunc(out, byName)
	return out
}

func byName(a, b Member) int { return cmp.Compare(a.Name, b.Name) }

// stateOf takes a leaving host as alive until it is gone.
func stateOf(s serf.MemberStatus) State {
	switch s {
	case serf.StatusFailed:
		return Failed
	case serf.StatusLeft:
		return Left
	default:
		return Alive
	}
}

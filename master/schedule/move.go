package schedule

import (
	"fmt"

	"gearmesh.dev/api"
)

// Whether a pod that runs would be better elsewhere.
//
// What a move makes better is a list of numbers, the weightiest first, of which the first that is not 0 decides: preferences met,
// over all services that speak of the pod's; the spread; the pods of the service on a host; the load; the number of pods. For each
// there is a sum over the whole cluster that such a move makes smaller, or larger, and that moves for a less weighty one leave as it
// is. So moves come to an end, whatever the services want of each other, and no move is followed by its opposite. Sums of one's own
// would not do: a service that wants to be near another that wants to be apart from it would follow it for ever.

// Move is a better host for a pod.
type Move struct {
	To   api.Name
	Why  string // what is better there, in words
	gain gain
}

// Beats tells whether a move makes more better than another.
func (m *Move) Beats(o *Move) bool { return m.gain.beats(&o.gain) }

// gain is what a move makes better, by levels; worse is negative.
type gain [levels]int64

const (
	levelWishes = iota // preferences met
	levelSpread        // pods of the service under the value of the spread label
	levelSame          // pods of the service on the host
	levelLoad          // thousandths in use of the fuller host
	levelPods          // pods on the host; only of a pod that asks for nothing that can be in use
	levels
)

// Below these a move is not worth its while.
const (
	loadMargin = 100 // thousandths of a host
	podsMargin = 10  // the part of the pods of the fuller host by which it must have more
)

func (g *gain) beats(o *gain) bool {
	for i := range g {
		if g[i] != o[i] {
			return g[i] > o[i]
		}
	}
	return false
}

// enough tells whether a move is worth its while.
func (g *gain) enough() bool {
	for level, n := range g {
		if n != 0 {
			return n > 0 && (level != levelLoad || n >= loadMargin)
		}
	}
	return false
}

// Better finds the host on which a pod that is placed would be better off by enough to move it, if there is one. Nothing that must be is
// broken by the move, neither for the pod nor for others. The Cluster must hold the pods as they will be when all that has begun has
// ended; it is left as it is.
func (c *Cluster) Better(q Request, from api.Name) (best Move, ok bool) {
	at, known := c.byName[from]
	if !known {
		return best, false
	}
	_, k := c.class(&q)
	need, before := q.need(), c.room[at]
	c.count(&q, at, -1)
	defer c.count(&q, at, 1)
	r := c.rules(&q, k)
	t := trade{c: c, rules: r, bonds: c.bonds(&q), from: at, before: before, bounded: q.Placement.MaxSkew > 0,
		weightless: need[cpu] == 0 && need[memory] == 0}
	for _, i := range k.fit {
		if i == at || r.broken(i, &c.room[i].free) != filters {
			continue
		}
		if g, ok := t.gain(i); ok && g.enough() && (best.To == "" || g.beats(&best.gain)) {
			best = Move{To: c.hosts[i].Metadata.Name, gain: g}
			best.Why = t.why(i, &g)
		}
	}
	return best, best.To != ""
}

// Shift counts a pod on another host than before.
func (c *Cluster) Shift(q Request, from, to api.Name) {
	c.count(&q, c.byName[from], -1)
	c.count(&q, c.byName[to], 1)
}

// count takes a pod in on a host, or out. What was found out about hosts without room does not hold any more.
func (c *Cluster) count(q *Request, host, n int32) {
	c.fleet(serviceKey{q.Project, q.Service}).add(host, n)
	if n > 0 {
		c.room[host].use(q.need())
	} else {
		c.room[host].leave(q.need())
	}
	clear(c.failed)
}

// trade is one pod between its host and others. It is counted on none of them.
type trade struct {
	c          *Cluster
	rules      *rules
	bonds      []bond
	from       int32
	before     room // of its host, with the pod
	bounded    bool // the spread is
	weightless bool // it takes nothing that can be in use
}

// gain gives what a move to a host makes better, and whether others allow it.
func (t *trade) gain(to int32) (g gain, ok bool) {
	r := t.rules
	if t.bounded && r.spread.at(t.from) < r.spread.at(to) { // the emptiest value, by which all are measured, might become emptier
		return g, false
	}
	g[levelWishes] = int64(r.met(to) - r.met(t.from))
	for i := range t.bonds {
		met, ok := t.bonds[i].change(t.from, to)
		if !ok {
			return g, false
		}
		g[levelWishes] += met
	}
	if !r.pack || r.label != api.HostLabel {
		g[levelSpread] = int64(r.spread.at(t.from) - r.spread.at(to))
	}
	if !r.pack {
		g[levelSame] = int64(r.same.at(t.from) - r.same.at(to))
		g[levelLoad], g[levelPods] = t.lighter(to)
	}
	return g, true
}

// lighter compares a host, with the pod, to the pod's own as it is now.
func (t *trade) lighter(to int32) (load, pods int64) {
	after := t.c.room[to]
	after.use(t.rules.need)
	load = int64(t.before.share - after.share)
	switch {
	case t.weightless && load < -loadMargin:
		return load, 0
	case t.weightless:
		if pods = int64(t.before.pods - after.pods); pods*podsMargin < int64(t.before.pods) {
			pods = min(pods, 0)
		}
		return 0, pods
	case t.c.room[t.from].share == t.before.share: // its host is as full without it
		return min(load, 0), 0
	}
	return load, 0
}

// why says what decided.
func (t *trade) why(to int32, g *gain) string {
	r, in := t.rules, t.c.room[to]
	in.use(r.need)
	switch {
	case g[levelWishes] != 0:
		return fmt.Sprintf("preferences met: %d more", g[levelWishes])
	case g[levelSpread] != 0 && r.label != api.HostLabel:
		value := func(host int32) string { return r.spread.col.values[r.spread.col.of[host]] }
		return fmt.Sprintf("%s %q has %d pods of the service then, %q had %d", r.label, value(to), r.spread.at(to)+1, value(t.from), r.spread.at(t.from)+1)
	case g[levelSpread] != 0 || g[levelSame] != 0:
		return fmt.Sprintf("it has %d pods of the service then, %s had %d", r.same.at(to)+1, t.c.hosts[t.from].Metadata.Name, r.same.at(t.from)+1)
	case g[levelLoad] != 0:
		return fmt.Sprintf("%d.%d%% of it is in use then, %d.%d%% of %s was", in.share/10, in.share%10, t.before.share/10, t.before.share%10, t.c.hosts[t.from].Metadata.Name)
	}
	return fmt.Sprintf("it has %d pods then, %s had %d", in.pods, t.c.hosts[t.from].Metadata.Name, t.before.pods)
}

// bond is what a service says of the one that a pod belongs to, which may be itself.
type bond struct {
	of, named  tally // pods of the service that says so, and of the one that it names; the pod is among neither
	itself     bool
	near, must bool
}

func (c *Cluster) bonds(q *Request) []bond {
	f := c.fleet(serviceKey{q.Project, q.Service})
	out := make([]bond, 0, len(f.said))
	for _, s := range f.said {
		out = append(out, bond{of: c.tally(s.of, s.within), named: c.tally(f, s.within), itself: s.of == f, near: s.near, must: s.must})
	}
	return out
}

// change gives how many pods more see their preference met when the pod goes from one host to another; false when one would be left
// without what it must be near to.
func (b *bond) change(from, to int32) (met int64, ok bool) {
	if b.of.col.of[from] == b.of.col.of[to] {
		return 0, true
	}
	others := int32(0) // pods that the service names there already, for one who does not count itself
	if b.itself {
		others = 1
	}
	var left, joined int64 // pods that have none of it near any more, and that had none until now
	if b.named.at(from) == others {
		left = int64(b.of.at(from))
	}
	if b.named.at(to) == others {
		joined = int64(b.of.at(to))
	}
	switch {
	case b.must:
		return 0, left == 0
	case b.near:
		return joined - left, true
	}
	return left - joined, true
}

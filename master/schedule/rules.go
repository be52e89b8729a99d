package schedule

import (
	"math"

	"gearmesh.dev/api"
)

// tally is how many pods of a service lie under each value of a label.
type tally struct {
	col *column
	n   []int32
}

func (t tally) at(host int32) int32 { return t.n[t.col.of[host]] }

func (c *Cluster) tally(f *fleet, label string) tally {
	col := c.column(label)
	t := tally{col, c.scratch.get(len(col.values))}
	for host, n := range f.onHost {
		t.n[col.of[host]] += n
	}
	return t
}

// scratch lends the lists of tallies for the time of one question.
type scratch struct {
	lists [][]int32
	used  int
}

func (s *scratch) get(n int) []int32 {
	if s.used == len(s.lists) {
		s.lists = append(s.lists, nil)
	}
	list := s.lists[s.used]
	if cap(list) < n {
		list = make([]int32, n)
	}
	list = list[:n]
	clear(list)
	s.lists[s.used] = list
	s.used++
	return list
}

// filter numbers what may leave out a host that its class does not.
type filter int

const (
	filterNear filter = iota
	filterApart
	filterSkew
	filterMost
	filterRoom // and one for each of what can be counted
	filters    = filterRoom + counted
)

// filterReasons is what the filters are called.
var filterReasons = [filters]api.Reason{filterNear: api.ReasonNotNear, filterApart: api.ReasonNotApart, filterSkew: api.ReasonSpread,
	filterMost: api.ReasonHostMaximum, filterRoom + cpu: api.ReasonCPU, filterRoom + memory: api.ReasonMemory, filterRoom + ports: api.ReasonHostPorts}

// bound leaves out hosts under whose value there are too few or too many pods of a service.
type bound struct {
	tally
	least, most int32
	filter      filter
}

// wish is a bound that is only preferred.
type wish struct {
	tally
	near bool
}

func (w wish) met(host int32) bool { return w.at(host) > 0 == w.near }

// rules is what a request asks of a host beside what is the same for its class.
type rules struct {
	need         amount
	bounds       []bound
	wishes       []wish
	label        string
	spread, same tally // pods of the service under the spread label, and on the host
	pack         bool
}

// rules works out what a request asks for, as things are now. They are good until the next call.
func (c *Cluster) rules(q *Request, k *class) *rules {
	c.scratch.used = 0
	p, f := &q.Placement, c.fleet(serviceKey{q.Project, q.Service})
	r := &rules{need: q.need(), label: p.Spread, pack: p.Pack}
	if r.label == "" {
		r.label = api.HostLabel
	}
	r.same = c.tally(f, api.HostLabel)
	r.spread = r.same
	if r.label != api.HostLabel {
		r.spread = c.tally(f, r.label)
	}
	c.neighbours(q, r)
	for _, other := range f.repellers {
		r.bounds = append(r.bounds, bound{c.tally(other.of, other.within), 0, 0, filterApart})
	}
	if p.MaxSkew > 0 {
		r.bounds = append(r.bounds, bound{r.spread, 0, fewest(r.spread, k.fit) + int32(p.MaxSkew) - 1, filterSkew})
	}
	if p.MaxPerHost > 0 {
		r.bounds = append(r.bounds, bound{r.same, 0, int32(p.MaxPerHost) - 1, filterMost})
	}
	return r
}

// neighbours adds what the request says of other services. The first pod of a service that is to be near
// itself may go anywhere.
func (c *Cluster) neighbours(q *Request, r *rules) {
	for _, a := range q.Placement.Near {
		other := c.fleet(serviceKey{q.Project, a.Service})
		switch {
		case a.Prefer:
			r.wishes = append(r.wishes, wish{c.tally(other, a.Label()), true})
		case a.Service != q.Service || other.pods > 0:
			r.bounds = append(r.bounds, bound{c.tally(other, a.Label()), 1, math.MaxInt32, filterNear})
		}
	}
	for _, a := range q.Placement.Apart {
		t := c.tally(c.fleet(serviceKey{q.Project, a.Service}), a.Label())
		if a.Prefer {
			r.wishes = append(r.wishes, wish{t, false})
		} else {
			r.bounds = append(r.bounds, bound{t, 0, 0, filterApart})
		}
	}
}

// fewest gives the smallest count under the values that hosts have.
func fewest(t tally, hosts []int32) int32 {
	least := int32(math.MaxInt32 / 2)
	for _, i := range hosts {
		least = min(least, t.at(i))
	}
	return least
}

// broken gives the first filter that leaves out a host, or filters when none does.
func (r *rules) broken(host int32, has *amount) filter {
	if f := r.misplaced(host); f != filters {
		return f
	}
	if i := has.short(&r.need); i >= 0 {
		return filterRoom + filter(i)
	}
	return filters
}

// misplaced is broken but for the room.
func (r *rules) misplaced(host int32) filter {
	for i := range r.bounds {
		b := &r.bounds[i]
		if n := b.at(host); n < b.least || n > b.most {
			return b.filter
		}
	}
	return filters
}

// The weights keep the criteria apart: a service has at most 10,000 pods and 64 wishes, and a share is at most
// 1,000 thousandths.
const (
	weightWish   = 100_000_000_000_000
	weightSpread = 1_000_000_000
	weightSame   = 10_000
)

// score gives a host's score, 1000 for an empty host without a pod of the service.
func (r *rules) score(host int32, in *room) int64 {
	score := weightWish * int64(r.met(host))
	if !r.pack || r.label != api.HostLabel {
		score -= weightSpread * int64(r.spread.at(host))
	}
	if r.pack {
		return score + int64(in.share)
	}
	return score + 1000 - int64(in.share) - weightSame*int64(r.same.at(host))
}

// met counts the wishes that a host fulfils.
func (r *rules) met(host int32) int {
	n := 0
	for i := range r.wishes {
		if r.wishes[i].met(host) {
			n++
		}
	}
	return n
}

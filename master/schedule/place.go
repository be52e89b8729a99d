package schedule

import (
	"fmt"
	"maps"
	"slices"

	"gearmesh.dev/api"
)

// failure names requests that fail alike.
type failure struct {
	class string
	need  amount
}

// Place chooses a host for one pod and counts the pod there. Without a host that fits,
// Decision.Host is empty and Decision.Rejected says why.
func (c *Cluster) Place(q Request) api.Decision {
	key, k := c.class(&q)
	k = c.only(k, &q)
	r := c.rules(&q, k)
	plain := len(r.bounds) == 0 && q.On == ""
	fails := failure{key, r.need}
	// Pods only ever take room away: where one found no host the next will not either. What other pods mean for
	// it may change both ways.
	if d, ok := c.failed[fails]; ok && plain {
		return clone(d)
	}
	top, out := c.best(k, r)
	d := api.Decision{Rejected: k.with(out)}
	if len(top) == 0 {
		if plain {
			c.failed[fails] = d
		}
		return clone(d)
	}
	for _, o := range top[1:] {
		d.Others = append(d.Others, api.HostScore{Host: c.hosts[o.host].Metadata.Name, Score: int(o.score)})
	}
	c.settle(&q, r, top[0], &d)
	return d
}

// PlaceOn is Place on one host, if Place could choose it.
func (c *Cluster) PlaceOn(q Request, host api.Name) (d api.Decision, ok bool) {
	_, k := c.class(&q)
	r := c.rules(&q, k)
	i := c.byName[host]
	if !slices.Contains(k.fit, i) || r.broken(i, &c.room[i].free) != filters {
		return d, false
	}
	c.settle(&q, r, candidate{i, r.score(i, &c.room[i])}, &d)
	return d, true
}

// settle counts the pod on the host that was chosen, and says why.
func (c *Cluster) settle(q *Request, r *rules, on candidate, d *api.Decision) {
	d.Host, d.Score = c.hosts[on.host].Metadata.Name, int(on.score)
	d.Reasons = r.reasons(on.host, &c.room[on.host])
	c.room[on.host].use(r.need)
	c.fleet(serviceKey{q.Project, q.Service}).add(on.host, 1)
}

// leftOut counts hosts by the filter that left them out.
type leftOut [filters]int

// candidate is a host that fits.
type candidate struct {
	host  int32
	score int64
}

// topHosts is how many hosts a decision names: the one that is taken and the next best.
const topHosts = 4

// best gives the hosts that fit best, the one to take first; none when none fits.
func (c *Cluster) best(k *class, r *rules) ([]candidate, leftOut) {
	var out leftOut
	var top [topHosts]candidate
	n := 0
	for _, i := range k.fit {
		in := &c.room[i]
		if f := r.broken(i, &in.free); f != filters {
			out[f]++
			continue
		}
		one := candidate{i, r.score(i, in)}
		at := n
		for at > 0 && c.before(r, one, top[at-1]) {
			at--
		}
		if at == topHosts {
			continue
		}
		n = min(n+1, topHosts)
		copy(top[at+1:n], top[at:n-1])
		top[at] = one
	}
	return slices.Clone(top[:n]), out
}

// before tells whether a host goes before one that was looked at earlier.
func (c *Cluster) before(r *rules, a, b candidate) bool {
	return a.score > b.score || a.score == b.score && r.breaksTie(&c.room[a.host], &c.room[b.host])
}

// breaksTie tells whether a host goes before another of the same score. Hosts are looked at in the order of their
// names, so that of two that are equal in all the first is taken.
func (r *rules) breaksTie(a, b *room) bool {
	if r.pack {
		return a.pods > b.pods
	}
	return a.pods < b.pods
}

// reasons says in words what the score is made of.
func (r *rules) reasons(host int32, in *room) []string {
	var out []string
	if len(r.wishes) > 0 {
		out = append(out, fmt.Sprintf("%d of %d preferences met", r.met(host), len(r.wishes)))
	}
	if r.label != api.HostLabel {
		col := r.spread.col
		out = append(out, fmt.Sprintf("%s %q: %d pods of the service", r.label, col.values[col.of[host]], r.spread.at(host)))
	}
	if r.pack {
		return append(out, fmt.Sprintf("in use: %d.%d%%, %d pods; the fullest is taken", in.share/10, in.share%10, in.pods))
	}
	return append(out,
		fmt.Sprintf("host: %d pods of the service", r.same.at(host)),
		fmt.Sprintf("in use: %d.%d%%, %d pods", in.share/10, in.share%10, in.pods))
}

// with gives the class's rejections and those of the filters.
func (k *class) with(out leftOut) map[api.Reason]int {
	if len(k.rejected) == 0 && out == (leftOut{}) {
		return nil
	}
	all := maps.Clone(k.rejected)
	for f, n := range out {
		if n > 0 {
			all[filterReasons[f]] += n
		}
	}
	return all
}

func clone(d api.Decision) api.Decision {
	d.Rejected = maps.Clone(d.Rejected)
	return d
}

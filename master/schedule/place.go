package schedule

import (
	"fmt"
	"maps"

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
	best, out := c.best(k, r)
	d := api.Decision{Rejected: k.with(out)}
	if best < 0 {
		if plain {
			c.failed[fails] = d
		}
		return clone(d)
	}
	d.Host = c.hosts[best].Metadata.Name
	d.Score = int(r.score(best, &c.room[best]))
	d.Reasons = r.reasons(best, &c.room[best])
	c.room[best].use(r.need)
	c.fleet(serviceKey{q.Project, q.Service}).add(best, 1)
	return d
}

// leftOut counts hosts by the filter that left them out.
type leftOut [filters]int

// best gives the number of the host to take, or -1.
func (c *Cluster) best(k *class, r *rules) (int32, leftOut) {
	var out leftOut
	best, bestScore := int32(-1), int64(0)
	for _, i := range k.fit {
		in := &c.room[i]
		if f := r.broken(i, &in.free); f != filters {
			out[f]++
			continue
		}
		score := r.score(i, in)
		if best < 0 || score > bestScore || score == bestScore && r.breaksTie(in, &c.room[best]) {
			best, bestScore = i, score
		}
	}
	return best, out
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

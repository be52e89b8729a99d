package schedule

import (
	"fmt"
	"maps"

	"gearmesh.dev/api"
)

// failure names requests that fail alike: pods only ever take room away, so where one found no
// host the next will not either.
type failure struct {
	class string
	need  api.Resources
}

// Place chooses a host for one pod and counts the pod there. Without a host that fits,
// Decision.Host is empty and Decision.Rejected says why.
func (c *Cluster) Place(r Request) api.Decision {
	key, k := c.class(&r)
	fails := failure{key, r.Need}
	if d, ok := c.failed[fails]; ok {
		return clone(d)
	}
	label := r.Placement.Spread
	if label == "" {
		label = api.HostLabel
	}
	s := c.spreadOf(serviceKey{r.Project, r.Service})
	col := c.column(label)
	count := s.count(col, label, c.same)
	best, lacking := c.best(k, r.Need, col, count)
	defer s.forget(c.same)
	d := api.Decision{Rejected: k.with(lacking)}
	if best < 0 {
		c.failed[fails] = d
		return clone(d)
	}
	d.Host = c.hosts[best].Metadata.Name
	d.Score = int(c.score(best, count, col))
	d.Reasons = c.reasons(best, label, col, count)
	c.use(best, r.Need)
	s.onHost[best]++
	return d
}

// count fills same with the service's pods on each host and gives those under each value of the
// spread label, nil when that is each host for itself.
func (s *spread) count(col *column, label string, same []int32) []int32 {
	var under []int32
	if label != api.HostLabel {
		under = make([]int32, len(col.values))
	}
	for host, n := range s.onHost {
		same[host] = n
		if under != nil {
			under[col.of[host]] += n
		}
	}
	return under
}

func (s *spread) forget(same []int32) {
	for host := range s.onHost {
		same[host] = 0
	}
}

// lacking counts the hosts that would do but for what they have left.
type lacking struct{ cpu, memory int }

// best gives the number of the host to take, or -1.
func (c *Cluster) best(k *class, need api.Resources, col *column, under []int32) (int32, lacking) {
	var short lacking
	best, bestScore := int32(-1), int64(0)
	for _, i := range k.fit {
		r := &c.room[i]
		switch {
		case need.CPU > 0 && r.freeCPU < int64(need.CPU):
			short.cpu++
			continue
		case need.Memory > 0 && r.freeMemory < int64(need.Memory):
			short.memory++
			continue
		}
		score := c.score(i, under, col)
		// Hosts are in the order of their names, so that an equal one later loses.
		if best < 0 || score > bestScore || score == bestScore && r.pods < c.room[best].pods {
			best, bestScore = i, score
		}
	}
	return best, short
}

// The weights keep the criteria apart: a service has at most 10,000 pods, and a share at most
// 1,000 thousandths.
const (
	weightSpread = 1_000_000_000
	weightSame   = 10_000
)

// score gives a host's score, 1000 for an empty host without a pod of the service.
func (c *Cluster) score(host int32, under []int32, col *column) int64 {
	same := int64(c.same[host])
	inSpread := same
	if under != nil {
		inSpread = int64(under[col.of[host]])
	}
	return 1000 - int64(c.room[host].share) - weightSame*same - weightSpread*inSpread
}

// reasons says in words what the score is made of.
func (c *Cluster) reasons(host int32, label string, col *column, under []int32) []string {
	r := c.room[host]
	var out []string
	if under != nil {
		out = append(out, fmt.Sprintf("%s %q: %d pods of the service", label, col.values[col.of[host]], under[col.of[host]]))
	}
	return append(out,
		fmt.Sprintf("host: %d pods of the service", c.same[host]),
		fmt.Sprintf("in use: %d.%d%%, %d pods", r.share/10, r.share%10, r.pods))
}

// with gives the class's rejections and those for lack of room.
func (k *class) with(l lacking) map[api.Reason]int {
	if len(k.rejected) == 0 && l == (lacking{}) {
		return nil
	}
	out := maps.Clone(k.rejected)
	if l.cpu > 0 {
		out[api.ReasonCPU] = l.cpu
	}
	if l.memory > 0 {
		out[api.ReasonMemory] = l.memory
	}
	return out
}

func clone(d api.Decision) api.Decision {
	d.Rejected = maps.Clone(d.Rejected)
	return d
}

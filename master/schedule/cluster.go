package schedule

import (
	"cmp"
	"slices"
	"strings"

	"gearmesh.dev/api"
)

// Cluster is hosts and what is in use of them. Build it once, then Place many pods: each one
// placed is taken into account for the next. It is for one goroutine.
type Cluster struct {
	hosts    []*api.Host // sorted by name
	byName   map[api.Name]int32
	room     []room // of hosts[i]
	services map[serviceKey]*spread
	columns  map[string]*column
	classes  map[string]*class
	failed   map[failure]api.Decision
	same     []int32 // scratch: pods of the service on hosts[i]; all 0 between calls
}

// room is what a host has, and has left.
type room struct {
	cpu, memory         int64 // capacity: thousandths of a processor, bytes
	freeCPU, freeMemory int64 // may be negative when a host shrank
	share               int32 // thousandths in use, of processors or memory, whichever is more
	pods                int32
}

type serviceKey struct{ project, service api.Name }

// spread is how a service's pods lie: pods by host, without those that are being deleted.
type spread struct{ onHost map[int32]int32 }

// column is one label of every host, its values numbered.
type column struct {
	of     []int32 // number of hosts[i]'s value
	values []string
}

// NewCluster takes in the hosts, as their Status.State and Status.Capacity say, and the pods that
// are assigned to them. A pod counts until nothing is left of it (api.PhaseGone); one that is
// being deleted takes room, but no part in the spread.
func NewCluster(hosts []api.Host, pods []api.Pod) *Cluster {
	c := &Cluster{
		hosts: make([]*api.Host, len(hosts)), byName: make(map[api.Name]int32, len(hosts)),
		room: make([]room, len(hosts)), same: make([]int32, len(hosts)),
		services: map[serviceKey]*spread{}, columns: map[string]*column{},
		classes: map[string]*class{}, failed: map[failure]api.Decision{},
	}
	for i := range hosts {
		c.hosts[i] = &hosts[i]
	}
	slices.SortFunc(c.hosts, func(a, b *api.Host) int { return cmp.Compare(a.Metadata.Name, b.Metadata.Name) })
	for i, h := range c.hosts {
		c.byName[h.Metadata.Name] = int32(i)
		cpu, memory := int64(h.Status.Capacity.CPU), int64(h.Status.Capacity.Memory)
		c.room[i] = room{cpu: cpu, memory: memory, freeCPU: cpu, freeMemory: memory}
	}
	for i := range pods {
		c.take(&pods[i])
	}
	return c
}

// take counts a pod that is assigned already.
func (c *Cluster) take(p *api.Pod) {
	i, ok := c.byName[p.Spec.Host]
	if !ok || p.Status.Phase == api.PhaseGone {
		return
	}
	c.use(i, NeedOf(&p.Spec.Template))
	if !p.Metadata.Deleting {
		c.spreadOf(serviceKey{p.Metadata.Project, p.Spec.Service}).onHost[i]++
	}
}

// Retire takes a pod that has just been marked for deletion out of its service's spread. Its room
// stays taken until the host has reported it gone.
func (c *Cluster) Retire(p *api.Pod) {
	if i, ok := c.byName[p.Spec.Host]; ok && p.Status.Phase != api.PhaseGone {
		c.spreadOf(serviceKey{p.Metadata.Project, p.Spec.Service}).onHost[i]--
	}
}

func (c *Cluster) spreadOf(k serviceKey) *spread {
	s := c.services[k]
	if s == nil {
		s = &spread{onHost: map[int32]int32{}}
		c.services[k] = s
	}
	return s
}

func (c *Cluster) use(host int32, need api.Resources) {
	r := &c.room[host]
	r.freeCPU -= int64(need.CPU)
	r.freeMemory -= int64(need.Memory)
	r.share = max(share(r.freeCPU, r.cpu), share(r.freeMemory, r.memory))
	r.pods++
}

// share gives the thousandths in use of a capacity. A host that has none of it is full.
func share(free, capacity int64) int32 {
	if capacity <= 0 || free <= 0 {
		return 1000
	}
	return int32((capacity - free) * 1000 / capacity)
}

// column gives a label's values over all hosts.
func (c *Cluster) column(label string) *column {
	if col := c.columns[label]; col != nil {
		return col
	}
	col := &column{of: make([]int32, len(c.hosts))}
	number := map[string]int32{}
	for i, h := range c.hosts {
		v := LabelOf(h, label)
		n, ok := number[v]
		if !ok {
			n = int32(len(col.values))
			number[v] = n
			col.values = append(col.values, v)
		}
		col.of[i] = n
	}
	c.columns[label] = col
	return col
}

// class is what requests with the same requirements share: the hosts that none of what cannot
// change within a Cluster's life rules out, and how many it does rule out, by reason.
type class struct {
	fit      []int32
	rejected map[api.Reason]int
}

// class gives the class of a request.
func (c *Cluster) class(q *Request) (string, *class) {
	key := classKey(q)
	if k := c.classes[key]; k != nil {
		return key, k
	}
	k := &class{rejected: map[api.Reason]int{}}
	for i, h := range c.hosts {
		if reason := ruledOut(h, q); reason != "" {
			k.rejected[reason]++
		} else {
			k.fit = append(k.fit, int32(i))
		}
	}
	if len(c.classes) == maxClasses {
		clear(c.classes)
	}
	c.classes[key] = k
	return key, k
}

// maxClasses bounds the memory for classes (4 bytes a host each).
const maxClasses = 1000

func ruledOut(h *api.Host, q *Request) api.Reason {
	switch {
	case h.Status.State != api.HostReady:
		return api.ReasonHostNotReady
	case h.Spec.Cordoned:
		return api.ReasonCordoned
	case !Meets(h, q.Placement.Require):
		return api.ReasonRequirement
	}
	return h.Status.Lacks(q.Policy, q.Classes)
}

// classKey writes down what a request requires but for room. Labels and values hold no control characters
// (api.Service.Validate), so that these can part them.
func classKey(q *Request) string {
	var b strings.Builder
	if q.Policy.OrDefault() != api.PolicyRestricted {
		b.WriteString("\x04" + string(q.Policy))
	}
	for _, c := range q.Classes {
		b.WriteString("\x05" + string(c))
	}
	for _, r := range q.Placement.Require {
		b.WriteString(r.Label + "\x00")
		for _, v := range r.In {
			b.WriteString("\x01" + v)
		}
		for _, v := range r.NotIn {
			b.WriteString("\x02" + v)
		}
		b.WriteByte('\x03')
	}
	return b.String()
}

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
	services map[serviceKey]*fleet
	columns  map[string]*column
	classes  map[string]*class
	failed   map[failure]api.Decision
	scratch  scratch

	// What Preempt goes by.
	pods      []api.Pod
	lowest    int              // priority of all services
	residents [][]resident     // of hosts[i]; nil until they are asked for
	ending    map[api.UID]bool // pods that Retire was told of
	hopeless  map[hopeless]bool
}

type serviceKey struct{ project, service api.Name }

// fleet is a service, and how its pods lie: by host, without those that are being deleted.
type fleet struct {
	onHost    map[int32]int32
	pods      int32
	ready     int32
	minReady  int32
	priority  int
	repellers []repeller
	said      []saying
}

// saying is what a service says of the fleet: that its pods want to be near to it, or apart from it, under a label. What it must be apart
// from is a repeller.
type saying struct {
	of         *fleet
	within     string
	near, must bool
}

// repeller is a service that does not want the fleet's pods under a value of a label where its own are.
type repeller struct {
	of     *fleet
	within string
}

// column is one label of every host, its values numbered.
type column struct {
	of     []int32 // number of hosts[i]'s value
	values []string
}

// NewCluster takes in the hosts, as their Status.State and Status.Capacity say, the pods that
// are assigned to them, and the services, of which it takes the placement of pods that are there. A pod counts until
// nothing is left of it (api.PhaseGone); one that is being deleted takes room, but no part in the spread.
func NewCluster(hosts []api.Host, pods []api.Pod, services []api.Service) *Cluster {
	c := &Cluster{
		hosts: make([]*api.Host, len(hosts)), byName: make(map[api.Name]int32, len(hosts)),
		room: make([]room, len(hosts)), pods: pods, ending: map[api.UID]bool{}, hopeless: map[hopeless]bool{},
		services: make(map[serviceKey]*fleet, len(services)), columns: map[string]*column{},
		classes: map[string]*class{}, failed: map[failure]api.Decision{},
	}
	for i := range hosts {
		c.hosts[i] = &hosts[i]
	}
	slices.SortFunc(c.hosts, func(a, b *api.Host) int { return cmp.Compare(a.Metadata.Name, b.Metadata.Name) })
	for i, h := range c.hosts {
		c.byName[h.Metadata.Name] = int32(i)
		c.room[i] = roomOf(&h.Status)
	}
	for i := range services {
		c.know(&services[i])
	}
	for i := range pods {
		c.take(&pods[i])
	}
	return c
}

// know takes in what a service's placement means for others.
func (c *Cluster) know(s *api.Service) {
	place := &s.Spec.Placement
	f := c.fleet(serviceKey{s.Metadata.Project, s.Metadata.Name})
	f.priority, f.minReady = place.Priority, int32(s.Spec.MinReady)
	c.lowest = min(c.lowest, place.Priority)

	for _, a := range place.Near {
		other := c.fleet(serviceKey{s.Metadata.Project, a.Service})
		other.said = append(other.said, saying{f, a.Label(), true, !a.Prefer})
	}
	for _, a := range place.Apart {
		other := c.fleet(serviceKey{s.Metadata.Project, a.Service})
		switch {
		case a.Prefer:
			other.said = append(other.said, saying{f, a.Label(), false, false})
		case a.Service != s.Metadata.Name:
			other.repellers = append(other.repellers, repeller{f, a.Label()})
		}
	}
}

// take counts a pod that is assigned already.
func (c *Cluster) take(p *api.Pod) {
	i, ok := c.byName[p.Spec.Host]
	if !ok || p.Status.Phase == api.PhaseGone {
		return
	}
	c.room[i].use(needOf(&p.Spec.Template))
	if p.Metadata.Deleting {
		return
	}
	c.fleetOf(p).add(i, 1)
	if p.Status.Ready {
		c.fleetOf(p).ready++
	}
}

// Retire takes a pod that has just been marked for deletion out of its service's spread. Its room
// stays taken until the host has reported it gone.
func (c *Cluster) Retire(p *api.Pod) {
	i, ok := c.byName[p.Spec.Host]
	if !ok || p.Status.Phase == api.PhaseGone {
		return
	}
	c.fleetOf(p).add(i, -1)
	if p.Status.Ready {
		c.fleetOf(p).ready--
	}
	c.ended(i, p)
	clear(c.hopeless)
	clear(c.failed)
}

func (c *Cluster) fleetOf(p *api.Pod) *fleet {
	return c.fleet(serviceKey{p.Metadata.Project, p.Spec.Service})
}

func (c *Cluster) fleet(k serviceKey) *fleet {
	f := c.services[k]
	if f == nil {
		f = &fleet{onHost: map[int32]int32{}}
		c.services[k] = f
	}
	return f
}

func (f *fleet) add(host, n int32) {
	f.onHost[host] += n
	f.pods += n
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

// only gives the class of a request for one host alone.
func (c *Cluster) only(k *class, q *Request) *class {
	if q.On == "" {
		return k
	}
	out := &class{rejected: map[api.Reason]int{}}
	i, ok := c.byName[q.On]
	if !ok {
		out.rejected[api.ReasonRequirement] = len(c.hosts)
		return out
	}
	if len(c.hosts) > 1 {
		out.rejected[api.ReasonRequirement] = len(c.hosts) - 1
	}
	if reason := ruledOut(c.hosts[i], q); reason != "" {
		out.rejected[reason]++
	} else {
		out.fit = []int32{i}
	}
	return out
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

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/master/schedule"
)

// What P7 asks for, and how many decisions of the naive scheduler are measured and compared.
const (
	simHosts  = 5_000
	simPods   = 150_000
	simNaive  = 20
	simUrgent = 500 // pods that must have the room of others
	simRate   = 10_000
	simP99    = 5.0 // ms
)

// cluster is hosts, services and pods, generated or recorded: the pods are placed anew.
type cluster struct {
	Hosts    []api.Host    `json:"hosts"`
	Services []api.Service `json:"services"`
	Pods     []api.Pod     `json:"pods"`
}

// recorded reads a cluster from a file of JSON: {"hosts": […], "services": […], "pods": […]}, each as the API gives them.
func recorded(file string) (*cluster, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	c := &cluster{}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("reading the cluster %q: %w", file, err)
	}
	if len(c.Hosts) == 0 || len(c.Pods) == 0 {
		return nil, fmt.Errorf("the cluster %q has %d hosts and %d pods: there is nothing to place", file, len(c.Hosts), len(c.Pods))
	}
	slices.SortFunc(c.Hosts, func(a, b api.Host) int { return cmp.Compare(a.Metadata.Name, b.Metadata.Name) })
	slices.SortStableFunc(c.Pods, func(a, b api.Pod) int { return a.Metadata.Created.Compare(b.Metadata.Created) })
	return c, nil
}

// generated makes a cluster out of a seed: services of 1 to 200 pods with mixed constraints, in an order of chance.
func generated(seed uint64, hosts, pods int) *cluster {
	r := rand.New(rand.NewPCG(seed, 7))
	c := &cluster{Hosts: make([]api.Host, hosts)}
	for i := range c.Hosts {
		h := &c.Hosts[i]
		h.Metadata.Name = api.Name(fmt.Sprintf("h%05d", i))
		h.Metadata.Labels = map[string]string{"zone": fmt.Sprint("z", r.IntN(10)), "rack": fmt.Sprint("r", i/40), "disk": []string{"ssd", "hdd"}[r.IntN(2)]}
		size := 1 << r.IntN(3)
		h.Status = api.HostStatus{State: api.HostReady, Capacity: api.Resources{CPU: api.CPU(16000 * size), Memory: api.Bytes(size) << 36}}
		h.Status.HostPorts = 10_000
		h.Spec.Cordoned = r.IntN(100) == 0
	}
	for len(c.Pods) < pods {
		s := simService(r, len(c.Services))
		for range min(1+r.IntN(200)*r.IntN(2), pods-len(c.Pods)) {
			p := api.Pod{}
			p.Metadata = api.Metadata{Project: "p", Name: api.Name(fmt.Sprint("pod-", len(c.Pods))), UID: api.UID(fmt.Sprint(len(c.Pods)))}
			p.Spec = api.PodSpec{Service: s.Metadata.Name, Template: s.Spec.PodTemplate}
			c.Pods = append(c.Pods, p)
		}
		c.Services = append(c.Services, s)
	}
	r.Shuffle(len(c.Pods), func(i, j int) { c.Pods[i], c.Pods[j] = c.Pods[j], c.Pods[i] })
	return c
}

func simService(r *rand.Rand, i int) api.Service {
	one := func(in int) bool { return r.IntN(in) == 0 }
	s := api.Service{}
	s.Metadata = api.Metadata{Project: "p", Name: api.Name(fmt.Sprint("s", i))}
	s.Spec.Containers = []api.Container{{Resources: api.Resources{CPU: api.CPU(50 * (1 + r.IntN(20))), Memory: api.Bytes(1+r.IntN(16)) << 27}}}
	s.Spec.Ports = make([]api.Port, r.IntN(3))
	p := &s.Spec.Placement
	p.Priority = r.IntN(3) * 10
	p.Pack = one(8)
	if one(3) {
		p.Require = []api.Requirement{{Label: "disk", In: []string{"ssd"}}}
	}
	if one(3) {
		p.Spread = []string{"zone", "rack"}[r.IntN(2)]
	}
	if p.Spread == "zone" && one(3) {
		p.MaxSkew = 1 + r.IntN(3)
	}
	if one(8) {
		p.MaxPerHost = 1 + r.IntN(2)
	}
	if i > 0 && one(10) {
		p.Apart = []api.Neighbour{{Service: api.Name(fmt.Sprint("s", r.IntN(i)))}}
	}
	if i > 0 && one(10) {
		p.Near = []api.Neighbour{{Service: api.Name(fmt.Sprint("s", r.IntN(i))), Within: "zone", Prefer: one(2)}}
	}
	return s
}

// simulation is one run over a cluster.
type simulation struct {
	took           []time.Duration // of each decision
	placed, broken int
	other          int // decisions that differ from the naive one's
	naive          []time.Duration
	urgent         []time.Duration // decisions that end other pods
	ended          int             // by these
	heap           float64         // MB of the scheduler, at the end
}

// measureSchedule is P7: one core places every pod of a cluster, one after the other. It needs no lab.
func measureSchedule(_ context.Context, b *bench) ([]figures.Row, error) {
	c, what := generated(b.seed, simHosts, simPods), fmt.Sprintf("seed %d", b.seed)
	if b.cluster != "" {
		var err error
		if c, err = recorded(b.cluster); err != nil {
			return nil, err
		}
		what = b.cluster
	}
	what = fmt.Sprintf("%d pods of %d services on %d hosts, %s", len(c.Pods), len(c.Services), len(c.Hosts), what)
	b.say("P7: %s", what)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	runtime.LockOSThread() // for threadTime
	defer runtime.UnlockOSThread()
	var rate, p99, naive, forced, heap []float64
	broken, other := 0, 0
	for i := range b.runs {
		s := simulate(c, b.seed+uint64(i))
		rate, naive = append(rate, perSecond(s.took)), append(naive, perSecond(s.naive))
		p99, forced = append(p99, percentile(s.took, 99)), append(forced, percentile(s.urgent, 99))
		heap, broken, other = append(heap, s.heap), broken+s.broken, other+s.other
		b.say("P7 run %d: %d placed, %.0f/s, p99 %.3f ms, naive %.0f/s, %d broken, %d otherwise; %d ended for %d urgent ones, p99 %.3f ms",
			i, s.placed, rate[i], p99[i], naive[i], s.broken, s.other, s.ended, simUrgent, forced[i])
	}
	return []figures.Row{
		figures.Amounts("P7", "placements on one core: "+what, "/s", rate).Against("naive full scan", figures.Median(naive)).WithGoal("≥ 10000 /s", figures.Median(rate) >= simRate),
		figures.Amounts("P7.p99", "99 % of the decisions within", "ms", p99).AtMost(simP99),
		figures.Amounts("P7.urgent", "99 % of the decisions that end other pods", "ms", forced).AtMost(simP99),
		figures.Row{ID: "P7.broken", What: "pods against a constraint, in all runs", Value: float64(broken), Unit: "pods"}.AtMost(0),
		figures.Row{ID: "P7.naive", What: fmt.Sprintf("of %d decisions, otherwise than the naive scan", simNaive*b.runs), Value: float64(other), Unit: "pods"}.AtMost(0),
		figures.Amounts("P7.memory", "heap of the scheduler with all pods", "MB", heap),
	}, nil
}

// simulate places every pod; each decision is looked at by the reference, and some are made by it too.
func simulate(c *cluster, seed uint64) simulation {
	r, out := rand.New(rand.NewPCG(seed, 1)), simulation{}
	ref := newReference(c)
	ask := map[int]bool{}
	for len(ask) < min(simNaive, len(c.Pods)) {
		ask[r.IntN(len(c.Pods))] = true
	}
	before := heapNow()
	sched := schedule.NewCluster(c.Hosts, nil, c.Services)
	pods := slices.Clone(c.Pods)
	for i := range pods {
		q := requestOf(&pods[i], ref.services[keyOf(&pods[i])])
		start := threadTime()
		d := sched.Place(q)
		out.took = append(out.took, threadTime()-start)
		if ask[i] {
			start = threadTime()
			best := ref.best(q)
			out.naive = append(out.naive, threadTime()-start)
			if best != d.Host {
				out.other++
			}
		}
		if pods[i].Spec.Host = d.Host; d.Host != "" {
			out.placed++
			if !ref.fits(q, d.Host) {
				out.broken++
			}
			ref.take(q, d.Host)
		}
	}
	out.heap = heapNow() - before
	runtime.KeepAlive(sched)
	out.urgent, out.ended = urgent(c, pods)
	return out
}

// urgent measures decisions that end other pods: on the full cluster, pods of the highest priority that ask for half a host.
func urgent(c *cluster, pods []api.Pod) (took []time.Duration, ended int) {
	sched := schedule.NewCluster(c.Hosts, pods, c.Services)
	for i := range simUrgent {
		q := schedule.Request{Project: "urgent", Service: api.Name(fmt.Sprint("u", i%10)), Priority: 1000, Need: api.Resources{CPU: 12000, Memory: 40 << 30}}
		start := threadTime()
		d := sched.Place(q)
		var victims []*api.Pod
		if d.Host == "" {
			_, victims = sched.Preempt(q)
			for _, v := range victims {
				sched.Retire(v)
			}
		}
		if i > 0 { // the first one lists who is where, once for the plan of a whole cluster
			took = append(took, threadTime()-start)
		}
		ended += len(victims)
	}
	return took, ended
}

func requestOf(p *api.Pod, s *api.Service) schedule.Request {
	q := schedule.Request{Project: p.Metadata.Project, Service: p.Spec.Service, Need: schedule.NeedOf(&p.Spec.Template), Ports: len(p.Spec.Template.Ports),
		Policy: p.Spec.Template.NeededPolicy(), Classes: p.Spec.Template.VolumeClasses()}
	if s != nil {
		q.Placement, q.Priority = s.Spec.Placement, s.Spec.Placement.Priority
	}
	return q
}

// threadTime gives the processor time of this thread, which other programs on the machine take nothing of.
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic("the kernel has no clock of the thread: " + err.Error()) // clock_gettime(2): since Linux 2.6.12
	}
	return time.Duration(t.Nano())
}

// heapNow gives the memory in use, in MB.
func heapNow() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

func perSecond(took []time.Duration) float64 {
	var sum time.Duration
	for _, t := range took {
		sum += t
	}
	return float64(len(took)) / sum.Seconds()
}

// percentile gives the value in milliseconds that so many of a hundred do not exceed.
func percentile(took []time.Duration, of int) float64 {
	sorted := slices.Sorted(slices.Values(took))
	return float64(sorted[(len(sorted)*of-1)/100].Microseconds()) / 1000
}

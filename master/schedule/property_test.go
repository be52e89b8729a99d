package schedule_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"gearmesh.dev/api"
	"gearmesh.dev/master/schedule"
)

var classes = []api.Name{"bulk", "fast"}

func drawHosts(t *rapid.T) []api.Host {
	hosts := make([]api.Host, rapid.IntRange(0, 8).Draw(t, "hosts"))
	states := []api.HostState{api.HostReady, api.HostReady, api.HostReady, api.HostSuspect, api.HostLost, api.HostJoining}
	for i := range hosts {
		hosts[i] = host(api.Name(fmt.Sprint("h", i)), zone(rapid.SampledFrom([]string{"", "x", "y"}).Draw(t, "zone")),
			capacity(api.CPU(rapid.IntRange(0, 4000).Draw(t, "cpu")), api.Bytes(rapid.IntRange(0, 1000).Draw(t, "memory"))))
		hosts[i].Status.State = rapid.SampledFrom(states).Draw(t, "state")
		if rapid.Bool().Draw(t, "says") {
			offers(rapid.SampledFrom(api.Policies()).Draw(t, "most"), rapid.SliceOfNDistinct(rapid.SampledFrom(classes), 0, 2, rapid.ID).Draw(t, "classes")...)(&hosts[i])
		}
		hosts[i].Status.HostPorts = rapid.SampledFrom([]int{0, 3, 50}).Draw(t, "ports")
		hosts[i].Spec.Cordoned = rapid.IntRange(0, 4).Draw(t, "cordoned") == 0
	}
	return hosts
}

// drawServices gives three services whose placements mention each other.
func drawServices(t *rapid.T) []api.Service {
	out := make([]api.Service, 3)
	for i := range out {
		out[i].Metadata = api.Metadata{Project: "p", Name: names[i]}
		out[i].Spec.Placement = drawPlacement(t)
	}
	return out
}

var names = []api.Name{"a", "b", "c"}

func drawPlacement(t *rapid.T) (p api.Placement) {
	p.Spread = rapid.SampledFrom([]string{"", "host", "zone"}).Draw(t, "spread")
	values := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"", "x", "y"}), 0, 2, rapid.ID).Draw(t, "values")
	if rapid.Bool().Draw(t, "in") && len(values) > 0 {
		p.Require = []api.Requirement{{Label: "zone", In: values}}
	} else if len(values) > 0 {
		p.Require = []api.Requirement{{Label: "zone", NotIn: values}}
	}
	p.Pack = rapid.Bool().Draw(t, "pack")
	p.MaxSkew = rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "skew")
	p.MaxPerHost = rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "most")
	p.Near, p.Apart = drawNeighbours(t, "near"), drawNeighbours(t, "apart")
	return p
}

func drawNeighbours(t *rapid.T, what string) []api.Neighbour {
	if rapid.IntRange(0, 2).Draw(t, what) > 0 {
		return nil
	}
	return []api.Neighbour{{Service: rapid.SampledFrom(names).Draw(t, what+" service"), Prefer: rapid.Bool().Draw(t, what+" prefer"),
		Within: rapid.SampledFrom([]string{"", "zone"}).Draw(t, what+" within")}}
}

func drawRequest(t *rapid.T, services []api.Service) schedule.Request {
	s := rapid.SampledFrom(services).Draw(t, "service")
	r := schedule.Request{Project: "p", Service: s.Metadata.Name, Placement: s.Spec.Placement, Ports: rapid.IntRange(0, 2).Draw(t, "ports"),
		Need: api.Resources{CPU: api.CPU(rapid.IntRange(0, 1500).Draw(t, "cpu")), Memory: api.Bytes(rapid.IntRange(0, 400).Draw(t, "memory"))}}
	r.Policy = rapid.SampledFrom(append(api.Policies(), "", "")).Draw(t, "policy")
	if rapid.IntRange(0, 3).Draw(t, "classes") == 0 {
		r.Classes = classes[rapid.IntRange(0, 1).Draw(t, "class"):]
	}
	return r
}

// situation is what a decision is checked against.
type situation struct {
	hosts    []api.Host
	pods     []api.Pod
	services []api.Service
}

// naive is the oracle: what rules a host out, worked out from the pods anew.
func (s situation) naive(r schedule.Request, h *api.Host) api.Reason {
	left, ports := h.Status.Capacity, h.Status.HostPorts
	for i := range s.pods {
		if s.pods[i].Spec.Host == h.Metadata.Name {
			need := schedule.NeedOf(&s.pods[i].Spec.Template)
			left.CPU, left.Memory, ports = left.CPU-need.CPU, left.Memory-need.Memory, ports-len(s.pods[i].Spec.Template.Ports)
		}
	}
	switch {
	case h.Status.State != api.HostReady:
		return api.ReasonHostNotReady
	case h.Spec.Cordoned:
		return api.ReasonCordoned
	case !schedule.Meets(h, r.Placement.Require):
		return api.ReasonRequirement
	case h.Status.MaxPolicy != "" && slices.Index(api.Policies(), h.Status.MaxPolicy) < slices.Index(api.Policies(), r.Policy):
		return api.ReasonPolicyCeiling
	case h.Status.MaxPolicy != "" && slices.ContainsFunc(r.Classes, func(c api.Name) bool { return !slices.Contains(h.Status.VolumeClasses, c) }):
		return api.ReasonVolumeClass
	}
	if reason := s.misplaced(r, h); reason != "" {
		return reason
	}
	switch {
	case r.Need.CPU > 0 && left.CPU < r.Need.CPU:
		return api.ReasonCPU
	case r.Need.Memory > 0 && left.Memory < r.Need.Memory:
		return api.ReasonMemory
	case h.Status.HostPorts > 0 && r.Ports > 0 && ports < r.Ports:
		return api.ReasonHostPorts
	}
	return ""
}

// misplaced reads the rules about other pods as the API words them.
func (s situation) misplaced(r schedule.Request, h *api.Host) api.Reason {
	p := r.Placement
	for _, n := range p.Near {
		if !n.Prefer && s.under(n.Service, n.Label(), h) == 0 && (n.Service != r.Service || s.count(n.Service) > 0) {
			return api.ReasonNotNear
		}
	}
	for _, n := range p.Apart {
		if !n.Prefer && s.under(n.Service, n.Label(), h) > 0 {
			return api.ReasonNotApart
		}
	}
	for _, other := range s.services {
		for _, n := range other.Spec.Placement.Apart {
			if !n.Prefer && n.Service == r.Service && s.under(other.Metadata.Name, n.Label(), h) > 0 {
				return api.ReasonNotApart
			}
		}
	}
	switch {
	case p.MaxSkew > 0 && s.under(r.Service, label(r), h)+1-s.emptiest(r) > p.MaxSkew:
		return api.ReasonSpread
	case p.MaxPerHost > 0 && s.under(r.Service, api.HostLabel, h)+1 > p.MaxPerHost:
		return api.ReasonHostMaximum
	}
	return ""
}

// emptiest gives the fewest pods under any value of the spread label that a host has on which the pod could be but for
// room and other pods.
func (s situation) emptiest(r schedule.Request) int {
	alone := situation{hosts: s.hosts}
	r.Placement.Near, r.Placement.Apart, r.Placement.MaxSkew, r.Placement.MaxPerHost = nil, nil, 0, 0
	r.Need, r.Ports = api.Resources{}, 0
	least := 1 << 30
	for i := range s.hosts {
		if alone.naive(r, &s.hosts[i]) == "" {
			least = min(least, s.under(r.Service, label(r), &s.hosts[i]))
		}
	}
	return least
}

func label(r schedule.Request) string { return cmp.Or(r.Placement.Spread, api.HostLabel) }

func (s situation) count(service api.Name) int {
	n := 0
	for i := range s.pods {
		if s.pods[i].Spec.Service == service {
			n++
		}
	}
	return n
}

// under counts a service's pods on the hosts that share h's value of a label.
func (s situation) under(service api.Name, label string, h *api.Host) int {
	n := 0
	for i := range s.pods {
		on := slices.IndexFunc(s.hosts, func(o api.Host) bool { return o.Metadata.Name == s.pods[i].Spec.Host })
		if s.pods[i].Spec.Service == service && schedule.LabelOf(&s.hosts[on], label) == schedule.LabelOf(h, label) {
			n++
		}
	}
	return n
}

// TestPlaceKeepsEveryConstraint places many pods into one Cluster and checks each decision
// against a naive reading of the rules.
func TestPlaceKeepsEveryConstraint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := situation{hosts: drawHosts(t), services: drawServices(t)}
		c := schedule.NewCluster(s.hosts, nil, s.services)
		for range rapid.IntRange(1, 25).Draw(t, "pods") {
			r := drawRequest(t, s.services)
			d := c.Place(r)
			s.check(t, r, d)
			if fresh := schedule.NewCluster(shuffled(t, s.hosts), shuffled(t, s.pods), shuffled(t, s.services)).Place(r); !gocmp.Equal(d, fresh) {
				t.Fatalf("a fresh cluster decides otherwise:\n%s", gocmp.Diff(d, fresh))
			}
			if d.Host != "" {
				p := pod(r.Service, d.Host, r.Need)
				p.Spec.Template.Ports = make([]api.Port, r.Ports)
				s.pods = append(s.pods, p)
			}
		}
	})
}

func shuffled[T any](t *rapid.T, list []T) []T {
	return rapid.Permutation(slices.Clone(list)).Draw(t, "order")
}

func (s situation) check(t *rapid.T, r schedule.Request, d api.Decision) {
	var fit []*api.Host
	rejected := map[api.Reason]int{}
	for i := range s.hosts {
		if reason := s.naive(r, &s.hosts[i]); reason == "" {
			fit = append(fit, &s.hosts[i])
		} else {
			rejected[reason]++
		}
	}
	if diff := gocmp.Diff(rejected, d.Rejected, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("hosts are left out for other reasons than there are: %s", diff)
	}
	if (d.Host == "") != (len(fit) == 0) {
		t.Fatalf("host %q is chosen, %d fit", d.Host, len(fit))
	}
	if d.Host != "" {
		s.checkBest(t, r, d, fit)
	}
}

// rank gives what hosts are told apart by first, the smaller the better.
func (s situation) rank(r schedule.Request, h *api.Host) (unmet, under int) {
	for _, n := range r.Placement.Near {
		if n.Prefer && s.under(n.Service, n.Label(), h) == 0 {
			unmet++
		}
	}
	for _, n := range r.Placement.Apart {
		if n.Prefer && s.under(n.Service, n.Label(), h) > 0 {
			unmet++
		}
	}
	if !r.Placement.Pack || label(r) != api.HostLabel {
		under = s.under(r.Service, label(r), h)
	}
	return unmet, under
}

// checkBest checks that no host that fits meets more preferences, or as many and has fewer pods of the service under its
// spread label.
func (s situation) checkBest(t *rapid.T, r schedule.Request, d api.Decision, fit []*api.Host) {
	at := slices.IndexFunc(fit, func(h *api.Host) bool { return h.Metadata.Name == d.Host })
	if at < 0 {
		t.Fatalf("host %q does not fit", d.Host)
	}
	unmet, under := s.rank(r, fit[at])
	for _, h := range fit {
		if u, n := s.rank(r, h); u < unmet || u == unmet && n < under {
			t.Fatalf("host %q was chosen with %d unmet and %d pods, %q has %d and %d", d.Host, unmet, under, h.Metadata.Name, u, n)
		}
	}
}

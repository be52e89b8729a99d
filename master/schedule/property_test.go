package schedule_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
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
		hosts[i].Spec.Cordoned = rapid.IntRange(0, 4).Draw(t, "cordoned") == 0
	}
	return hosts
}

func drawRequest(t *rapid.T) schedule.Request {
	r := schedule.Request{Project: "p", Service: rapid.SampledFrom([]api.Name{"a", "b", "c"}).Draw(t, "service"),
		Need: api.Resources{CPU: api.CPU(rapid.IntRange(0, 1500).Draw(t, "cpu")), Memory: api.Bytes(rapid.IntRange(0, 400).Draw(t, "memory"))}}
	r.Placement.Spread = rapid.SampledFrom([]string{"", "host", "zone"}).Draw(t, "spread")
	values := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"", "x", "y"}), 0, 2, rapid.ID).Draw(t, "values")
	if rapid.Bool().Draw(t, "in") && len(values) > 0 {
		r.Placement.Require = []api.Requirement{{Label: "zone", In: values}}
	} else if len(values) > 0 {
		r.Placement.Require = []api.Requirement{{Label: "zone", NotIn: values}}
	}
	r.Policy = rapid.SampledFrom(append(api.Policies(), "", "")).Draw(t, "policy")
	if rapid.IntRange(0, 3).Draw(t, "classes") == 0 {
		r.Classes = classes[rapid.IntRange(0, 1).Draw(t, "class"):]
	}
	return r
}

// naive is the oracle: what rules a host out, worked out from the pods anew.
func naive(r schedule.Request, h *api.Host, pods []api.Pod) api.Reason {
	left := h.Status.Capacity
	for i := range pods {
		if pods[i].Spec.Host == h.Metadata.Name {
			need := schedule.NeedOf(&pods[i].Spec.Template)
			left.CPU, left.Memory = left.CPU-need.CPU, left.Memory-need.Memory
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
	case r.Need.CPU > 0 && left.CPU < r.Need.CPU:
		return api.ReasonCPU
	case r.Need.Memory > 0 && left.Memory < r.Need.Memory:
		return api.ReasonMemory
	}
	return ""
}

// under counts the service's pods on the hosts that share h's value of a label.
func under(r schedule.Request, label string, h *api.Host, hosts []api.Host, pods []api.Pod) int {
	n := 0
	for i := range pods {
		on := slices.IndexFunc(hosts, func(o api.Host) bool { return o.Metadata.Name == pods[i].Spec.Host })
		if pods[i].Spec.Service == r.Service && schedule.LabelOf(&hosts[on], label) == schedule.LabelOf(h, label) {
			n++
		}
	}
	return n
}

// TestPlaceKeepsEveryConstraint places many pods into one Cluster and checks each decision
// against a naive reading of the rules.
func TestPlaceKeepsEveryConstraint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		hosts := drawHosts(t)
		var pods []api.Pod
		c := schedule.NewCluster(hosts, nil)
		for range rapid.IntRange(1, 25).Draw(t, "pods") {
			r := drawRequest(t)
			d := c.Place(r)
			checkDecision(t, r, d, hosts, pods)
			if fresh := schedule.Place(r, shuffled(t, hosts), shuffled(t, pods)); d.Host != "" && !cmp.Equal(d, fresh) {
				t.Fatalf("a fresh cluster decides otherwise:\n%s", cmp.Diff(d, fresh))
			}
			if d.Host != "" {
				pods = append(pods, pod(r.Service, d.Host, r.Need))
			}
		}
	})
}

func shuffled[T any](t *rapid.T, list []T) []T {
	return rapid.Permutation(slices.Clone(list)).Draw(t, "order")
}

func checkDecision(t *rapid.T, r schedule.Request, d api.Decision, hosts []api.Host, pods []api.Pod) {
	rejected, total := 0, 0
	var fit []*api.Host
	for i := range hosts {
		if naive(r, &hosts[i], pods) == "" {
			fit = append(fit, &hosts[i])
		} else {
			rejected++
		}
	}
	for _, n := range d.Rejected {
		total += n
	}
	if total != rejected {
		t.Fatalf("%d hosts are rejected, %d do not fit: %+v", total, rejected, d)
	}
	if (d.Host == "") != (len(fit) == 0) {
		t.Fatalf("host %q is chosen, %d fit", d.Host, len(fit))
	}
	if d.Host != "" {
		checkBest(t, r, d, fit, hosts, pods)
	}
}

// checkBest checks that no host that fits has fewer pods of the service under its spread label.
func checkBest(t *rapid.T, r schedule.Request, d api.Decision, fit []*api.Host, hosts []api.Host, pods []api.Pod) {
	label := r.Placement.Spread
	if label == "" {
		label = api.HostLabel
	}
	at := slices.IndexFunc(fit, func(h *api.Host) bool { return h.Metadata.Name == d.Host })
	if at < 0 {
		t.Fatalf("host %q does not fit", d.Host)
	}
	chosen := under(r, label, fit[at], hosts, pods)
	for _, h := range fit {
		if n := under(r, label, h, hosts, pods); n < chosen {
			t.Fatalf("host %q has %d pods of %s, %q has %d", d.Host, chosen, r.Service, h.Metadata.Name, n)
		}
	}
}

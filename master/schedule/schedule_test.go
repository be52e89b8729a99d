package schedule_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gearmesh.dev/api"
	"gearmesh.dev/master/schedule"
)

const gi = api.Bytes(1 << 30)

// host makes a ready host with 4 processors and 8 GiB.
func host(name api.Name, labels map[string]string, change ...func(*api.Host)) api.Host {
	h := api.Host{Header: api.Header{Kind: api.KindHost, Metadata: api.Metadata{Name: name, Labels: labels}}}
	h.Status = api.HostStatus{State: api.HostReady, Capacity: api.Resources{CPU: 4000, Memory: 8 * gi}}
	for _, f := range change {
		f(&h)
	}
	return h
}

func cordoned(h *api.Host) { h.Spec.Cordoned = true }
func lost(h *api.Host)     { h.Status.State = api.HostLost }

func capacity(cpu api.CPU, memory api.Bytes) func(*api.Host) {
	return func(h *api.Host) { h.Status.Capacity = api.Resources{CPU: cpu, Memory: memory} }
}

func offers(most api.Policy, classes ...api.Name) func(*api.Host) {
	return func(h *api.Host) {
		h.Status.HostOffer = api.HostOffer{MaxPolicy: most, VolumeClasses: classes}
	}
}

// pod makes a pod of project p.
func pod(service, on api.Name, need api.Resources) api.Pod {
	p := api.Pod{Spec: api.PodSpec{Service: service, Host: on}}
	p.Metadata.Project = "p"
	p.Spec.Template.Containers = []api.Container{{Resources: need}}
	return p
}

func zone(z string) map[string]string { return map[string]string{"zone": z} }

func TestPlace(t *testing.T) {
	one := api.Resources{CPU: 1000, Memory: gi}
	web := schedule.Request{Project: "p", Service: "web", Need: one}
	tests := map[string]struct {
		request schedule.Request
		hosts   []api.Host
		pods    []api.Pod
		want    api.Decision
	}{
		"no hosts": {request: web, want: api.Decision{}},
		"first by name": {request: web, hosts: []api.Host{host("b", nil), host("a", nil)},
			want: api.Decision{Host: "a", Score: 1000, Reasons: []string{"host: 0 pods of the service", "in use: 0.0%, 0 pods"}}},
		"every reason once, the first that holds": {
			request: schedule.Request{Project: "p", Service: "web", Need: one,
				Placement: api.Placement{Require: []api.Requirement{{Label: "zone", In: []string{"x"}}}}},
			hosts: []api.Host{host("a", zone("x"), lost, cordoned), host("b", nil, cordoned), host("c", nil),
				host("d", zone("x"), capacity(500, 0)), host("e", zone("x"), capacity(1000, 10))},
			want: api.Decision{Rejected: map[api.Reason]int{api.ReasonHostNotReady: 1, api.ReasonCordoned: 1,
				api.ReasonRequirement: 1, api.ReasonCPU: 1, api.ReasonMemory: 1}},
		},
		"policies and volume classes": {
			request: schedule.Request{Project: "p", Service: "web", Policy: api.PolicyPrivileged, Classes: []api.Name{"fast"}},
			hosts: []api.Host{host("a", nil, offers(api.PolicyBaseline, "fast")), host("b", nil, offers(api.PolicyRestricted)),
				host("c", nil, offers(api.PolicyPrivileged, "bulk")), host("d", nil, offers(api.PolicyPrivileged, "bulk", "fast"))},
			want: api.Decision{Host: "d", Score: 1000, Reasons: []string{"host: 0 pods of the service", "in use: 0.0%, 0 pods"},
				Rejected: map[api.Reason]int{api.ReasonPolicyCeiling: 2, api.ReasonVolumeClass: 1}},
		},
		"a host that does not say is taken at its best": {
			request: schedule.Request{Project: "p", Service: "web", Policy: api.PolicyPrivileged, Classes: []api.Name{"fast"}},
			hosts:   []api.Host{host("a", nil)},
			want:    api.Decision{Host: "a", Score: 1000, Reasons: []string{"host: 0 pods of the service", "in use: 0.0%, 0 pods"}},
		},
		"not in, by host name": {
			request: schedule.Request{Project: "p", Service: "web",
				Placement: api.Placement{Require: []api.Requirement{{Label: "host", NotIn: []string{"a"}}}}},
			hosts: []api.Host{host("a", nil), host("b", nil)},
			want: api.Decision{Host: "b", Score: 1000, Reasons: []string{"host: 0 pods of the service", "in use: 0.0%, 0 pods"},
				Rejected: map[api.Reason]int{api.ReasonRequirement: 1}},
		},
		"zones before hosts": {
			request: schedule.Request{Project: "p", Service: "web", Placement: api.Placement{Spread: "zone"}},
			hosts:   []api.Host{host("a", zone("x")), host("b", zone("x")), host("c", zone("y"))},
			pods:    []api.Pod{pod("web", "a", one), pod("db", "c", one)},
			want: api.Decision{Host: "c", Score: 750, Reasons: []string{
				`zone "y": 0 pods of the service`, "host: 0 pods of the service", "in use: 25.0%, 1 pods"}},
		},
		"own pods before load": {
			request: web, hosts: []api.Host{host("a", nil), host("b", nil)},
			pods: []api.Pod{pod("web", "a", api.Resources{}), pod("db", "b", api.Resources{CPU: 3000})},
			want: api.Decision{Host: "b", Score: 250, Reasons: []string{"host: 0 pods of the service", "in use: 75.0%, 1 pods"}},
		},
		"the fuller of processors and memory is the load": {
			request: web, hosts: []api.Host{host("a", nil), host("b", nil)},
			pods: []api.Pod{pod("x", "a", api.Resources{Memory: 4 * gi}), pod("y", "b", api.Resources{CPU: 1000, Memory: gi})},
			want: api.Decision{Host: "b", Score: 750, Reasons: []string{"host: 0 pods of the service", "in use: 25.0%, 1 pods"}},
		},
		"fewest pods when nothing is asked for": {
			request: schedule.Request{Project: "p", Service: "web"}, hosts: []api.Host{host("a", nil), host("b", nil)},
			pods: []api.Pod{pod("x", "a", api.Resources{})},
			want: api.Decision{Host: "b", Score: 1000, Reasons: []string{"host: 0 pods of the service", "in use: 0.0%, 0 pods"}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, schedule.NewCluster(tt.hosts, tt.pods, nil).Place(tt.request), cmpopts.IgnoreFields(api.Decision{}, "Others")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestOthers names the hosts that would have been next, in their order, and none that does not fit.
func TestOthers(t *testing.T) {
	var hosts []api.Host
	var pods []api.Pod
	for i, cores := range []int{3, 1, 0, 2, 1, 4} { // in use, of 4
		name := api.Name(fmt.Sprintf("h%d", i))
		hosts = append(hosts, host(name, nil))
		for range cores {
			pods = append(pods, pod("x", name, api.Resources{CPU: 1000}))
		}
	}
	request := schedule.Request{Project: "p", Service: "web", Need: api.Resources{CPU: 1000}}
	want := []api.HostScore{{Host: "h1", Score: 750}, {Host: "h4", Score: 750}, {Host: "h3", Score: 500}}
	d := schedule.NewCluster(hosts, pods, nil).Place(request)
	if diff := cmp.Diff(want, d.Others); d.Host != "h2" || diff != "" {
		t.Errorf("on %s; %s", d.Host, diff)
	}
	d = schedule.NewCluster(slices.Delete(slices.Clone(hosts), 1, 5), pods, nil).Place(request)
	if diff := cmp.Diff([]api.HostScore(nil), d.Others); d.Host != "h0" || diff != "" {
		t.Errorf("where h5 is full, on %s; %s", d.Host, diff)
	}
}

func TestDeletedPodsTakeRoomButNotPartInTheSpread(t *testing.T) {
	leaving := pod("web", "a", api.Resources{CPU: 3500})
	leaving.Metadata.Deleting = true
	gone := pod("web", "b", api.Resources{CPU: 3500})
	gone.Metadata.Deleting, gone.Status.Phase = true, api.PhaseGone
	hosts := []api.Host{host("a", nil), host("b", nil)}
	got := schedule.NewCluster(hosts, []api.Pod{leaving, gone}, nil).Place(schedule.Request{Project: "p", Service: "web", Need: api.Resources{CPU: 1000}})
	if got.Host != "b" || got.Rejected[api.ReasonCPU] != 1 {
		t.Errorf("got %+v; want host b, and a without room", got)
	}
}

// Requests that differ in what they need of a host's offer alone are different classes.
func TestOffersAreNotMixedUp(t *testing.T) {
	c := schedule.NewCluster([]api.Host{host("a", nil, offers(api.PolicyBaseline, "bulk"))}, nil, nil)
	for _, tt := range []struct {
		r    schedule.Request
		want api.Name
	}{
		{schedule.Request{Policy: api.PolicyPrivileged}, ""},
		{schedule.Request{Policy: api.PolicyBaseline}, "a"},
		{schedule.Request{Policy: api.PolicyRestricted}, "a"},
		{schedule.Request{Classes: []api.Name{"fast"}}, ""},
		{schedule.Request{Classes: []api.Name{"bulk"}}, "a"},
		{schedule.Request{Classes: []api.Name{"bulk", "fast"}}, ""},
	} {
		if d := c.Place(tt.r); d.Host != tt.want {
			t.Errorf("%+v: got %+v, want host %q", tt.r, d, tt.want)
		}
	}
}

func TestRetire(t *testing.T) {
	old := pod("web", "a", api.Resources{})
	c := schedule.NewCluster([]api.Host{host("a", nil), host("b", nil, cordoned)}, []api.Pod{old}, nil)
	c.Retire(&old)
	if d := c.Place(schedule.Request{Project: "p", Service: "web"}); d.Reasons[0] != "host: 0 pods of the service" {
		t.Errorf("a retired pod still counts: %+v", d)
	}
}

// BenchmarkPlace places pods on 5,000 hosts that hold 150,000 pods of 3,000 services already:
// at random among the services, as after a mass failure, spread over zones and with requirements.
func BenchmarkPlace(b *testing.B) {
	hosts := make([]api.Host, 5000)
	for i := range hosts {
		hosts[i] = host(api.Name(fmt.Sprintf("h%04d", i)), map[string]string{"zone": fmt.Sprint("z", i%5), "disk": fmt.Sprint("d", i%2)},
			capacity(64000, 256*gi))
	}
	pods := make([]api.Pod, 150_000)
	for i := range pods {
		pods[i] = pod(api.Name(fmt.Sprint("s", i%3000)), hosts[i*7%5000].Metadata.Name, api.Resources{CPU: 100, Memory: gi / 4})
	}
	for _, spread := range []string{"host", "zone"} {
		b.Run(spread, func(b *testing.B) {
			c := schedule.NewCluster(hosts, pods, nil)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				r := schedule.Request{Project: "p", Service: api.Name(fmt.Sprint("s", i*31%3000)), Need: api.Resources{CPU: 1, Memory: 1 << 20},
					Placement: api.Placement{Spread: spread, Require: []api.Requirement{{Label: "disk", NotIn: []string{fmt.Sprint("d", i%3)}}}}}
				if d := c.Place(r); d.Host == "" {
					b.Fatalf("no host: %+v", d)
				}
			}
		})
	}
}

// BenchmarkNewCluster takes in 5,000 hosts and 150,000 pods.
func BenchmarkNewCluster(b *testing.B) {
	hosts := make([]api.Host, 5000)
	for i := range hosts {
		hosts[i] = host(api.Name(fmt.Sprintf("h%04d", i)), nil)
	}
	pods := make([]api.Pod, 150_000)
	for i := range pods {
		pods[i] = pod(api.Name(fmt.Sprint("s", i%3000)), hosts[i*7%5000].Metadata.Name, api.Resources{})
	}
	for b.Loop() {
		schedule.NewCluster(hosts, pods, nil)
	}
}

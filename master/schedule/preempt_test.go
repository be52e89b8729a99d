package schedule_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"gearmesh.dev/api"
	"gearmesh.dev/master/schedule"
)

// crowd draws hosts that are full of pods of services with priorities.
func crowd(t *rapid.T) situation {
	s := situation{}
	for i := range rapid.IntRange(1, 4).Draw(t, "hosts") {
		s.hosts = append(s.hosts, host(api.Name(fmt.Sprint("h", i)), zone("x"), capacity(1000, 100)))
	}
	for _, name := range names {
		svc := api.Service{}
		svc.Metadata = api.Metadata{Project: "p", Name: name}
		svc.Spec.Placement.Priority = rapid.IntRange(-1, 2).Draw(t, "priority")
		svc.Spec.MinReady = rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "minReady")
		s.services = append(s.services, svc)
	}
	for i := range rapid.IntRange(0, 14).Draw(t, "pods") {
		p := pod(rapid.SampledFrom(names).Draw(t, "service"), rapid.SampledFrom(s.hosts).Draw(t, "on").Metadata.Name,
			api.Resources{CPU: api.CPU(rapid.IntRange(0, 600).Draw(t, "cpu")), Memory: api.Bytes(rapid.IntRange(0, 60).Draw(t, "memory"))})
		p.Metadata.Name, p.Metadata.UID = api.Name(fmt.Sprint("pod", i)), api.UID(fmt.Sprint(i))
		p.Status.Ready, p.Metadata.Deleting = rapid.Bool().Draw(t, "ready"), rapid.IntRange(0, 4).Draw(t, "deleting") == 0
		s.pods = append(s.pods, p)
	}
	return s
}

func (s situation) service(p *api.Pod) *api.Service {
	return &s.services[slices.Index(names, p.Spec.Service)]
}

// room tells whether a request fits on a host when pods of it are not counted.
func (s situation) room(r schedule.Request, on api.Name, without func(*api.Pod) bool) bool {
	kept := situation{hosts: s.hosts, pods: slices.Clone(s.pods)}
	kept.pods = slices.DeleteFunc(kept.pods, func(p api.Pod) bool { return without(&p) })
	return kept.naive(r, &s.hosts[slices.IndexFunc(s.hosts, func(h api.Host) bool { return h.Metadata.Name == on })]) == ""
}

// TestPreemptionIsMinimal checks who has to end for a pod that fits nowhere: only pods of lower priority, none that could be
// spared, none beyond a service's budget, and one alone where one suffices.
func TestPreemptionIsMinimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := crowd(t)
		r := schedule.Request{Project: "p", Service: "urgent", Priority: rapid.IntRange(-1, 3).Draw(t, "of"),
			Need: api.Resources{CPU: api.CPU(rapid.IntRange(1, 1000).Draw(t, "need")), Memory: api.Bytes(rapid.IntRange(0, 100).Draw(t, "memory"))}}
		c := schedule.NewCluster(s.hosts, s.pods, s.services)
		if d := c.Place(r); d.Host != "" {
			return
		}
		on, victims := c.Preempt(r)
		again, same := schedule.NewCluster(shuffled(t, s.hosts), shuffled(t, s.pods), shuffled(t, s.services)).Preempt(r)
		if again != on || fmt.Sprint(uids(same)) != fmt.Sprint(uids(victims)) {
			t.Fatalf("another order of the lists gives %s %v, not %s %v", again, uids(same), on, uids(victims))
		}
		s.checkEviction(t, r, on, victims)
	})
}

func uids(pods []*api.Pod) []api.UID {
	var out []api.UID
	for _, p := range pods {
		out = append(out, p.Metadata.UID)
	}
	return out
}

func (s situation) checkEviction(t *rapid.T, r schedule.Request, on api.Name, victims []*api.Pod) {
	leaves := func(p *api.Pod) bool { return p.Metadata.Deleting && s.service(p).Spec.Placement.Priority < r.Priority }
	if on == "" || len(victims) > 1 {
		s.checkNoSingle(t, r, leaves)
	}
	if on == "" {
		return
	}
	ended := uids(victims)
	if !s.room(r, on, func(p *api.Pod) bool { return leaves(p) || slices.Contains(ended, p.Metadata.UID) }) {
		t.Fatalf("host %s has no room without %v", on, ended)
	}
	lost := map[api.Name]int{}
	for _, v := range victims {
		if s.service(v).Spec.Placement.Priority >= r.Priority || v.Metadata.Deleting || v.Spec.Host != on {
			t.Fatalf("pod %+v must end for priority %d on %s", v, r.Priority, on)
		}
		if s.room(r, on, func(p *api.Pod) bool {
			return leaves(p) || p.Metadata.UID != v.Metadata.UID && slices.Contains(ended, p.Metadata.UID)
		}) {
			t.Fatalf("%s could be spared of %v", v.Metadata.UID, ended)
		}
		if v.Status.Ready {
			lost[v.Spec.Service]++
		}
	}
	for name, n := range lost {
		if left := s.ready(name) - n; left < s.services[slices.Index(names, name)].Spec.MinReady {
			t.Fatalf("%d ready pods are left of %s", left, name)
		}
	}
}

func (s situation) ready(service api.Name) int {
	n := 0
	for i := range s.pods {
		if p := &s.pods[i]; p.Spec.Service == service && p.Status.Ready && !p.Metadata.Deleting {
			n++
		}
	}
	return n
}

// checkNoSingle checks that there is no pod whose end alone, or none, would have made room.
func (s situation) checkNoSingle(t *rapid.T, r schedule.Request, leaves func(*api.Pod) bool) {
	for i := range s.pods {
		v := &s.pods[i]
		svc := s.service(v)
		if svc.Spec.Placement.Priority >= r.Priority || v.Status.Ready && s.ready(v.Spec.Service) <= svc.Spec.MinReady {
			continue
		}
		if s.room(r, v.Spec.Host, func(p *api.Pod) bool { return leaves(p) || p.Metadata.UID == v.Metadata.UID }) {
			t.Fatalf("the end of %s alone would make room on %s", v.Metadata.UID, v.Spec.Host)
		}
	}
}

// TestPreemptionKeepsTheRoom: what was made for one pod is not given to the next.
func TestPreemptionKeepsTheRoom(t *testing.T) {
	low, high := pod("low", "a", api.Resources{CPU: 3000}), schedule.Request{Project: "p", Service: "high", Priority: 1, Need: api.Resources{CPU: 4000}}
	low.Metadata.UID = "low"
	c := schedule.NewCluster([]api.Host{host("a", nil)}, []api.Pod{low}, nil)
	on, victims := c.Preempt(high)
	if on != "a" || len(victims) != 1 {
		t.Fatalf("got %q, %v", on, uids(victims))
	}
	c.Retire(victims[0])
	if d := c.Place(schedule.Request{Project: "p", Service: "low", Need: api.Resources{CPU: 1000}}); d.Host != "" {
		t.Errorf("the room that is kept was given away: %+v", d)
	}
	if on, _ := c.Preempt(high); on != "" {
		t.Errorf("two pods of 4 processors wait for one host of 4: %q", on)
	}
}

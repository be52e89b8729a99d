package geard

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/loop"
)

// tell brings the report up to date and wakes who passes it on when something has changed.
func (a *Agent) tell(ctx context.Context, s sight) {
	pods := a.podReports(s)
	endpoints := a.ownEndpoints(ctx, s.disk, pods)
	a.mu.Lock()
	same := reflect.DeepEqual(a.report.Pods, pods)
	a.report.Pods = pods
	a.mu.Unlock()
	if a.announce(endpoints) || !same {
		a.reportKick.Wake()
	}
}

// podReports gives the state of each pod that is wanted or there.
func (a *Agent) podReports(s sight) []api.PodReport {
	seen := make(map[api.UID]*Actual, len(s.actual))
	for i := range s.actual {
		seen[s.actual[i].UID] = &s.actual[i]
	}
	wanted := make(map[api.UID]*api.Pod, max(len(s.disk), len(s.want)))
	for uid, h := range s.disk {
		if h.pod != nil {
			wanted[uid] = h.pod
		}
	}
	for i := range s.want {
		wanted[s.want[i].Metadata.UID] = &s.want[i]
	}
	out := slices.Grow([]api.PodReport(nil), len(wanted)) // nil for none
	for uid, at := range wanted {
		p, x := *at, Actual{}
		found, exists := seen[uid]
		if exists {
			x = *found
		}
		out = append(out, api.PodReport{UID: uid, Project: p.Metadata.Project, Name: p.Metadata.Name,
			Status: onLinks(podStatus(p, x, exists && !x.Absent, s.disk[uid].net, a.runs(p), a.progressOf(uid)), a.waitingLinks(p))})
	}
	slices.SortFunc(out, func(x, y api.PodReport) int { return cmp.Compare(x.UID, y.UID) })
	return out
}

func (a *Agent) progressOf(uid api.UID) Progress {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.pods[uid]; w != nil {
		return w.progress
	}
	return Progress{}
}

// runs gives the states of a pod's containers, waiting for those that have not run yet.
func (a *Agent) runs(p api.Pod) []api.ContainerStatus {
	all := p.Spec.Template.All()
	out := make([]api.ContainerStatus, 0, len(all))
	for i, c := range all {
		s, err := a.disk.LoadRun(p.Metadata.UID, c.Name)
		if err != nil || s.State == "" {
			s = api.ContainerStatus{State: api.RunWaiting}
		}
		s.Name, s.Init = c.Name, i < len(p.Spec.Template.InitContainers)
		out = append(out, s)
	}
	return out
}

// ownEndpoints gives the endpoints of this host's pods, sorted.
func (a *Agent) ownEndpoints(ctx context.Context, disk map[api.UID]held, reports []api.PodReport) []api.Endpoint {
	var out []api.Endpoint
	six := a.ipv6().IPv6.IsValid()
	for _, r := range reports {
		h := disk[r.UID]
		if h.pod == nil || r.Status.Phase == api.PhaseStopping {
			continue
		}
		var ports []api.Name
		if six && r.Status.Ready {
			ports = a.listensIPv6(ctx, h)
		} else {
			a.setListens(r.UID, listens{})
		}
		out = append(out, endpointsOf(*h.pod, h.net, r.Status.Ready, ports)...)
	}
	slices.SortFunc(out, func(x, y api.Endpoint) int {
		return cmp.Or(x.Address.Compare(y.Address), cmp.Compare(x.Protocol, y.Protocol))
	})
	return out
}

// announce makes a change of the own endpoints known: to this host's links, to the master with
// the next report, and to the mesh as a hint. It tells whether there was one.
func (a *Agent) announce(endpoints []api.Endpoint) bool {
	own := a.Endpoints()
	detached := a.detached.Load()
	if own.Seq != 0 && slices.Equal(own.Endpoints, endpoints) && own.Detached == detached {
		return false
	}
	// The clock makes the number grow even when this host's disk was lost.
	own = api.HostEndpoints{Host: a.cfg.Name, Seq: max(own.Seq+1, time.Now().UnixMilli()), Endpoints: endpoints, Detached: detached}
	a.mem.merge(own)
	a.directoryChanged()
	a.cfg.Mesh.HintEndpoints(own.Seq)
	return true
}

// Endpoints gives this host's own word of its endpoints.
func (a *Agent) Endpoints() api.HostEndpoints {
	for _, e := range a.mem.get().Directory.Endpoints {
		if e.Host == a.cfg.Name {
			return e
		}
	}
	return api.HostEndpoints{Host: a.cfg.Name}
}

// sendReport tells the master how this host is, and gives how long the next report may wait when nothing changes.
func (a *Agent) sendReport(ctx context.Context) (wait time.Duration) {
	calling, cancel := context.WithTimeout(ctx, 2*api.ReportEvery)
	defer cancel()
	sent := time.Now()
	// A report tells of all pods. While many start, and the master has as much to do with it as this host, several changes go into one.
	defer func() { loop.Sleep(ctx, min(time.Since(sent), maxRest)) }()
	answer, err := a.cfg.Master.Report(calling, a.Report())
	if err != nil {
		a.log.Debug("the master did not take the report", "err", err)
		return api.ReportEvery
	}
	a.leased(ctx, sent, answer.Leases)
	return api.ReportWait(answer.Every.Std(), slices.ContainsFunc(a.mem.get().Pods, func(p api.Pod) bool { return p.Singleton() }))
}

// Report gives the present report.
func (a *Agent) Report() api.HostReport {
	d := a.mem.get()
	a.mu.Lock()
	r := a.report
	for reason, message := range a.trouble {
		r.Conditions = append(r.Conditions, api.Condition{Reason: reason, Message: message})
	}
	a.mu.Unlock()
	slices.SortFunc(r.Conditions, func(x, y api.Condition) int { return cmp.Compare(x.Reason, y.Reason) })
	r.Host, r.Version, r.Term, r.Revision, r.Capacity = a.cfg.Name, a.cfg.Version, d.Term, d.Revision, a.cfg.Capacity
	r.HostIPv6 = a.ipv6()
	r.HostOffer = api.HostOffer{MaxPolicy: a.cfg.MaxPolicy.OrDefault(), VolumeClasses: slices.Sorted(maps.Keys(a.cfg.Volumes)), HostPorts: PortLast - PortFirst + 1}
	r.Endpoints, r.MeshSeen, r.Gossip = a.Endpoints(), a.cfg.Mesh.Alive(), a.gossip.Load()
	for _, h := range d.Directory.Hosts {
		if a.cfg.Mesh.Down(h.Name) {
			r.MeshDown = append(r.MeshDown, h.Name)
		}
	}
	return r
}

// reasonOf gives the reason that a task's error carries.
func reasonOf(err error) api.Reason {
	var r reasonError
	if errors.As(err, &r) {
		return r.reason
	}
	return api.ReasonHostError
}

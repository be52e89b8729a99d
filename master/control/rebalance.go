package control

import (
	"fmt"
	"slices"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/master/schedule"
)

// Pods of services with placement.rebalance move to hosts where they are better off, one of a service at a time, when all is calm
// (docs/adr/0012-rebalance.md). A move is a new pod that names the one whose place it takes: while both are there that one counts as
// out of date, and the rollout of the service does the rest.

const (
	// moveRest is how long a service is left alone after a move has begun, and a host after it has come, before it is moved to.
	moveRest = time.Minute
	// maxMoveRest bounds how long a service is left alone whose moves fail, which is twice as long with each.
	maxMoveRest = time.Hour
	// moveTime is how long the new pod of a move has to become ready.
	moveTime = 5 * time.Minute
	// maxMoves is how many moves there are at once in the cluster.
	maxMoves = 4
	// maxCompared bounds how often a host is compared with another in one look, to some 0.2 s. The next look goes on from there.
	maxCompared = 5_000_000
)

// Rests is what a leader remembers from one rebalancing to the next. It is kept in memory, so that no step of the wall clock shortens
// a rest: a new leader begins with one.
type Rests struct {
	began time.Time
	ready map[api.Name]time.Time // since when a host has been ready without a break
	moved map[serviceKey]moveRecord
	last  serviceKey // that was looked at
}

type moveRecord struct {
	at     time.Time
	failed int // moves in a row
}

// NewRests begins now.
func NewRests(now time.Time) *Rests {
	return &Rests{began: now, ready: map[api.Name]time.Time{}, moved: map[serviceKey]moveRecord{}}
}

// Look takes in which hosts are ready.
func (r *Rests) Look(v *View) {
	for name := range r.ready {
		if v.states[name] != api.HostReady {
			delete(r.ready, name)
		}
	}
	for name, state := range v.states {
		if _, known := r.ready[name]; !known && state == api.HostReady {
			r.ready[name] = v.Now
		}
	}
}

// Note takes in what is about to be written: moves that begin, and how they end.
func (r *Rests) Note(now time.Time, actions []Action) {
	for _, a := range actions {
		pod, ok := a.Object.(*api.Pod)
		if !ok {
			continue
		}
		k := serviceKey{pod.Metadata.Project, pod.Spec.Service}
		was := r.moved[k]
		switch {
		case a.Reason == api.ReasonMoveFailed:
			r.moved[k] = moveRecord{now, was.failed + 1}
		case a.Reason == api.ReasonRebalanced && pod.Metadata.Deleting:
			r.moved[k] = moveRecord{was.at, 0}
		case a.Reason == api.ReasonRebalanced:
			r.moved[k] = moveRecord{now, was.failed}
		}
	}
}

// over tells whether a service has been left alone for long enough.
func (r *Rests) over(k serviceKey, now time.Time) bool {
	last := r.moved[k]
	at, rest := last.at, moveRest
	if at.Before(r.began) {
		at = r.began
	}
	for range last.failed {
		rest = min(2*rest, maxMoveRest)
	}
	return now.Sub(at) >= rest
}

// settled tells whether a host has been ready for long enough to be moved to.
func (r *Rests) settled(host api.Name, now time.Time) bool {
	since, ready := r.ready[host]
	return ready && now.Sub(since) >= moveRest
}

// Rebalance gives the moves that begin now, and ends those that do not come to an end. It is for when Plan has nothing to do, and may
// be asked again without a change: rests are over by time, and a large cluster is not looked through at once. newUID is as for Plan.
func (v *View) Rebalance(r *Rests, newUID func() api.UID) []Action {
	p := &planner{View: v, newUID: newUID}
	fleets := p.movable(r.last)
	if len(fleets) == 0 || v.unrest() != "" {
		return nil
	}
	left, compared := maxMoves-moving(fleets), 0
	later := p.later(fleets, r)
	for _, f := range fleets {
		p.giveUpMove(f)
		k := keyOf(f.Service)
		if left == 0 || compared >= maxCompared || !f.mayMove() || !r.over(k, v.Now) {
			continue
		}
		r.last, compared = k, compared+min(len(f.live), len(v.Hosts))*len(v.Hosts)
		if p.moveOne(f, later) {
			left--
		}
	}
	return p.acts
}

// movable gives the services that ask to be rebalanced, those after the last one that was looked at first.
func (p *planner) movable(last serviceKey) []*fleet {
	var before, after []*fleet
	for _, s := range p.sortedServices() {
		if !s.Spec.Placement.Rebalance || s.Metadata.Deleting || p.deletingProject(s.Metadata.Project) {
			continue
		}
		if f := p.fleet(s); compareServices(keyOf(s), last) <= 0 {
			before = append(before, f)
		} else {
			after = append(after, f)
		}
	}
	return append(after, before...)
}

// unrest says why no pod is moved: hosts may not be as they seem, or a pod waits for room that a move might take. "" when none is.
func (v *View) unrest() string {
	if v.brake.on {
		return v.brake.String()
	}
	for i := range v.Hosts {
		if name := v.Hosts[i].Metadata.Name; v.states[name] == api.HostSuspect {
			return fmt.Sprintf("host %s is suspect", name)
		}
	}
	for i := range v.Pods {
		if p := &v.Pods[i]; p.Spec.Host == "" && p.Spec.Placement != nil && p.Spec.Placement.Waits != "" {
			return fmt.Sprintf("pod %s/%s waits for the room of others on host %s", p.Metadata.Project, p.Metadata.Name, p.Spec.Placement.Waits)
		}
	}
	return ""
}

// NextMoves gives the moves that would begin if all had rested, or why none would.
func (v *View) NextMoves(newUID func() api.UID) (out []api.PodChange, held string) {
	long := v.Now.Add(-maxMoveRest)
	rests := NewRests(long)
	for name := range v.states {
		rests.ready[name] = long
	}
	for _, a := range v.Rebalance(rests, newUID) {
		next := a.Object.(*api.Pod)
		for _, old := range v.pods[serviceKey{next.Metadata.Project, next.Spec.Service}] {
			if a.Reason == api.ReasonRebalanced && old.Metadata.UID == next.Spec.Replaces {
				out = append(out, api.PodChange{Op: api.PodReplace, Project: old.Metadata.Project, Service: old.Spec.Service, Pod: old.Metadata.Name,
					Host: old.Spec.Host, NewHost: next.Spec.Host, Reason: a.Reason, Message: a.Why, Decision: next.Spec.Placement})
			}
		}
	}
	return out, v.unrest()
}

// moved gives the pods whose place a newer one is to take on another host.
func (f *fleet) moved() []replica {
	return f.pick(func(r replica) bool { return r.outdated == api.ReasonRebalanced })
}

// moving counts the moves that have begun.
func moving(fleets []*fleet) (n int) {
	for _, f := range fleets {
		n += len(f.moved())
		for _, r := range f.leaving {
			if r.Spec.Ending == api.ReasonRebalanced && !r.silent {
				n++
			}
		}
	}
	return n
}

// mayMove tells whether a service can be moved at all and is wholly as wanted. What has ended on a host that does not answer is no
// matter.
func (f *fleet) mayMove() bool {
	s := &f.Spec
	if s.Global || s.Singleton || f.identity() || f.stateful() || len(f.live) != f.want {
		return false
	}
	return len(f.stale()) == 0 && allReady(f.live) && !slices.ContainsFunc(f.leaving, func(r replica) bool { return !r.silent })
}

// later gives the scheduler the cluster as it will be when all that has begun has ended.
func (p *planner) later(fleets []*fleet, r *Rests) *schedule.Cluster {
	replaced := map[api.UID]bool{}
	for _, f := range fleets {
		for _, old := range f.moved() {
			replaced[old.Metadata.UID] = true
		}
	}
	hosts := p.hostsNow()
	for i := range hosts {
		hosts[i].Spec.Cordoned = hosts[i].Spec.Cordoned || !r.settled(hosts[i].Metadata.Name, p.Now)
	}
	pods := slices.DeleteFunc(slices.Clone(p.Pods), func(pod api.Pod) bool { return pod.Metadata.Deleting || replaced[pod.Metadata.UID] })
	return schedule.NewCluster(hosts, pods, p.Services)
}

// moveOne begins the move of the service's pod that gains most, if one does and there is room for both until it has ended.
func (p *planner) moveOne(f *fleet, later *schedule.Cluster) bool {
	var old replica
	var best schedule.Move
	seen := map[api.Name]bool{}
	for _, r := range f.live {
		if on := r.Spec.Host; seen[on] || closed(p.hosts[on]) {
			continue
		}
		seen[r.Spec.Host] = true
		if m, ok := later.Better(p.request(f, r.Pod), r.Spec.Host); ok && (old.Pod == nil || m.Beats(&best)) {
			old, best = r, m
		}
	}
	if old.Pod == nil || !p.move(f, old, best) {
		return false
	}
	later.Shift(p.request(f, old.Pod), old.Spec.Host, best.To)
	return true
}

// move makes the new pod of a move.
func (p *planner) move(f *fleet, old replica, m schedule.Move) bool {
	pod := p.newPod(f, api.ReasonRebalanced, "")
	if p.cluster == nil {
		p.cluster = p.newCluster()
	}
	d, ok := p.cluster.PlaceOn(p.request(f, pod), m.To)
	if !ok {
		return false
	}
	why := fmt.Sprintf("it takes the place of pod %s on host %s, because host %s is better: %s", old.Metadata.Name, old.Spec.Host, m.To, m.Why)
	d.Reasons = append(d.Reasons, why)
	pod.Spec.Replaces, pod.Spec.Host, pod.Spec.Term, pod.Spec.Placement = old.Metadata.UID, d.Host, p.Term, &d
	p.add(f, pod, why)
	return true
}

// markMoved finds the pods whose place a newer one is to take. Of a service that is not to be moved any more the newer one is one too many.
func (f *fleet) markMoved() {
	if !f.Spec.Placement.Rebalance {
		return
	}
	for _, next := range f.live {
		if next.Spec.Replaces == "" || next.outdated != "" {
			continue
		}
		for i := range f.live {
			if old := &f.live[i]; old.Metadata.UID == next.Spec.Replaces && old.outdated == "" {
				old.outdated = api.ReasonRebalanced
			}
		}
	}
}

// giveUpMove ends the new pod of a move when it does not become ready: the old one goes on.
func (p *planner) giveUpMove(f *fleet) {
	for _, next := range f.current() {
		if next.Spec.Replaces == "" || next.ready || p.Now.Sub(next.Metadata.Created) < moveTime {
			continue
		}
		for _, old := range f.moved() {
			if old.Metadata.UID == next.Spec.Replaces {
				p.mark(next.Pod, api.ReasonMoveFailed, fmt.Sprintf("it is not ready after %s, so that pod %s on host %s stays", moveTime, old.Metadata.Name, old.Spec.Host))
			}
		}
	}
}

package main

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

// How long a pod may stay in a state that seldom mends itself before following it is given up.
// Containers that end are given longer: a web that waits for its database by ending is well soon.
const (
	patienceUnschedulable = 10 * time.Second
	patienceImage         = 30 * time.Second
	patienceOther         = 60 * time.Second
	maxRestarts           = 5
)

// rollout is what is known of services whose pods are followed. It only gathers and judges; the
// watch and the clock are others'.
type rollout struct {
	services map[api.Key]*api.Service
	pods     map[api.Key]*api.Pod
	ill      map[api.UID]time.Time // since when a pod has not been well again
	well     map[api.UID]time.Time // since when a pod has been well
	start    map[api.UID]int       // restarts when it was first seen
	synced   bool
}

// newRollout begins with services as their Put gave them.
func newRollout(services []*api.Service) *rollout {
	r := &rollout{services: map[api.Key]*api.Service{}, pods: map[api.Key]*api.Pod{}, ill: map[api.UID]time.Time{}, well: map[api.UID]time.Time{}, start: map[api.UID]int{}}
	for _, s := range services {
		r.services[s.Key()] = s
	}
	return r
}

// see takes an event in.
func (r *rollout) see(e client.Event, now time.Time) {
	switch o := e.Object.(type) {
	case nil:
		r.synced = r.synced || e.Type == api.EventSync
	case *api.Service:
		// The stream may still be behind our own Put.
		if s, ok := r.services[o.Key()]; ok && o.Metadata.Revision >= s.Metadata.Revision {
			r.services[o.Key()] = o
			if e.Type == api.EventDelete {
				o.Metadata.Deleting = true
			}
		}
	case *api.Pod:
		r.seePod(o, e.Type == api.EventDelete, now)
	}
}

func (r *rollout) seePod(p *api.Pod, gone bool, now time.Time) {
	if _, ours := r.services[serviceOf(p)]; !ours {
		return
	}
	if gone {
		delete(r.pods, p.Key())
		return
	}
	r.pods[p.Key()] = p
	uid := p.Metadata.UID
	if _, ok := r.start[uid]; !ok {
		r.start[uid] = restarts(p)
	}
	h, _ := podHealth(p)
	if h != well {
		delete(r.well, uid)
	}
	switch _, known := r.ill[uid]; {
	case h == well:
		delete(r.ill, uid)
		if r.well[uid].IsZero() {
			r.well[uid] = now
		}
	case h == ill && !known:
		r.ill[uid] = now
	}
}

func serviceOf(p *api.Pod) api.Key {
	return api.Key{Kind: api.KindService, Project: p.Metadata.Project, Name: p.Spec.Service}
}

// keys gives the services in order.
func (r *rollout) keys() []api.Key {
	return slices.SortedFunc(maps.Keys(r.services), func(a, b api.Key) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.Name, b.Name))
	})
}

// podsOf gives a service's pods that are not ending, in order.
func (r *rollout) podsOf(key api.Key) []*api.Pod {
	var out []*api.Pod
	for _, p := range r.pods {
		if serviceOf(p) == key && !p.Metadata.Deleting {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *api.Pod) int { return cmp.Compare(a.Metadata.Name, b.Metadata.Name) })
	return out
}

// current tells whether a pod runs its service's template as it is now.
func (r *rollout) current(p *api.Pod) bool {
	s := r.services[serviceOf(p)]
	return s != nil && reflect.DeepEqual(p.Spec.Template, s.Spec.PodTemplate)
}

// ready counts a service's pods that are as wanted, and tells whether all are and no others.
func (r *rollout) ready(key api.Key) (n int, all bool) {
	s, pods := r.services[key], r.podsOf(key)
	for _, p := range pods {
		if h, _ := podHealth(p); h == well && r.current(p) {
			n++
		}
	}
	return n, r.synced && n == replicas(s) && len(pods) == n
}

// settled is how long a pod without a check that tells its readiness must have run to count: one that ends at once
// was running, too, for a moment.
const settled = time.Second

// done tells whether all services are as wanted.
func (r *rollout) done(now time.Time) bool {
	for key := range r.services {
		if _, all := r.ready(key); !all {
			return false
		}
		for _, p := range r.podsOf(key) {
			if unchecked(p) && now.Sub(r.well[p.Metadata.UID]) < settled {
				return false
			}
		}
	}
	return true
}

// unchecked tells whether a container of the pod is taken for ready as soon as it runs: one without a readiness check,
// and without a start-up check that says when it serves.
func unchecked(p *api.Pod) bool {
	return slices.ContainsFunc(p.Spec.Template.Containers, func(c api.Container) bool { return c.Ready == nil && c.Startup == nil })
}

// failed gives the pod for which there is no hope, or a service that is being deleted.
func (r *rollout) failed(now time.Time) (*api.Pod, error) {
	for _, key := range r.keys() {
		if r.services[key].Metadata.Deleting {
			return nil, problem{what: fmt.Sprintf("%s is being deleted by somebody else", key), code: exitError}
		}
		for _, p := range r.podsOf(key) {
			if r.current(p) && r.hopeless(p, now) {
				return p, problem{what: fmt.Sprintf("%s does not become ready", p.Key()), why: cause(p.Status.Reason, p.Status.Message), try: next(p), code: exitError}
			}
		}
	}
	return nil, nil
}

func (r *rollout) hopeless(p *api.Pod, now time.Time) bool {
	since, isIll := r.ill[p.Metadata.UID]
	if !isIll {
		return false
	}
	patience := patienceOther
	switch p.Status.Reason {
	case api.ReasonUnschedulable:
		patience = patienceUnschedulable
	case api.ReasonImagePull:
		patience = patienceImage
	}
	return now.Sub(since) >= patience || restarts(p)-r.start[p.Metadata.UID] >= maxRestarts
}

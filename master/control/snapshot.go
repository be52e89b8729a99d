package control

import (
	"sync"
	"time"

	"gearmesh.dev/api"
)

// Snapshot is all that the controllers decide from. The slices and what they hold are only read,
// so a caller may lend its caches. Order does not matter. All lists must be from one revision of the
// store: a pod whose host is missing from Hosts is taken for one whose host was deleted.
type Snapshot struct {
	Now      time.Time
	Term     int64 // of the leader that plans; assigned pods carry it
	Projects []api.Project
	Services []api.Service
	Pods     []api.Pod  // Status: what the pod's host last reported; zero when it has not
	Hosts    []api.Host // Status: Seen, Version, Capacity and the worst condition of its last report
	Aliases  []api.Alias
	Secrets  []api.Secret        // without their values
	Health   map[api.Name]Health // by host; a host that is missing has no lease
	Fence    int64               // what the next fencing token is; higher than all before
	Hashes   *Hashes             // of templates, known from earlier snapshots of the same store; nil to make them all
}

// Health is how the master reaches a host. A new leader, which has no leases yet, should give
// LeaseGood to every host for one lease time.
type Health struct {
	LeaseGood bool // the host has reported within its lease
	MeshDown  bool // most of the reachable hosts see it as failed
	Lapsed    bool // it has been silent for api.SingletonSilence: no singleton runs there. Never true while LeaseGood is
}

// Op is what to do with an object.
type Op string

// The operations of actions.
const (
	Put    Op = "put"    // write it if the stored revision is the object's
	Delete Op = "delete" // remove it if the stored revision is the object's
	Rename Op = "rename" // write it as a new one and remove From if that one's stored revision is the object's, both or neither
)

// Action is one write that brings the cluster nearer to what is wanted.
type Action struct {
	Op     Op
	Object api.Resource
	From   api.Key    // of Rename alone
	Reason api.Reason // for programs; also the cause of a pod that is made
	Why    string     // for people: one line for the log and gear plan
}

// Labels that the controllers set. People's labels that start with LabelPrefix are not copied
// from a service to its pods.
const (
	LabelPrefix = "dev.gearmesh/"
	// ServiceLabel names the service that an alias was made for by its spec.aliases.
	ServiceLabel = api.ServiceLabel
	// PinLabel names the host that holds the volumes of a pod.
	PinLabel = LabelPrefix + "volumes-on"
	// OnlyLabel names the host that a pod of a global service is for.
	OnlyLabel = LabelPrefix + "only-on"
)

// serviceKey names a service within the cluster.
type serviceKey struct{ project, name api.Name }

// View is a Snapshot with indexes: build it once for many questions. It is read only and may be
// shared between goroutines.
type View struct {
	Snapshot
	hosts    map[api.Name]*api.Host
	states   map[api.Name]api.HostState
	projects map[api.Name]*api.Project
	services map[serviceKey]*api.Service
	pods     map[serviceKey][]*api.Pod
	onHost   map[api.Name]int
	owners   map[api.Hostname]*api.Alias
	ready    int // hosts that are
	brake    brake

	unitNames func() *names // those in use, gathered when they are asked for
}

// NewView indexes a snapshot.
func NewView(s Snapshot) *View {
	v := &View{Snapshot: s,
		hosts:    make(map[api.Name]*api.Host, len(s.Hosts)),
		states:   make(map[api.Name]api.HostState, len(s.Hosts)),
		projects: make(map[api.Name]*api.Project, len(s.Projects)),
		services: make(map[serviceKey]*api.Service, len(s.Services)),
		pods:     make(map[serviceKey][]*api.Pod, len(s.Services)),
		onHost:   make(map[api.Name]int, len(s.Hosts)),
		owners:   owners(s.Aliases),
	}
	for i := range s.Hosts {
		h := &s.Hosts[i]
		v.hosts[h.Metadata.Name] = h
		state := stateOf(h, s.Health[h.Metadata.Name])
		v.states[h.Metadata.Name] = state
		if state == api.HostReady {
			v.ready++
		}
	}
	for i := range s.Projects {
		v.projects[s.Projects[i].Metadata.Name] = &s.Projects[i]
	}
	for i := range s.Services {
		v.services[keyOf(&s.Services[i])] = &s.Services[i]
	}
	for i := range s.Pods {
		p := &s.Pods[i]
		k := serviceKey{p.Metadata.Project, p.Spec.Service}
		v.pods[k] = append(v.pods[k], p)
		if !v.keptRecord(p) {
			v.onHost[p.Spec.Host]++
		}
	}
	v.brake = brakeOf(v.states, v.hosts)
	v.unitNames = sync.OnceValue(func() *names { return namesOf(v.Pods) })
	return v
}

func keyOf(s *api.Service) serviceKey { return serviceKey{s.Metadata.Project, s.Metadata.Name} }

// wanted gives the number of pods a service should have.
func wanted(s *api.Service) int {
	if s.Spec.Replicas == nil {
		return 1
	}
	return *s.Spec.Replicas
}

package api

import (
	"fmt"
	"time"
)

// The times that keep a singleton from running twice. Agent and master go by the same, and the sum below is the whole
// argument (docs/adr/0008-singletons.md):
//
// The agent sends a report at t. The master notes it at m, not before t, sees that it still leads, and answers. The agent
// takes an answer only until t + SingletonAnswer, and by then has set the pod's dead-man timer anew. So the timer elapses
// at t + SingletonAnswer + SingletonLease at the latest, and SingletonStop later systemd has killed all of the pod. Two
// clocks that run apart, and a timer that elapses late, take less than SingletonDrift. The master makes the next pod
// SingletonSilence after m, the last report that it has noted, and not before.
const (
	// SingletonAnswer is how old a report may be when its answer has set the timer.
	SingletonAnswer = 2 * time.Second
	// SingletonLease is what the timer is set to. It outlasts a change of the leader.
	SingletonLease = 10 * time.Second
	// SingletonStop is the time from the timer's end to the kill of all that is left of the pod.
	SingletonStop = SingletonGrace + time.Second
	// SingletonDrift is what clocks and timers may be wrong by in all.
	SingletonDrift = time.Second
	// SingletonSilence is how long a master has not heard of a host before it replaces the host's singletons.
	SingletonSilence = SingletonAnswer + SingletonLease + SingletonStop + SingletonDrift

	// SingletonGrace is the longest stopGrace of a container of a singleton, and the one that it has when it says none.
	SingletonGrace = 4 * time.Second
)

// Singleton tells whether the pod runs by a lease, so that it can be started elsewhere and yet there is never a second one:
// that of a singleton, or one with an identity and no volumes of its host.
func (p *Pod) Singleton() bool { return p.Spec.Fence > 0 }

// lapsedName is what a singleton's own unit has for a container's name, so that no container can be called so.
const lapsedName = Name("lapsed")

// Leased tells whether the service's pods run by leases. Those with an identity need none when they have volumes of their
// host: they are never started elsewhere while it may be alive.
func (s *ServiceSpec) Leased() bool {
	return s.Singleton || s.Identity != "" && !s.Global && !s.Stateful()
}

// singletonDefaults gives the containers of a pod with a lease a shorter grace than others have.
func (s *ServiceSpec) singletonDefaults() {
	for _, list := range [][]Container{s.InitContainers, s.Containers} {
		for i := range list {
			if list[i].StopGrace == 0 {
				list[i].StopGrace = Duration(SingletonGrace)
			}
		}
	}
}

// copies checks what a service says of how many pods it has, and which.
func (f *faults) copies(s *Service) {
	if s.Spec.Global {
		f.global(&s.Spec)
	}
	if s.Spec.Singleton {
		f.singleton(&s.Spec)
	}
	if s.Spec.Identity != "" {
		f.identity(s)
	}
	if s.Spec.Leased() {
		f.leased(&s.Spec)
	}
}

// singleton checks what a singleton must be for its promise to hold.
func (f *faults) singleton(s *ServiceSpec) {
	if s.Global {
		f.addf("spec.singleton", "means one pod in all, and spec.global one on each host; take one away")
	}
	if s.Replicas != nil && *s.Replicas > 1 {
		f.addf("spec.replicas", "is %d, but spec.singleton means one pod; write 1 or leave it out (0 stops it)", *s.Replicas)
	}
	if s.Stateful() {
		f.addf("spec.singleton", "the service has volumes on its host: its pod never runs twice anyway, and stays with them; leave spec.singleton out, or the volumes")
	}
}

// leased checks what the containers of pods must be that a timer ends in time.
func (f *faults) leased(s *ServiceSpec) {
	whose := "a singleton"
	if !s.Singleton {
		whose = "a pod with identity and without volumes on its host"
	}
	f.leasedContainers(whose, "spec.initContainers", s.InitContainers)
	f.leasedContainers(whose, "spec.containers", s.Containers)
}

func (f *faults) leasedContainers(whose, at string, list []Container) {
	for i, c := range list {
		here := fmt.Sprintf("%s[%d]", at, i)
		if c.StopGrace.Std() > SingletonGrace {
			f.addf(here+".stopGrace", "is %s; a container of %s may take %s to end, because the next pod waits for it", c.StopGrace, whose, Duration(SingletonGrace))
		}
		if c.Native != nil {
			f.addf(here+".native", "%s cannot have programs of the host yet: the time that they take to end has no bound", whose)
		}
		if c.Name == lapsedName {
			f.addf(here+".name", "the name %q is taken by what stops %s; choose another", c.Name, whose)
		}
	}
}

package api

import (
	"fmt"
	"strconv"
)

// PodIdentity gives each pod of a service a name and volumes of its own that outlast it, and says in which order the pods
// start. "" is none: pods are alike.
type PodIdentity string

// The orders in which pods with an identity start and end.
const (
	IdentityOrdered  PodIdentity = "ordered"  // one after the other, each when all before it are ready
	IdentityParallel PodIdentity = "parallel" // all at once
)

// MaxIdentities is the most pods that a service with identity may have: their names must stay short enough.
const MaxIdentities = 10000

// maxIdentityName is the longest name of a service with identity, in bytes: "-9999" follows it in those of its pods.
const maxIdentityName = MaxNameLen - len("-9999")

// OrdinalName gives the name of pod n, from 0, of a service with identity: "db-0".
func OrdinalName(service Name, n int) Name { return service + Name("-"+strconv.Itoa(n)) }

// HeldName gives the name by which the pod's host knows it: its own, but for one whose name another pod has taken over
// because it can no longer run (docs/adr/0009-identity.md).
func (p *Pod) HeldName() Name {
	if p.Spec.Ordinal == nil {
		return p.Metadata.Name
	}
	return OrdinalName(p.Spec.Service, *p.Spec.Ordinal)
}

// identity checks what a service with identity says besides.
func (f *faults) identity(s *Service) {
	switch s.Spec.Identity {
	case IdentityOrdered, IdentityParallel:
	default:
		f.addf("spec.identity", "%.40q is not known; write ordered or parallel", s.Spec.Identity)
	}
	if len(s.Metadata.Name) > maxIdentityName {
		f.addf("metadata.name", "is %d characters long, and spec.identity gives each pod this name with a number; at most %d are allowed", len(s.Metadata.Name), maxIdentityName)
	}
	if s.Spec.Global {
		f.addf("spec.identity", "gives pods names from %s on, and spec.global one pod to each host; take one away", OrdinalName("NAME", 0))
	}
	if s.Spec.Singleton {
		f.addf("spec.identity", "there is never a second pod of an identity anyway; take spec.singleton away, or spec.identity")
	}
}

// ordinal checks the number of a pod.
func ordinal(n *int) error {
	if n != nil && (*n < 0 || *n >= MaxIdentities) {
		return fmt.Errorf("is %d; 0 to %d are allowed", *n, MaxIdentities-1)
	}
	return nil
}

// Package schedule chooses hosts for pods. It is pure: the same hosts, pods and requests give
// the same decisions, whatever order maps are walked in.
//
// A host is left out for the first of these that holds, and Decision.Rejected counts it once, by that: it is not ready;
// cordoned; does not meet a requirement; does not allow the policy; lacks a volume class; a service that the pod must be
// near has no pod under its value of the label; one that it must be apart from, or that must be apart from it, has one;
// the bound of the spread, or the maximum of a host, is reached; too little is left of its processors, memory or ports.
// Of the others the best is taken:
//
//  1. most preferences (near and apart) met,
//  2. fewest pods of the service under the host's value of the spread label,
//  3. fewest pods of the service on the host,
//  4. smallest share of processors or memory in use, the larger of both,
//  5. fewest pods,
//  6. first by name.
//
// A service that is packed skips 3, and 2 when it spreads over hosts, and wants the largest share and most pods.
//
// Every host that fits is looked at; there is no sampling, so an explanation is always the whole
// truth. What makes that quick (5,000 hosts in some 10 µs) is that what rules a host out for good
// is worked out once for each set of requirements, and the rest is a walk over one flat array.
package schedule

import (
	"slices"

	"gearmesh.dev/api"
)

// Request is what a pod asks of its host.
type Request struct {
	Project   api.Name
	Service   api.Name
	Need      api.Resources // of all containers together
	Ports     int           // of the host that the pod is given
	Placement api.Placement // an empty Spread means api.HostLabel
	Priority  int           // others with a lower one may have to end for it
	On        api.Name      // the only host to take; any when empty
	Policy    api.Policy    // the host must allow it
	Classes   []api.Name    // volume classes that the host must have
}

// Meets tells whether every requirement holds of the host.
func Meets(h *api.Host, require []api.Requirement) bool {
	for _, r := range require {
		if !holds(r, LabelOf(h, r.Label)) {
			return false
		}
	}
	return true
}

// LabelOf gives a host's value of a label; api.HostLabel is the host's name, and a label that
// the host lacks is "".
func LabelOf(h *api.Host, label string) string {
	if label == api.HostLabel {
		return string(h.Metadata.Name)
	}
	return h.Metadata.Labels[label]
}

func holds(r api.Requirement, value string) bool {
	if len(r.In) > 0 && !slices.Contains(r.In, value) {
		return false
	}
	return !slices.Contains(r.NotIn, value)
}

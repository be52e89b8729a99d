package api

import (
	"fmt"
	"slices"
	"strings"
)

// GRPCCheck names a port of the pod and a service of its gRPC health service
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
type GRPCCheck struct {
	Port    uint16 `json:"port" doc:"Of the pod" minimum:"1" maximum:"65535"`
	Service string `json:"service,omitempty" doc:"Name that the health service is asked for; the whole server when left out" maxLength:"256"`
}

// The names that units of a pod itself have, so that no container can be called so.
const (
	netName  = Name("net")
	pidsName = Name("pids")
)

// All gives the pod's containers in the order in which they start, the init containers first. They are not to be changed: most
// pods have no init containers, and are then not copied.
func (t *PodTemplate) All() []Container {
	if len(t.InitContainers) == 0 {
		return slices.Clip(t.Containers)
	}
	return slices.Concat(t.InitContainers, t.Containers)
}

// Needs gives what a pod needs at most at any time: its containers together, or its largest init
// container alone. A need is 0 when a container that runs then does not say.
func (t *PodTemplate) Needs() Resources {
	sum := needs(t.Containers)
	for _, c := range t.InitContainers {
		sum = Resources{CPU: atLeast(sum.CPU, c.Resources.CPU), Memory: atLeast(sum.Memory, c.Resources.Memory)}
	}
	return sum
}

// needs adds up what containers need; one that does not say makes the sum unknown.
func needs(containers []Container) Resources {
	var sum Resources
	cpu, memory := true, true
	for _, c := range containers {
		cpu, memory = cpu && c.Resources.CPU > 0, memory && c.Resources.Memory > 0
		sum.CPU += c.Resources.CPU
		sum.Memory += c.Resources.Memory
	}
	if !cpu {
		sum.CPU = 0
	}
	if !memory {
		sum.Memory = 0
	}
	return sum
}

// atLeast gives the larger of two needs, of which 0 is an unknown one.
func atLeast[T CPU | Bytes](a, b T) T {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}

func (c *Check) defaults() {
	if c == nil {
		return
	}
	if c.Interval == 0 {
		c.Interval = DefaultCheckPeriod
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultCheckPeriod
	}
	if c.HTTP != nil && c.HTTP.Path == "" {
		c.HTTP.Path = "/"
	}
}

// order checks the names of a pod's containers and which waits for which.
func (f *faults) order(at string, t *PodTemplate) {
	seen := map[Name]string{}
	f.names(at+".initContainers", t, t.InitContainers, seen)
	f.names(at+".containers", t, t.Containers, seen)
	for i, c := range t.InitContainers {
		if c.Native != nil {
			f.addf(fmt.Sprintf("%s.initContainers[%d].native", at, i), "an init container needs an image; a native one would have to say when it has ended")
		}
		if len(c.After) > 0 || c.Startup != nil || c.Ready != nil || c.Live != nil {
			f.addf(fmt.Sprintf("%s.initContainers[%d]", at, i), "init containers run to their end, in their order; leave out after, startup, ready and live")
		}
	}
	for i, c := range t.Containers {
		if c.HostPID && t.ShareProcesses {
			f.addf(fmt.Sprintf("%s.containers[%d].hostPid", at, i), "sees the host's processes, and shareProcesses says the pod's; leave one of them out")
		}
		for j, name := range c.After {
			if !slices.ContainsFunc(t.Containers, func(o Container) bool { return o.Name == name }) {
				f.addf(fmt.Sprintf("%s.containers[%d].after[%d]", at, i, j), "the pod has no container %q; name one of its containers (init containers are waited for anyway)", name)
			}
		}
	}
	if ring := waitRing(t.Containers); ring != nil {
		f.addf(at+".containers", "wait for each other for ever: %s", strings.Join(ring, " after "))
	}
}

// names checks that names are valid, and each is there once among all containers of the pod.
func (f *faults) names(at string, t *PodTemplate, list []Container, seen map[Name]string) {
	for i, c := range list {
		here := fmt.Sprintf("%s[%d]", at, i)
		switch first, again := seen[c.Name]; {
		case c.Name == netName:
			f.addf(here, "the name %q is taken by the pod's network; choose another", c.Name)
		case c.Name == pidsName && t.ShareProcesses:
			f.addf(here, "the name %q is taken by what shares the pod's processes; choose another", c.Name)
		case c.Name.Validate() != nil:
			f.add(here+".name", c.Name.Validate())
		case again:
			f.addf(here, "%q stands in %s already", c.Name, first)
		default:
			seen[c.Name] = here
		}
	}
}

// waitRing gives the names of containers that wait for each other, or nil: what is left when all
// that can start have started.
func waitRing(containers []Container) []string {
	started := map[Name]bool{}
	for range containers {
		for _, c := range containers {
			if !slices.ContainsFunc(c.After, func(n Name) bool { return !started[n] }) {
				started[c.Name] = true
			}
		}
	}
	var ring []string
	known := func(n Name) bool {
		return slices.ContainsFunc(containers, func(c Container) bool { return c.Name == n })
	}
	for _, c := range containers {
		if !started[c.Name] && !slices.ContainsFunc(c.After, func(n Name) bool { return !known(n) }) {
			ring = append(ring, string(c.Name))
		}
	}
	return ring
}

package api

import (
	"fmt"
	"slices"
	"strings"
)

// Policy names what containers may have of their host. Each policy allows what the one before it
// allows, and more.
//
//	restricted  nothing that reaches beyond the container: the default
//	baseline    what docker run gives unasked (its capabilities, its limits), and more of the host's time
//	privileged  everything: such a container can become root of its host
type Policy string

// The policies, from the strictest.
const (
	PolicyRestricted Policy = "restricted"
	PolicyBaseline   Policy = "baseline"
	PolicyPrivileged Policy = "privileged"
)

// Policies lists the policies from the strictest to the one that allows everything.
func Policies() []Policy { return []Policy{PolicyRestricted, PolicyBaseline, PolicyPrivileged} }

// OrDefault gives restricted for a policy that is not said.
func (p Policy) OrDefault() Policy {
	if p == "" {
		return PolicyRestricted
	}
	return p
}

// rank orders policies; one that is not known allows nothing.
func (p Policy) rank() int { return slices.Index(Policies(), p.OrDefault()) }

// Covers tells whether p allows all that q allows.
func (p Policy) Covers(q Policy) bool { return q.rank() >= 0 && p.rank() >= q.rank() }

// Validate checks that the policy is known; empty is restricted.
func (p Policy) Validate() error {
	if p.rank() < 0 {
		return fmt.Errorf("%.40q is no policy; write restricted, baseline or privileged", p)
	}
	return nil
}

// Need is something of a template that not every policy allows.
type Need struct {
	Field  string // path below the template, such as "containers[0].privileged"
	Policy Policy // the strictest policy that allows it
	What   string // what it is, for people
}

// PolicyNeeds gives what a template needs more than restricted for, in the order of its containers.
func (t *PodTemplate) PolicyNeeds() []Need {
	var out []Need
	for _, r := range podRules() {
		out = append(out, r.needs("", t)...)
	}
	out = append(out, containerNeeds("initContainers", t.InitContainers)...)
	return append(out, containerNeeds("containers", t.Containers)...)
}

// NeededPolicy gives the strictest policy that allows all of a template.
func (t *PodTemplate) NeededPolicy() Policy {
	need := PolicyRestricted
	for _, n := range t.PolicyNeeds() {
		if !need.Covers(n.Policy) {
			need = n.Policy
		}
	}
	return need
}

func containerNeeds(list string, containers []Container) []Need {
	var out []Need
	for i := range containers {
		for _, r := range containerRules() {
			out = append(out, r.needs(fmt.Sprintf("%s[%d].", list, i), &containers[i])...)
		}
	}
	return out
}

// Refuses gives a fault for each thing in a template that the policy does not allow, with the
// policy that would. at is the template's path, such as "spec".
func (p Policy) Refuses(at string, t *PodTemplate) []Fault {
	var f faults
	for _, n := range t.PolicyNeeds() {
		if !p.Covers(n.Policy) {
			f.addf(at+"."+n.Field, "%s is not allowed by policy %q, which holds here; policy %q allows it", n.What, p.OrDefault(), n.Policy)
		}
	}
	return f
}

// rule says which policy a field needs. broken names what the field has that needs it, nothing
// when it needs none.
type rule[T any] struct {
	field  string
	policy Policy
	broken func(T) []string
}

func (r rule[T]) needs(at string, v T) []Need {
	var out []Need
	for _, what := range r.broken(v) {
		out = append(out, Need{Field: at + r.field, Policy: r.policy, What: what})
	}
	return out
}

func podRules() []rule[*PodTemplate] {
	return []rule[*PodTemplate]{
		{"cpuWeight", PolicyBaseline, func(t *PodTemplate) []string { return above(t.CPUWeight, DefaultWeight) }},
		{"ioWeight", PolicyBaseline, func(t *PodTemplate) []string { return above(t.IOWeight, DefaultWeight) }},
	}
}

// containerRules is the whole of the policies: what is not here, every policy allows.
func containerRules() []rule[*Container] {
	return []rule[*Container]{
		{"capAdd", PolicyBaseline, func(c *Container) []string { return c.capabilities(usual) }},
		{"capAdd", PolicyPrivileged, func(c *Container) []string { return c.capabilities(unusual) }},
		{"allowPrivilegeEscalation", PolicyBaseline, func(c *Container) []string { return said(c.Escalation, "privilege escalation") }},
		{"native", PolicyPrivileged, func(c *Container) []string { return said(c.Native != nil, "a program of the host") }},
		{"privileged", PolicyPrivileged, func(c *Container) []string { return said(c.Privileged, "a privileged container") }},
		{"seccomp", PolicyPrivileged, func(c *Container) []string { return profile(c.Seccomp) }},
		{"apparmor", PolicyPrivileged, func(c *Container) []string { return profile(c.AppArmor) }},
		{"devices", PolicyPrivileged, func(c *Container) []string {
			return each("device", c.Devices, func(d Device) string { return d.Device })
		}},
		{"deviceRules", PolicyPrivileged, func(c *Container) []string { return each("device rule", c.DeviceRules, same) }},
		{"gpus", PolicyPrivileged, func(c *Container) []string { return each("GPU", c.GPUs, same) }},
		{"hostPaths", PolicyPrivileged, func(c *Container) []string {
			return each("path of the host", c.HostPaths, func(h HostPath) string { return h.HostPath })
		}},
		{"hostPid", PolicyPrivileged, func(c *Container) []string { return said(c.HostPID, "the host's process view") }},
		{"hostIpc", PolicyPrivileged, func(c *Container) []string { return said(c.HostIPC, "the host's IPC namespace") }},
		{"hostCgroup", PolicyPrivileged, func(c *Container) []string { return said(c.HostCgroup, "the host's cgroup namespace") }},
		{"sysctls", PolicyBaseline, func(c *Container) []string { return c.sysctls(false) }},
		{"sysctls", PolicyPrivileged, func(c *Container) []string { return c.sysctls(true) }},
		{"ulimits", PolicyBaseline, func(c *Container) []string { return each("limit", c.Ulimits, func(u Ulimit) string { return u.Name }) }},
		{"pids", PolicyBaseline, func(c *Container) []string { return above(c.Pids, DefaultPids) }},
		{"cpuset", PolicyBaseline, func(c *Container) []string { return said(c.CPUSet != "", "a choice of processors") }},
		{"memoryset", PolicyBaseline, func(c *Container) []string { return said(c.MemorySet != "", "a choice of NUMA nodes") }},
		{"swap", PolicyBaseline, func(c *Container) []string { return said(c.Swap > 0, "swap") }},
		{"oomScore", PolicyPrivileged, func(c *Container) []string {
			return said(c.OOMScore < 0, "a score that spares the container before others")
		}},
		{"storage", PolicyPrivileged, func(c *Container) []string { return said(len(c.StorageDriver) > 0, "a storage driver's option") }},
	}
}

func same(s string) string { return s }

func said(yes bool, what string) []string {
	if !yes {
		return nil
	}
	return []string{what}
}

func above(n, most int) []string {
	return said(n > most, fmt.Sprintf("%d, which is more than %d,", n, most))
}

func profile(p Profile) []string {
	return said(p != "" && p != ProfileDefault, fmt.Sprintf("profile %q", p))
}

func each[T any](kind string, list []T, name func(T) string) []string {
	var out []string
	for _, v := range list {
		out = append(out, fmt.Sprintf("%s %q", kind, name(v)))
	}
	return out
}

// How far a capability reaches.
func usual(c Capability) bool {
	return c != "NET_BIND_SERVICE" && (c == CapDefault || slices.Contains(DefaultCapabilities(), c))
}

func unusual(c Capability) bool { return c != "NET_BIND_SERVICE" && !usual(c) }

func (c *Container) capabilities(which func(Capability) bool) []string {
	return each("capability", slices.DeleteFunc(slices.Clone(c.CapAdd), func(k Capability) bool { return !which(k) }),
		func(k Capability) string { return string(k) })
}

// sysctls gives the kernel settings that are far-reaching, or those that are not: forwarding, routing of
// loopback addresses and netfilter belong to the pod's links.
func (c *Container) sysctls(far bool) []string {
	var out []string
	for _, k := range sortedKeys(c.Sysctls) {
		reaches := strings.HasPrefix(k, "net.ipv4.conf.") || strings.HasPrefix(k, "net.ipv6.conf.") ||
			strings.HasPrefix(k, "net.netfilter.") || strings.HasSuffix(k, "forward") || strings.HasSuffix(k, "forwarding")
		if reaches == far {
			out = append(out, fmt.Sprintf("kernel setting %q", k))
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

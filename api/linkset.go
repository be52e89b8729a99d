package api

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
)

// LinkTarget is one link of a pod as the kernel shall carry it: connections to a loopback
// address and port go to one of the backends. Without backends they are refused at once.
type LinkTarget struct {
	Service   Name             `json:"service"`
	Name      Name             `json:"name,omitempty" doc:"That resolves to Local in the pod, when it is another one than the service's"`
	Project   Name             `json:"project,omitempty" doc:"Of the service, when it is another one than the pod's"`
	PortName  Name             `json:"portName,omitempty" doc:"The service's port, once it is known"`
	Local     netip.Addr       `json:"local" doc:"Loopback address of this link alone, such as 127.1.0.1"`
	Port      uint16           `json:"port" doc:"On Local, and on 127.0.0.1 when Localhost"`
	Protocol  Protocol         `json:"protocol"`
	Localhost bool             `json:"localhost" doc:"127.0.0.1:Port is this link's too; the first link with a port has it"`
	Retarget  Retarget         `json:"retarget"`
	MaxDrain  Duration         `json:"maxDrain,omitempty"`
	Mode      LinkMode         `json:"mode,omitempty"`
	Nearest   bool             `json:"nearest,omitempty" doc:"The backends are the nearest ones only"`
	WaitFor   LinkWait         `json:"waitFor,omitempty"`
	Via       netip.AddrPort   `json:"via,omitzero" doc:"Of a balanced link: where its pod's host takes the connections to the backends"`
	Backends  []netip.AddrPort `json:"backends,omitempty" doc:"Sorted; host addresses and host ports"`
	IPv6      bool             `json:"ipv6,omitempty" doc:"Its pod's host has IPv6: [::1]:Port leads to the backends that have it too, when Localhost"`
	Backends6 []netip.AddrPort `json:"backends6,omitempty" doc:"The same backends over IPv6, in the same order; the zero one for those that do not listen there"`
	Weights   []int            `json:"weights,omitempty" doc:"Of each backend; none when all are the same"`
	Reason    Reason           `json:"reason,omitempty" doc:"Why there is no backend"`
}

// BalancedLink is one target of balanced links on a host: all its pods' links that have the same target and policies share it.
type BalancedLink struct {
	Project  Name             `json:"project"`
	Service  Name             `json:"service"`
	PortName Name             `json:"portName"`
	Port     uint16           `json:"port" doc:"Where the host's balancer takes its connections"`
	Retarget Retarget         `json:"retarget,omitempty"`
	MaxDrain Duration         `json:"maxDrain,omitempty"`
	Backends []netip.AddrPort `json:"backends,omitempty"`
}

// Waits gives the first of a pod's links that its containers wait for and that has no backend.
func Waits(links []LinkTarget) (LinkTarget, bool) {
	i := slices.IndexFunc(links, func(l LinkTarget) bool { return l.WaitFor != "" && len(l.Backends) == 0 })
	if i < 0 {
		return LinkTarget{}, false
	}
	return links[i], true
}

// Called gives the name that the pod has for the link.
func (t LinkTarget) Called() Name { return cmp.Or(t.Name, t.Service) }

// Lacks says for people that the link has no backend.
func (t LinkTarget) Lacks() string {
	name := string(t.Service)
	if t.Project != "" {
		name = string(t.Project) + "/" + name
	}
	if t.Reason == ReasonNotOffered {
		return fmt.Sprintf("link %s:%d: the service does not exist or is not offered to this project", name, t.Port)
	}
	return fmt.Sprintf("link %s:%d has no ready backend", name, t.Port)
}

// Resolver resolves links on one host. Making one costs as much as the cluster is large; a link then costs as much
// as it has backends.
type Resolver struct {
	host, zone Name
	ipv6       bool          // the host has it
	zones      map[Name]Name // of hosts
	services   map[serviceID]ServiceEntry
	auto       map[Name][]ServiceEntry // services of projects that link all of theirs, sorted
	backends   map[portID][]backend
}

type serviceID struct{ project, service Name }

type portID struct {
	serviceID
	port Name
}

// backend is a ready endpoint, as links choose among them.
type backend struct {
	host   Name
	at     netip.AddrPort
	six    netip.AddrPort // zero when nobody listens there
	pod    Name
	weight int
}

// Resolver gives the resolver of a host; the empty name is for a host that is none of the cluster's.
func (d Directory) Resolver(host Name) *Resolver {
	r := &Resolver{host: host, zones: map[Name]Name{}, services: map[serviceID]ServiceEntry{}, auto: map[Name][]ServiceEntry{}, backends: map[portID][]backend{}}
	for _, h := range d.Hosts {
		r.zones[h.Name] = h.Zone
	}
	r.zone = r.zones[host]
	for _, s := range d.Services {
		r.services[serviceID{s.Project, s.Name}] = s
		if s.Linked {
			r.auto[s.Project] = append(r.auto[s.Project], s)
		}
	}
	six := d.IPv6()
	_, r.ipv6 = six[host]
	for _, h := range d.Endpoints {
		for _, e := range h.Endpoints {
			if e.Ready && e.Address.Addr().Is4() { // rules of links are for IPv4; one host that says otherwise must not break the others' links
				id := portID{serviceID{e.Project, e.Service}, e.Port}
				r.backends[id] = append(r.backends[id], backend{h.Host, e.Address, e.over6(six[h.Host]), e.Pod, min(max(cmp.Or(e.Weight, DefaultWeight), 1), MaxWeight)})
			}
		}
	}
	return r
}

// over6 gives where an endpoint is over IPv6, by its host's address.
func (e Endpoint) over6(host netip.Addr) netip.AddrPort {
	if !e.IPv6 || !host.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(host, e.Address.Port())
}

// Targets resolves the links of a pod: those of its template in the order they stand there, then those that its project gives
// every pod. Links of one name share a loopback address, and so do links without names to one service.
func (r *Resolver) Targets(project, pod Name, links []Link) []LinkTarget {
	type local struct {
		port     uint16
		protocol Protocol
	}
	owned, addrs, said := map[local]bool{}, map[serviceID]netip.Addr{}, map[serviceID]bool{}
	var out []LinkTarget
	for _, l := range links {
		id := serviceID{l.In(project), l.Service}
		said[id] = true
		if l.Name != "" {
			id = serviceID{service: l.Name}
		}
		if _, ok := addrs[id]; !ok {
			addrs[id] = linkAddr(len(addrs) + 1)
		}
		at := local{l.LocalPort, l.Protocol}
		t := r.target(project, pod, l)
		t.Local, t.Localhost = addrs[id], !owned[at]
		owned[at] = true
		out = append(out, t)
	}
	return append(out, r.given(project, pod, said)...)
}

// Gives tells whether the project's pods have links that their templates do not name.
func (r *Resolver) Gives(project Name) bool { return len(r.auto[project]) > 0 }

// given gives the links to all services of the project that no link of the template is about: each port of a service
// at its own number, on a loopback address alone.
func (r *Resolver) given(project, pod Name, said map[serviceID]bool) []LinkTarget {
	var out []LinkTarget
	taken := map[netip.Addr]bool{}
	for _, s := range r.auto[project] {
		at := givenAddr(s.Name)
		for taken[at] {
			at = at.Next()
		}
		taken[at] = true // also when it is not used: the addresses of the others must not depend on the pod
		if said[serviceID{project, s.Name}] {
			continue
		}
		for _, p := range s.Ports {
			t := r.target(project, pod, Link{Service: s.Name, Port: p.Name, LocalPort: p.Port, Protocol: p.Protocol, Retarget: Drain})
			t.Local = at
			out = append(out, t)
		}
	}
	return out
}

// target resolves one link, but for its place in the pod.
func (r *Resolver) target(project, pod Name, l Link) LinkTarget {
	id := serviceID{l.In(project), l.Service}
	t := LinkTarget{Service: l.Service, PortName: l.Port, Port: l.LocalPort, Protocol: l.Protocol, Retarget: l.Retarget, MaxDrain: l.MaxDrain, Mode: l.Mode, Nearest: l.Nearest, WaitFor: l.WaitFor, IPv6: r.ipv6}
	if id.project != project {
		t.Project = id.project
	}
	if l.Name != l.Service {
		t.Name = l.Name
	}
	s, ok := r.services[id]
	if ok && id.project != project && !slices.Contains(s.Offers, project) || !ok && id.project != project {
		t.Reason = ReasonNotOffered // a service that does not exist looks the same
		return t
	}
	if p, ok := s.PortNamed(l.Port); ok {
		t.PortName = p.Name
	}
	chosen := r.choose(r.backends[portID{id, t.PortName}], project, pod, l)
	for _, b := range chosen {
		t.Backends = append(t.Backends, b.at)
		if r.ipv6 {
			t.Backends6 = append(t.Backends6, b.six)
		}
	}
	if l.Balance == BalanceWeighted {
		t.Weights = weights(chosen)
	}
	if len(chosen) == 0 {
		t.Reason = ReasonNoBackend
	}
	return t
}

// choose gives the backends that a link may use, sorted by address.
func (r *Resolver) choose(all []backend, project, pod Name, l Link) []backend {
	if l.Nearest {
		all = r.near(all)
	}
	if l.Balance == BalanceSticky && len(all) > 0 {
		all = []backend{slices.MaxFunc(all, func(a, b backend) int {
			return cmp.Or(cmp.Compare(affinity(project, pod, a.pod), affinity(project, pod, b.pod)), cmp.Compare(a.pod, b.pod))
		})}
	}
	return slices.SortedFunc(slices.Values(all), func(a, b backend) int { return a.at.Compare(b.at) })
}

// near gives the backends on the pod's own host; else those in its zone; else all.
func (r *Resolver) near(all []backend) []backend {
	if here := keep(all, func(b backend) bool { return b.host == r.host }); len(here) > 0 {
		return here
	}
	if zone := keep(all, func(b backend) bool { return r.zone != "" && r.zones[b.host] == r.zone }); len(zone) > 0 {
		return zone
	}
	return all
}

func keep(all []backend, want func(backend) bool) []backend {
	return slices.DeleteFunc(slices.Clone(all), func(b backend) bool { return !want(b) })
}

// affinity is how well two pods go together: each of many pods has a favourite of its own, and only the pods whose favourite
// goes away choose anew (rendezvous hashing, Thaler and Ravishankar 1998).
func affinity(project, pod, backend Name) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(string(project) + "/" + string(pod) + "/" + string(backend))) // a hash takes everything
	return mix(h.Sum64())
}

// mix spreads a change in a few bits over all of them (the last step of MurmurHash3): names of pods differ in their last letters
// only, and FNV alone would give nearly all pods one favourite.
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func weights(of []backend) []int {
	out := make([]int, len(of))
	for i, b := range of {
		out[i] = b.weight
	}
	return out
}

// linkAddr gives the loopback address of a pod's nth linked service, n from 1: 127.1.n>>8.n&255.
func linkAddr(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, 1, byte(n >> 8), byte(n)}) }

// givenAddr gives the loopback address of a service of the pod's own project, of 127.64.0.0/10: by its name, so that
// it stays while other services come and go.
func givenAddr(service Name) netip.Addr {
	h := fnv.New32a()
	_, _ = h.Write([]byte(service)) // a hash takes everything
	n := h.Sum32()
	return netip.AddrFrom4([4]byte{127, 64 | byte(n>>16)&63, byte(n >> 8), byte(n)&0x7f + 1})
}

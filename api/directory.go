package api

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Directory is what every host knows of the cluster: names, and where they are reached. It holds
// no spec, environment or secret. Links, DNS and routers are made from it.
type Directory struct {
	Services  []ServiceEntry  `json:"services,omitempty"`
	Hosts     []HostEntry     `json:"hosts,omitempty"`
	Aliases   []AliasEntry    `json:"aliases,omitempty"`
	Endpoints []HostEndpoints `json:"endpoints,omitempty"`
	Masters   []MasterEntry   `json:"masters,omitempty"`
	Revoked   []RevokedEntry  `json:"revoked,omitempty"`
}

// RevokedEntry withdraws certificates of a host that was removed. It is kept until they have all run out. A later host of the same
// name has a certificate that was issued later.
type RevokedEntry struct {
	Host   Name      `json:"host"`
	Issued time.Time `json:"issued" doc:"Certificates of the name that were issued until then are refused"`
}

// Refuses tells whether a host's certificate has been withdrawn, by when it was issued.
func (d Directory) Refuses(host Name, issued time.Time) bool {
	return slices.ContainsFunc(d.Revoked, func(e RevokedEntry) bool { return e.Host == host && !issued.After(e.Issued) })
}

// ServiceEntry is a service as others see it.
type ServiceEntry struct {
	Project Name   `json:"project"`
	Name    Name   `json:"name"`
	Ports   []Port `json:"ports,omitempty"`
	Offers  []Name `json:"offers,omitempty" doc:"Projects that may link to it"`
	Linked  bool   `json:"linked,omitempty" doc:"All pods of its project are linked to it"`
}

// HostEntry is a host as others see it.
type HostEntry struct {
	Name    Name       `json:"name"`
	Address netip.Addr `json:"address"`
	HostIPv6
	Router bool `json:"router,omitempty"`
	Zone   Name `json:"zone,omitempty" doc:"Its label zone"`
}

// AliasEntry is an alias in force.
type AliasEntry struct {
	Host    Hostname `json:"host"`
	Project Name     `json:"project"`
	Service Name     `json:"service"`
	Port    Name     `json:"port" doc:"Never empty: the master fills in the service's first port"`
}

// HostEndpoints are the endpoints of all pods of one host. The host itself is the authority on
// them: of two values the one with the higher Seq is true, whoever passed it on.
type HostEndpoints struct {
	Host      Name       `json:"host"`
	Seq       int64      `json:"seq" doc:"Grows with each change, also over restarts of the host"`
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	Detached  bool       `json:"detached,omitempty" doc:"The host's last word before its agent was taken off (gear host eject): its pods serve on, though the mesh does not hear of it"`
}

// Endpoint is where one port of one pod is reached: an address and a port of its host.
type Endpoint struct {
	Project  Name           `json:"project"`
	Service  Name           `json:"service"`
	Pod      Name           `json:"pod"`
	Port     Name           `json:"port"`
	Protocol Protocol       `json:"protocol"`
	Address  netip.AddrPort `json:"address"`
	Ready    bool           `json:"ready"`
	Public   bool           `json:"public,omitempty" doc:"Everybody may connect to it"`
	IPv6     bool           `json:"ipv6,omitempty" doc:"It is at its host's IPv6 address too"`
	Weight   int            `json:"weight,omitempty" doc:"Of the pod; 100 when left out"`
}

// Alive gives the directory without the endpoints of the hosts that are down: what links, DNS
// and routers should use. Hosts themselves stay known.
func (d Directory) Alive(down func(host Name) bool) Directory {
	d.Endpoints = slices.DeleteFunc(slices.Clone(d.Endpoints), func(h HostEndpoints) bool { return !h.Detached && down(h.Host) })
	return d
}

// IPv6 gives the hosts' IPv6 addresses, of those that have one.
func (d Directory) IPv6() map[Name]netip.Addr {
	out := map[Name]netip.Addr{}
	for _, h := range d.Hosts {
		if h.IPv6.IsValid() {
			out[h.Name] = h.IPv6
		}
	}
	return out
}

// Detached tells whether a host has said that it goes on without an agent: its silence means nothing.
func (d Directory) Detached(host Name) bool {
	return slices.ContainsFunc(d.Endpoints, func(h HostEndpoints) bool { return h.Detached && h.Host == host })
}

// Merge takes a host's own word of its endpoints and tells whether it was news. The result
// shares no slice with d.
func (d Directory) Merge(h HostEndpoints) (Directory, bool) {
	i := slices.IndexFunc(d.Endpoints, func(e HostEndpoints) bool { return e.Host == h.Host })
	if i >= 0 && d.Endpoints[i].Seq >= h.Seq {
		return d, false
	}
	d.Endpoints = slices.Clone(d.Endpoints)
	if i >= 0 {
		d.Endpoints[i] = h
	} else {
		d.Endpoints = append(d.Endpoints, h)
	}
	return d, true
}

// Service finds a service.
func (d Directory) Service(project, name Name) (ServiceEntry, bool) {
	for _, s := range d.Services {
		if s.Project == project && s.Name == name {
			return s, true
		}
	}
	return ServiceEntry{}, false
}

// PortNamed finds a port of the service; the empty name means the first port.
func (s ServiceEntry) PortNamed(name Name) (Port, bool) {
	for _, p := range s.Ports {
		if name == "" || p.Name == name {
			return p, true
		}
	}
	return Port{}, false
}

// Backends gives the ready endpoints of a service's port, sorted by address. The empty port
// means the service's first.
func (d Directory) Backends(project, service, port Name) []Endpoint {
	if port == "" {
		s, _ := d.Service(project, service)
		p, ok := s.PortNamed("")
		if !ok {
			return nil
		}
		port = p.Name
	}
	var out []Endpoint
	for _, h := range d.Endpoints {
		for _, e := range h.Endpoints {
			if e.Ready && e.Project == project && e.Service == service && e.Port == port {
				out = append(out, e)
			}
		}
	}
	slices.SortFunc(out, func(a, b Endpoint) int {
		return cmp.Or(a.Address.Addr().Compare(b.Address.Addr()), cmp.Compare(a.Address.Port(), b.Address.Port()))
	})
	return out
}

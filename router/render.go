package router

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"gearmesh.dev/api"
)

// Render makes the configuration for a directory. It never fails: what does not validate, or
// clashes, is left out and listed in Skipped. The settings must be valid.
//
// A host name of the form SERVICE-PROJECT.DOMAIN belongs to that service alone: an alias cannot take it. Where two
// services would have the same one ("a-b" of "c", "a" of "b-c"), neither gets it.
func Render(d api.Directory, s Settings) Config {
	s = s.Default()
	r := renderer{settings: s, hosts: map[api.Hostname]string{}}
	r.index(d)
	reserved := r.defaultNames()
	r.aliases(d.Aliases, reserved)
	c := Config{MapFile: s.MapFile(), Backends: slices.Concat(r.backends(), spareBackends(s.Spares, s.MinSlots)), Hosts: r.sortedHosts(), Skipped: slices.Compact(slices.Sorted(slices.Values(r.skipped)))}
	c.Head, c.HeadID = head(s)
	return c
}

// renderer gathers a Config.
type renderer struct {
	settings  Settings
	services  []api.ServiceEntry          // valid ones, sorted
	byName    map[[2]api.Name]int         // project and service -> index in services
	endpoints map[string][]netip.AddrPort // backend id -> ready endpoints
	hosts     map[api.Hostname]string     // host name -> backend id
	skipped   []string
}

func (r *renderer) skip(format string, args ...any) {
	r.skipped = append(r.skipped, fmt.Sprintf(format, args...))
}

// index checks services and endpoints and sorts them for look-up.
func (r *renderer) index(d api.Directory) {
	r.byName = map[[2]api.Name]int{}
	for _, s := range slices.SortedStableFunc(slices.Values(d.Services), compareServices) {
		key := [2]api.Name{s.Project, s.Name}
		if _, twice := r.byName[key]; twice || validNames(s.Project, s.Name) != nil {
			r.skip("service %q of project %q: not a valid name, or there twice", s.Name, s.Project)
			continue
		}
		r.byName[key] = len(r.services)
		r.services = append(r.services, s)
	}
	addresses := map[api.Name]netip.Addr{}
	for _, h := range d.Hosts {
		addresses[h.Name] = h.Address.Unmap()
	}
	r.endpoints = map[string][]netip.AddrPort{}
	for _, h := range d.Endpoints {
		for _, e := range h.Endpoints {
			r.endpoint(h.Host, addresses[h.Host], e)
		}
	}
}

// endpoint takes a ready TCP endpoint in. It must be at the address its host is known by: a host
// speaks for its own ports only, and not for those of a metadata service or of another host.
func (r *renderer) endpoint(host api.Name, at netip.Addr, e api.Endpoint) {
	if !e.Ready || e.Protocol == api.UDP {
		return
	}
	a := netip.AddrPortFrom(e.Address.Addr().Unmap(), e.Address.Port())
	switch {
	case validNames(e.Project, e.Service, e.Port) != nil:
		r.skip("endpoint %q of host %q: not valid names: %q %q %q", a, host, e.Project, e.Service, e.Port)
	case !a.IsValid() || a.Port() == 0 || a.Addr().Zone() != "" || a.Addr().IsUnspecified() || a.Addr().IsMulticast():
		r.skip("endpoint %q of host %q: not an address and port", a, host)
	case a.Addr() != at:
		r.skip("endpoint %q of host %q: the host's address is %q", a, host, at)
	default:
		id := backendID(e.Project, e.Service, e.Port)
		r.endpoints[id] = append(r.endpoints[id], a)
	}
}

// defaultNames gives each service its SERVICE-PROJECT.DOMAIN and returns the host names that
// aliases must leave alone.
func (r *renderer) defaultNames() map[api.Hostname]bool {
	reserved := map[api.Hostname]bool{}
	if r.settings.Domain == "" {
		return reserved
	}
	for _, s := range r.services {
		port, ok := firstTCP(s)
		host := api.Hostname(fmt.Sprintf("%s-%s.%s", s.Name, s.Project, r.settings.Domain))
		switch {
		case !ok:
		case host.Validate() != nil:
			r.skip("service %q of project %q: the name %q would be too long", s.Name, s.Project, host)
		case reserved[host]:
			r.skip("host name %q: two services would have it, so neither has", host)
			delete(r.hosts, host)
		default:
			reserved[host] = true
			r.hosts[host] = backendID(s.Project, s.Name, port.Name)
		}
	}
	return reserved
}

// aliases takes the aliases in, in an order of their own, so that the directory's does not matter.
func (r *renderer) aliases(list []api.AliasEntry, reserved map[api.Hostname]bool) {
	for _, a := range slices.SortedFunc(slices.Values(list), compareAliases) {
		id, err := r.target(a)
		switch {
		case err != nil:
			r.skip("alias %q of project %q: %v", a.Host, a.Project, err)
		case reserved[a.Host]:
			r.skip("alias %q of project %q: the name is a service's own", a.Host, a.Project)
		case r.hosts[a.Host] != "":
			r.skip("alias %q of project %q: the name is taken", a.Host, a.Project)
		default:
			r.hosts[a.Host] = id
		}
	}
}

// target gives the backend that an alias stands for.
func (r *renderer) target(a api.AliasEntry) (string, error) {
	if err := a.Host.Validate(); err != nil {
		return "", err
	}
	i, ok := r.byName[[2]api.Name{a.Project, a.Service}]
	if !ok {
		return "", fmt.Errorf("there is no service %q", a.Service)
	}
	port, ok := firstTCP(r.services[i])
	if a.Port != "" {
		port, ok = r.services[i].PortNamed(a.Port)
	}
	if !ok || port.Protocol == api.UDP || port.Name.Validate() != nil {
		return "", fmt.Errorf("service %q has no TCP port %q", a.Service, a.Port)
	}
	return backendID(a.Project, a.Service, port.Name), nil
}

// backends gives the backends that some host name points to.
func (r *renderer) backends() []Backend {
	var out []Backend
	for _, id := range slices.Compact(slices.Sorted(maps.Values(r.hosts))) {
		ends := slices.Clone(r.endpoints[id])
		slices.SortFunc(ends, netip.AddrPort.Compare)
		ends = slices.Compact(ends)
		slots := make([]netip.AddrPort, slotCount(len(ends), r.settings.MinSlots))
		copy(slots, ends)
		out = append(out, Backend{ID: id, Slots: slots})
	}
	return out
}

func (r *renderer) sortedHosts() []Host {
	var out []Host
	for _, name := range slices.Sorted(maps.Keys(r.hosts)) {
		out = append(out, Host{Name: name, Backend: r.hosts[name]})
	}
	return out
}

// slotCount gives the slots of a backend with n endpoints: the next power of two with room for
// twice as many, so that scaling up and rolling updates seldom need a reload.
func slotCount(n, least int) int {
	slots := least
	for slots < 2*n {
		slots *= 2
	}
	return slots
}

// firstTCP gives a service's first TCP port with a valid name.
func firstTCP(s api.ServiceEntry) (api.Port, bool) {
	for _, p := range s.Ports {
		if p.Protocol != api.UDP && p.Name.Validate() == nil {
			return p, true
		}
	}
	return api.Port{}, false
}

func validNames(names ...api.Name) error {
	for _, n := range names {
		if err := n.Validate(); err != nil {
			return err
		}
	}
	return nil
}

package control

import (
	"cmp"
	"slices"

	"gearmesh.dev/api"
)

// Directory gives what every host should know: hosts, services, the aliases in force, and of the
// endpoints those of hosts that exist and of pods that are not being deleted. Lists are sorted.
func (v *View) Directory(endpoints []api.HostEndpoints) api.Directory {
	var d api.Directory
	for i := range v.Hosts {
		h := &v.Hosts[i]
		d.Hosts = append(d.Hosts, api.HostEntry{Name: h.Metadata.Name, Address: h.Spec.Address,
			Router: h.Metadata.Labels[api.RouterLabel] == "true", Zone: zoneOf(h)})
	}
	slices.SortFunc(d.Hosts, func(a, b api.HostEntry) int { return cmp.Compare(a.Name, b.Name) })
	for _, s := range v.sortedServices() {
		e := entryOf(s)
		e.Linked = v.linksServices(s.Metadata.Project)
		d.Services = append(d.Services, e)
	}
	d.Aliases = v.activeAliases()
	d.Endpoints = v.servingEndpoints(endpoints)
	return d
}

func entryOf(s *api.Service) api.ServiceEntry {
	return api.ServiceEntry{Project: s.Metadata.Project, Name: s.Metadata.Name, Ports: s.Spec.Ports, Offers: s.Spec.Offers}
}

// zoneOf gives the zone that a host's label names. A value that is no name could not be told apart from a typing error.
func zoneOf(h *api.Host) api.Name {
	zone := api.Name(h.Metadata.Labels[api.ZoneLabel])
	if zone.Validate() != nil {
		return ""
	}
	return zone
}

// linksServices tells whether a project links all of its services.
func (v *View) linksServices(project api.Name) bool {
	p := v.projects[project]
	return p != nil && p.Spec.LinkServices
}

func (v *View) activeAliases() []api.AliasEntry {
	var out []api.AliasEntry
	for host, a := range v.owners {
		if port, reason, _ := v.aliasPort(a); reason == "" {
			out = append(out, api.AliasEntry{Host: host, Project: a.Metadata.Project, Service: a.Spec.Service, Port: port})
		}
	}
	slices.SortFunc(out, func(a, b api.AliasEntry) int { return cmp.Compare(a.Host, b.Host) })
	return out
}

// servingEndpoints leaves out what should get no new connections.
func (v *View) servingEndpoints(endpoints []api.HostEndpoints) []api.HostEndpoints {
	type pod struct{ project, name api.Name }
	deleting := map[pod]bool{}
	for i := range v.Pods {
		if m := &v.Pods[i].Metadata; m.Deleting {
			deleting[pod{m.Project, m.Name}] = true
		}
	}
	leaves := func(e api.Endpoint) bool { return deleting[pod{e.Project, e.Pod}] }
	var out []api.HostEndpoints
	for _, h := range endpoints {
		if v.hosts[h.Host] == nil {
			continue
		}
		if slices.ContainsFunc(h.Endpoints, leaves) {
			h.Endpoints = slices.DeleteFunc(slices.Clone(h.Endpoints), leaves)
		}
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b api.HostEndpoints) int { return cmp.Compare(a.Host, b.Host) })
	return out
}

package control

import (
	"cmp"
	"reflect"
	"slices"

	"gearmesh.dev/api"
)

// Directory gives what every host should know: hosts, services, the aliases in force, and of the
// endpoints those of hosts that exist and of pods that are not being deleted. Lists are sorted.
func (v *View) Directory(endpoints []api.HostEndpoints) api.Directory {
	var d api.Directory
	for i := range v.Hosts {
		if h := &v.Hosts[i]; !expelled(h) {
			d.Hosts = append(d.Hosts, hostEntryOf(h))
		}
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

// SameEntry tells whether a change of a resource, from old to now, leaves the directory as it is for certain. Either is nil when
// there is none.
func SameEntry(old, now api.Resource) bool {
	switch now := now.(type) {
	case *api.Service:
		old, ok := old.(*api.Service)
		return ok && reflect.DeepEqual(entryOf(old), entryOf(now))
	case *api.Host:
		old, ok := old.(*api.Host)
		return ok && reflect.DeepEqual(hostEntryOf(old), hostEntryOf(now)) && expelled(old) == expelled(now)
	case *api.Project:
		old, ok := old.(*api.Project)
		return ok && old.Spec.LinkServices == now.Spec.LinkServices
	case *api.Secret:
		return true
	}
	return false
}

func hostEntryOf(h *api.Host) api.HostEntry {
	return api.HostEntry{Name: h.Metadata.Name, Address: h.Spec.Address, HostIPv6: h.Status.HostIPv6, Router: h.Metadata.Labels[api.RouterLabel] == "true", Zone: zoneOf(h)}
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
	type held struct {
		pod podName
		on  api.Name
	}
	deleting := map[held]bool{}
	for i := range v.Pods {
		if p := &v.Pods[i]; p.Metadata.Deleting {
			deleting[held{podName{p.Metadata.Project, p.HeldName()}, p.Spec.Host}] = true
		}
	}
	var out []api.HostEndpoints
	for _, h := range endpoints {
		if on := v.hosts[h.Host]; on == nil || expelled(on) {
			continue
		}
		leaves := func(e api.Endpoint) bool { return deleting[held{podName{e.Project, e.Pod}, h.Host}] }
		if slices.ContainsFunc(h.Endpoints, leaves) {
			h.Endpoints = slices.DeleteFunc(slices.Clone(h.Endpoints), leaves)
		}
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b api.HostEndpoints) int { return cmp.Compare(a.Host, b.Host) })
	return out
}

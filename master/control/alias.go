package control

import (
	"cmp"
	"fmt"

	"gearmesh.dev/api"
)

// aliases makes the aliases that services ask for and deletes those that none asks for any more.
func (p *planner) aliases() {
	claimed := p.claims()
	for i := range p.Aliases {
		a := &p.Aliases[i]
		key := a.Key()
		want, claimedNow := claimed[key]
		switch {
		case a.Metadata.Deleting || p.deletingProject(a.Metadata.Project):
			p.act(Delete, a, api.ReasonServiceDeleted, "it is being deleted")
		case claimedNow && a.Metadata.Labels[ServiceLabel] != "" && a.Spec != want.Spec:
			fixed := *a
			fixed.Spec = want.Spec
			p.act(Put, &fixed, api.ReasonReplaced, "it is not as its service says")
		case !claimedNow && a.Metadata.Labels[ServiceLabel] != "":
			p.act(Delete, a, api.ReasonServiceDeleted, fmt.Sprintf("service %s does not ask for %s any more", a.Spec.Service, a.Spec.Host))
		}
		delete(claimed, key)
	}
	for _, s := range p.sortedServices() {
		for _, host := range s.Spec.Aliases {
			if a, ok := claimed[aliasOf(s, host).Key()]; ok {
				a.Metadata.UID, a.Metadata.Created = p.newUID(), p.Now
				p.act(Put, a, api.ReasonScaleUp, fmt.Sprintf("service %s asks for %s", s.Metadata.Name, host))
			}
		}
	}
}

// claims gives the aliases that services ask for.
func (p *planner) claims() map[api.Key]*api.Alias {
	out := map[api.Key]*api.Alias{}
	for i := range p.Services {
		s := &p.Services[i]
		if s.Metadata.Deleting || p.deletingProject(s.Metadata.Project) {
			continue
		}
		for _, host := range s.Spec.Aliases {
			a := aliasOf(s, host)
			out[a.Key()] = a
		}
	}
	return out
}

func (v *View) deletingProject(name api.Name) bool {
	pr := v.projects[name]
	return pr != nil && pr.Metadata.Deleting
}

// aliasOf gives the alias of a service for a host name. Its name is SERVICE-HASH.
func aliasOf(s *api.Service, host api.Hostname) *api.Alias {
	a := &api.Alias{Header: api.Header{Kind: api.KindAlias, Version: api.Version}}
	a.Metadata = api.Metadata{Project: s.Metadata.Project,
		Name:   suffixed(s.Metadata.Name, shortHash([]byte(string(s.Metadata.Name)+"/"+string(host)), 8)),
		Labels: map[string]string{ServiceLabel: string(s.Metadata.Name)}}
	a.Spec = api.AliasSpec{Host: host, Service: s.Metadata.Name}
	return a
}

// owners gives the alias that owns each host name: the one made first.
func owners(aliases []api.Alias) map[api.Hostname]*api.Alias {
	out := make(map[api.Hostname]*api.Alias, len(aliases))
	for i := range aliases {
		a := &aliases[i]
		if o := out[a.Spec.Host]; o == nil || older(a, o) < 0 {
			out[a.Spec.Host] = a
		}
	}
	return out
}

func older(a, b *api.Alias) int {
	return cmp.Or(a.Metadata.Created.Compare(b.Metadata.Created), cmp.Compare(a.Metadata.UID, b.Metadata.UID))
}

// AliasStatus tells whether an alias is in force.
func (v *View) AliasStatus(a *api.Alias) api.AliasStatus {
	if o := v.owners[a.Spec.Host]; o != nil && o.Key() != a.Key() {
		return api.AliasStatus{Reason: api.ReasonHostnameTaken, Message: taken(a, o)}
	}
	if _, reason, message := v.aliasPort(a); reason != "" {
		return api.AliasStatus{Reason: reason, Message: message}
	}
	return api.AliasStatus{Active: true}
}

// taken names the owner only within the alias's own project: others are not its business.
func taken(a, owner *api.Alias) string {
	if a.Metadata.Project == owner.Metadata.Project {
		return fmt.Sprintf("alias %s had %s first; delete one of the two", owner.Metadata.Name, a.Spec.Host)
	}
	return fmt.Sprintf("another project had %s first; choose another host name", a.Spec.Host)
}

// aliasPort finds the port an alias leads to.
func (v *View) aliasPort(a *api.Alias) (api.Name, api.Reason, string) {
	s := v.services[serviceKey{a.Metadata.Project, a.Spec.Service}]
	if s == nil {
		return "", api.ReasonNoService, fmt.Sprintf("there is no service %s; create it, or correct spec.service", a.Spec.Service)
	}
	port, ok := entryOf(s).PortNamed(a.Spec.Port)
	switch {
	case !ok && a.Spec.Port == "":
		return "", api.ReasonNoService, fmt.Sprintf("service %s has no port; add one under spec.ports", a.Spec.Service)
	case !ok:
		return "", api.ReasonNoService, fmt.Sprintf("service %s has no port %s; add it, or correct spec.port", a.Spec.Service, a.Spec.Port)
	}
	return port.Name, "", ""
}

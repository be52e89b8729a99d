package control

import (
	"cmp"
	"fmt"
	"slices"

	"gearmesh.dev/api"
)

// removeProjects carries the deletion of projects down to what they own, and deletes those that
// own nothing any more. Aliases are deleted in aliases.
func (p *planner) removeProjects() {
	owned := map[api.Name]bool{}
	for _, s := range p.sortedServices() {
		owned[s.Metadata.Project] = true
		if pr := p.projects[s.Metadata.Project]; pr != nil && pr.Metadata.Deleting && !s.Metadata.Deleting {
			marked := *s
			marked.Metadata.Deleting = true
			p.act(Put, &marked, api.ReasonServiceDeleted, fmt.Sprintf("project %s is being deleted", s.Metadata.Project))
		}
	}
	for i := range p.Pods {
		owned[p.Pods[i].Metadata.Project] = true
	}
	for i := range p.Aliases {
		owned[p.Aliases[i].Metadata.Project] = true
	}
	p.removeSecrets(owned)
	for i := range p.Projects {
		pr := &p.Projects[i]
		if pr.Metadata.Deleting && !owned[pr.Metadata.Name] {
			p.act(Delete, pr, api.ReasonServiceDeleted, "nothing of it is left")
		}
	}
}

// removeSecrets deletes the secrets of projects that are being deleted, when nothing else is left that
// may need them.
func (p *planner) removeSecrets(owned map[api.Name]bool) {
	var list []*api.Secret
	for i := range p.Secrets {
		s := &p.Secrets[i]
		if pr := p.projects[s.Metadata.Project]; pr != nil && pr.Metadata.Deleting && !owned[s.Metadata.Project] {
			list = append(list, s)
		}
	}
	for i := range p.Secrets {
		owned[p.Secrets[i].Metadata.Project] = true
	}
	slices.SortFunc(list, func(a, b *api.Secret) int { return byName(&a.Metadata, &b.Metadata) })
	for _, s := range list {
		p.act(Delete, s, api.ReasonServiceDeleted, fmt.Sprintf("project %s is being deleted", s.Metadata.Project))
	}
}

// removeServices ends the pods of services that are being deleted, and deletes the services that
// have none any more.
func (p *planner) removeServices() {
	for _, s := range p.sortedServices() {
		if !s.Metadata.Deleting {
			continue
		}
		pods := p.pods[keyOf(s)]
		for _, pod := range pods {
			p.removePod(pod, fmt.Sprintf("service %s is being deleted", s.Metadata.Name))
		}
		if len(pods) == 0 {
			p.act(Delete, s, api.ReasonServiceDeleted, "none of its pods is left")
		}
	}
}

// removeOrphans ends pods whose service does not exist.
func (p *planner) removeOrphans() {
	var list []*api.Pod
	for k, pods := range p.pods {
		if p.services[k] == nil {
			list = append(list, pods...)
		}
	}
	slices.SortFunc(list, func(a, b *api.Pod) int { return byName(&a.Metadata, &b.Metadata) })
	for _, pod := range list {
		p.removePod(pod, fmt.Sprintf("service %s does not exist", pod.Spec.Service))
	}
}

func (p *planner) removePod(pod *api.Pod, why string) {
	switch {
	case p.gone(pod):
		p.deleteGone(pod)
	case !pod.Metadata.Deleting:
		p.end(pod, api.ReasonServiceDeleted, why)
	}
}

// removeHosts deletes the hosts that are being deleted and have no pod any more.
func (p *planner) removeHosts() {
	var list []*api.Host
	for i := range p.Hosts {
		h := &p.Hosts[i]
		if h.Metadata.Deleting && p.onHost[h.Metadata.Name] == 0 {
			list = append(list, h)
		}
	}
	slices.SortFunc(list, func(a, b *api.Host) int { return cmp.Compare(a.Metadata.Name, b.Metadata.Name) })
	for _, h := range list {
		p.act(Delete, h, api.ReasonReplaced, "no pod is left on it")
	}
}

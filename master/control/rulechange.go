package control

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"gearmesh.dev/api"
)

// RuleChanges compares how two forecasts end: the links of pods that run on, the host ports of each host, and
// the host names of the routers. start has the pods that there are now.
func RuleChanges(start []api.Pod, without, with Forecast) []api.RuleChange {
	now, was := map[api.UID]bool{}, map[api.UID]*api.Pod{}
	for i := range start {
		now[start[i].Metadata.UID], was[start[i].Metadata.UID] = true, &start[i]
	}
	before, after := laid(now, without.End.Pods), laid(now, with.End.Pods)
	out := linkChanges(was, before, after, with.End.Pods)
	out = append(out, egressChanges(now, without.End, with.End)...)
	out = append(out, hostPortChanges(before, after)...)
	return append(out, aliasChanges(NewView(without.End).Directory(nil).Aliases, NewView(with.End).Directory(nil).Aliases)...)
}

// rules is what pods mean for rules: where links on a service lead, and the ports of a host.
type rules struct {
	backends map[serviceKey][]string
	ports    map[api.Name][]string
}

// laid gives the rules for pods. Those that are not there yet have no name.
func laid(now map[api.UID]bool, pods []api.Pod) rules {
	r := rules{map[serviceKey][]string{}, map[api.Name][]string{}}
	for i := range pods {
		p := &pods[i]
		if p.Spec.Host == "" || p.Metadata.Deleting {
			continue
		}
		k, name := serviceKey{p.Metadata.Project, p.Spec.Service}, string(p.Metadata.Name)
		if !now[p.Metadata.UID] {
			name = fmt.Sprintf("new pod of %s", p.Spec.Service)
		}
		r.backends[k] = append(r.backends[k], fmt.Sprintf("%s on %s", name, p.Spec.Host))
		for _, port := range p.Spec.Template.Ports {
			r.ports[p.Spec.Host] = append(r.ports[p.Spec.Host], fmt.Sprintf("%s/%s %s", p.Metadata.Project, name, port.Name))
		}
	}
	for _, list := range r.backends {
		slices.Sort(list)
	}
	return r
}

// linkChanges gives the links that lead elsewhere, of pods that run on.
func linkChanges(was map[api.UID]*api.Pod, before, after rules, pods []api.Pod) []api.RuleChange {
	var out []api.RuleChange
	for i := range pods {
		p := &pods[i]
		old := was[p.Metadata.UID]
		if old == nil || p.Spec.Host == "" || p.Metadata.Deleting || len(old.Spec.Template.Links) != len(p.Spec.Template.Links) {
			continue
		}
		seen := map[api.Name]bool{}
		for i, l := range p.Spec.Template.Links {
			from, to := linked(p.Metadata.Project, old.Spec.Template.Links[i]), linked(p.Metadata.Project, l)
			if seen[l.Called()] || from == to && slices.Equal(before.backends[from], after.backends[to]) {
				continue
			}
			seen[l.Called()] = true
			out = append(out, api.RuleChange{Host: p.Spec.Host, Project: p.Metadata.Project, Pod: p.Metadata.Name,
				What: "link " + string(l.Called()), Old: before.backends[from], New: after.backends[to]})
		}
	}
	slices.SortFunc(out, func(a, b api.RuleChange) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.What, b.What))
	})
	return out
}

// linked gives the service that a link of a project's pod leads to.
func linked(project api.Name, l api.Link) serviceKey { return serviceKey{l.In(project), l.Service} }

// egressChanges gives what pods that run on may connect to otherwise.
func egressChanges(now map[api.UID]bool, before, after Snapshot) []api.RuleChange {
	was, is := projectEgress(before), projectEgress(after)
	var out []api.RuleChange
	for i := range after.Pods {
		p := &after.Pods[i]
		if !now[p.Metadata.UID] || p.Spec.Host == "" || p.Metadata.Deleting {
			continue
		}
		gone := describeEgress(api.EgressOf(was[p.Metadata.Project], p.Spec.Template))
		come := describeEgress(api.EgressOf(is[p.Metadata.Project], p.Spec.Template))
		if !slices.Equal(gone, come) {
			out = append(out, api.RuleChange{Host: p.Spec.Host, Project: p.Metadata.Project, Pod: p.Metadata.Name, What: "egress", Old: gone, New: come})
		}
	}
	slices.SortFunc(out, func(a, b api.RuleChange) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.Pod, b.Pod))
	})
	return out
}

func projectEgress(s Snapshot) map[api.Name]*api.Egress {
	out := map[api.Name]*api.Egress{}
	for i := range s.Projects {
		out[s.Projects[i].Metadata.Name] = s.Projects[i].Spec.Egress
	}
	return out
}

// describeEgress says what is allowed, one thing a string.
func describeEgress(e *api.Egress) []string {
	if e == nil {
		return []string{"everything"}
	}
	out := []string{"links"}
	for _, r := range e.Allow {
		out = append(out, r.String())
	}
	return out
}

// hostPortChanges gives the ports that a host would open and close.
func hostPortChanges(before, after rules) []api.RuleChange {
	all := maps.Clone(before.ports)
	maps.Copy(all, after.ports)
	var out []api.RuleChange
	for _, host := range slices.Sorted(maps.Keys(all)) {
		gone, come := beyond(before.ports[host], after.ports[host]), beyond(after.ports[host], before.ports[host])
		if len(gone)+len(come) > 0 {
			out = append(out, api.RuleChange{Host: host, What: "host ports", Old: gone, New: come})
		}
	}
	return out
}

// aliasChanges gives the host names that the routers would send elsewhere.
func aliasChanges(before, after []api.AliasEntry) []api.RuleChange {
	say := func(list []api.AliasEntry) map[string]string {
		out := map[string]string{}
		for _, a := range list {
			out[string(a.Host)] = fmt.Sprintf("%s/%s %s", a.Project, a.Service, a.Port)
		}
		return out
	}
	was, will := say(before), say(after)
	all := maps.Clone(was)
	maps.Copy(all, will)
	var out []api.RuleChange
	for _, host := range slices.Sorted(maps.Keys(all)) {
		if was[host] != will[host] {
			out = append(out, api.RuleChange{What: "alias " + host, Old: some(was[host]), New: some(will[host])})
		}
	}
	return out
}

// beyond gives the elements of a beyond those of b, each as often as there are more, sorted.
func beyond(a, b []string) []string {
	n := map[string]int{}
	for _, s := range b {
		n[s]++
	}
	var out []string
	for _, s := range a {
		if n[s]--; n[s] < 0 {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

func some(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

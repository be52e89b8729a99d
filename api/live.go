package api

import "reflect"

// A change of a service's template replaces its pods, unless all that differs lies outside of their containers: which services the
// links lead to and how, the weight, and what the pods may connect to. That changes under containers which run on.

// LiveChange tells whether containers that were made from one template can run on when it becomes another.
func LiveChange(from, to PodTemplate) bool {
	if !reflect.DeepEqual(places(from.Links), places(to.Links)) {
		return false
	}
	from.Links, from.Weight, from.Egress = to.Links, to.Weight, to.Egress
	return reflect.DeepEqual(from, to)
}

// linkPlace is what containers see of a link.
type linkPlace struct {
	target LinkTarget // only its name and its addresses
	wait   Link       // of a link that is waited for: all of it, since units are made of it
	mode   LinkMode
}

// places gives what a pod's containers see of its links. It depends on all of them: links of one name share an address.
func places(links []Link) []linkPlace {
	targets := (Directory{}).Resolver("").Targets("", "", links)
	out := make([]linkPlace, len(links))
	for i, t := range targets {
		out[i].target = LinkTarget{Service: t.Called(), Local: t.Local, Port: t.Port, Protocol: t.Protocol, Localhost: t.Localhost}
		out[i].mode = links[i].Mode
		if links[i].WaitFor != "" {
			out[i].wait = links[i]
		}
	}
	return out
}

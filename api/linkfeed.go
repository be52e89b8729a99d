package api

import "net/netip"

// LinkFeed is what a pod's containers are told of the pod's links, on its own unix socket.
type LinkFeed struct {
	ID      int64      `json:"id" doc:"Higher after each change, also when the agent or the host starts anew"`
	Project Name       `json:"project" doc:"Of the pod"`
	Pod     Name       `json:"pod"`
	Links   []FeedLink `json:"links" doc:"Those of the pod's template, in the order they stand there, then those that its project gives"`
}

// FeedLink is one link as its pod sees it. Nothing in it is about services that the pod has no link to.
type FeedLink struct {
	Name      Name             `json:"name" doc:"Resolves to the link's own address"`
	Service   Name             `json:"service"`
	Project   Name             `json:"project" doc:"Of the service"`
	Port      Name             `json:"port,omitempty" doc:"Name of the service's port, once it is known"`
	LocalPort uint16           `json:"localPort"`
	Protocol  Protocol         `json:"protocol"`
	Addresses []netip.AddrPort `json:"addresses" doc:"Where the pod connects to: 127.0.0.1 first when the link has the port there, then the link's own loopback address"`
	Mode      LinkMode         `json:"mode"`
	Available bool             `json:"available" doc:"There is a backend; without one, connections are refused at once"`
	Reason    Reason           `json:"reason,omitempty" doc:"Why there is no backend"`
	Backends  []FeedBackend    `json:"backends" doc:"The ready ones that connections go to, sorted by address; they are reached by the link's addresses alone"`
}

// FeedBackend is a ready endpoint that a link leads to.
type FeedBackend struct {
	Address netip.AddrPort `json:"address" doc:"Of its host, and the host's port for it"`
	Weight  int            `json:"weight,omitempty" doc:"Of a link that is balanced by weight"`
}

// NewLinkFeed makes what a pod of a project is told of its links.
func NewLinkFeed(id int64, project, pod Name, links []LinkTarget) LinkFeed {
	f := LinkFeed{ID: id, Project: project, Pod: pod, Links: []FeedLink{}}
	for _, l := range links {
		f.Links = append(f.Links, feedLink(project, l))
	}
	return f
}

func feedLink(project Name, l LinkTarget) FeedLink {
	f := FeedLink{Name: l.Called(), Service: l.Service, Project: Link{Project: l.Project}.In(project), Port: l.PortName, LocalPort: l.Port, Protocol: l.Protocol,
		Mode: LinkDirect, Available: len(l.Backends) > 0, Reason: l.Reason, Backends: []FeedBackend{}}
	if l.Mode != "" {
		f.Mode = l.Mode
	}
	if l.Localhost {
		f.Addresses = append(f.Addresses, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), l.Port))
	}
	f.Addresses = append(f.Addresses, netip.AddrPortFrom(l.Local, l.Port))
	for i, at := range l.Backends {
		b := FeedBackend{Address: at}
		if i < len(l.Weights) {
			b.Weight = l.Weights[i]
		}
		f.Backends = append(f.Backends, b)
	}
	return f
}

package dnsd

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"

	"gearmesh.dev/api"
)

// DefaultDomain is the domain of a cluster that has no other.
const DefaultDomain api.Hostname = "gear.internal"

// The labels beside those of projects. A host's name goes before a service's where a project
// is called "host".
const (
	hostLabel = "host" // HOST.host.DOMAIN
	podLabel  = "pod"  // POD.pod.PROJECT.DOMAIN

	nearestLabel = "nearest." // nearest.SERVICE.PROJECT.DOMAIN
)

// Options say how a zone is made.
type Options struct {
	Domain api.Hostname             // DefaultDomain when empty
	Host   api.Name                 // whose server answers: what is nearest is near to it. None when empty
	Down   func(host api.Name) bool // hosts whose routers and endpoints are left out; none when nil
	PodNet netip.Prefix             // addresses whose reverse names never leave this host; a multiple of 8 bits
	Serial uint32                   // of the SOA; should grow with the directory, such as its revision
}

// Zone is all names of a cluster, ready to be answered from. It never changes, so that any number
// of goroutines may read it; a new directory makes a new Zone.
type Zone struct {
	domain  string // "gear.internal."
	suffix  string // ".gear.internal."
	local   []local
	serial  uint32
	nodes   map[string]*node
	refused []api.AliasEntry
	places  map[netip.Addr]int // distances of hosts from this one, of those that are not far
	any     *answer            // to the type ANY
}

// node is a name that exists. One without any data is an empty non-terminal (RFC 8020).
type node struct {
	project api.Name // of the pods that see it; empty for all. Hosts and strangers see every node
	addrs   []netip.Addr
	targets []target
	text    string   // PTR
	about   []string // TXT
	servers []target // NS
	outside bool     // an alias beyond our domain: A and AAAA are ours, other types are not
	fixed   bool     // a host's or the domain's: nothing else may take the name
	service bool     // of a service or its port

	answers atomic.Pointer[known] // packed, of the types that were asked for
}

// target is an SRV record.
type target struct {
	name string
	port uint16
	addr netip.Addr
}

// NewZone makes the zone of a directory. Names that are no valid names are left out, as is what
// could shadow another's name: Refused tells of aliases.
func NewZone(d api.Directory, o Options) *Zone {
	o.Domain = cmp.Or(o.Domain, DefaultDomain)
	if o.Down == nil {
		o.Down = func(api.Name) bool { return false }
	}
	z := &Zone{domain: string(o.Domain) + ".", suffix: "." + string(o.Domain) + ".", serial: max(o.Serial, 1), nodes: make(map[string]*node, size(d))}
	z.local = []local{{name: z.domain}, {name: "127.in-addr.arpa."}}
	if r := reverseZone(o.PodNet); r != "" {
		z.local = append(z.local, local{name: r})
	}
	z.addHosts(d.Hosts, o)
	z.addServices(d.Services)
	z.addEndpoints(d, o.Down)
	z.addAliases(d, o.Down)
	z.order()
	z.packLocal()
	return z
}

// size guesses how many names there will be: growing a big map costs more than filling it.
func size(d api.Directory) int {
	n := 16 + 2*len(d.Hosts) + 4*len(d.Services) + len(d.Aliases)
	for _, h := range d.Endpoints {
		n += len(h.Endpoints)
	}
	return n
}

// Refused gives the aliases that are not answered, since they lie where another's names are:
// under the domain, an alias may be one label long, or lie under its own project's name.
func (z *Zone) Refused() []api.AliasEntry { return slices.Clone(z.refused) }

// addHosts comes first: their names are fixed.
func (z *Zone) addHosts(hosts []api.HostEntry, o Options) {
	z.at(z.domain, "").fixed = true
	z.at("localhost.", "").fixed = true
	z.nodes["localhost."].addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	z.at(hostLabel+z.suffix, "").fixed = true
	z.places = near(hosts, o.Host)
	for _, h := range hosts {
		if h.Name.Validate() == nil && h.Address.IsValid() {
			z.addHost(h)
		}
	}
	z.addServers(hosts, o)
}

func (z *Zone) addHost(h api.HostEntry) {
	name := string(h.Name) + "." + hostLabel + z.suffix
	n := z.at(name, "")
	if z.nodes[name] == nil {
		return
	}
	n.fixed, n.about = true, []string{"host=" + string(h.Name)}
	if h.Zone != "" {
		n.about = append(n.about, "zone="+string(h.Zone))
	}
	for _, a := range []netip.Addr{h.Address, h.IPv6} {
		if arpa, err := dns.ReverseAddr(a.String()); err == nil {
			z.at(arpa, "").text = name
			n.addrs = append(n.addrs, a)
		}
	}
}

// near gives the distances of the hosts that are not far from one.
func near(hosts []api.HostEntry, from api.Name) map[netip.Addr]int {
	out := map[netip.Addr]int{}
	i := slices.IndexFunc(hosts, func(h api.HostEntry) bool { return h.Name == from })
	if from == "" || i < 0 {
		return out
	}
	for _, h := range hosts {
		if h.Zone != "" && h.Zone == hosts[i].Zone {
			out[h.Address], out[h.IPv6] = sameZone, sameZone
		}
	}
	out[hosts[i].Address], out[hosts[i].IPv6] = here, here
	delete(out, netip.Addr{})
	return out
}

// addServers names the zone's servers: every host is one, and three that are up are enough to find
// it. What is up comes first in the list, so that there are some in any case.
func (z *Zone) addServers(hosts []api.HostEntry, o Options) {
	var up, down []target
	for _, h := range hosts {
		t := target{name: string(h.Name) + "." + hostLabel + z.suffix, addr: h.Address}
		switch n := z.nodes[t.name]; {
		case n == nil || !h.Address.IsValid():
		case o.Down(h.Name):
			down = append(down, t)
		default:
			up = append(up, t)
		}
	}
	up = append(up, down...)
	z.nodes[z.domain].servers = up[:min(len(up), 3)]
}

// Distances of a host.
const (
	here     = 0
	sameZone = 1
	far      = 2
)

// distance tells how far an endpoint is from this server's host.
func (z *Zone) distance(a netip.Addr) int {
	if d, ok := z.places[a]; ok {
		return d
	}
	return far
}

// addServices makes the names exist before there are endpoints: no data is not "no such name".
func (z *Zone) addServices(services []api.ServiceEntry) {
	for _, s := range services {
		if s.Project.Validate() != nil || s.Name.Validate() != nil {
			continue
		}
		n := z.service(s.Project, s.Name)
		var ports []string
		for _, p := range s.Ports {
			if p.Name.Validate() == nil {
				z.port(s.Project, s.Name, p.Name, p.Protocol)
				ports = append(ports, fmt.Sprintf("port=%s:%d/%s", p.Name, p.Port, cmp.Or(p.Protocol, api.TCP)))
			}
		}
		if !n.fixed {
			n.about = append([]string{"project=" + string(s.Project), "service=" + string(s.Name)}, ports...)
		}
	}
}

// addEndpoints adds the names of services and pods. A pod that is ready is not elsewhere too: what another host still says of
// one with its name counts for nothing.
func (z *Zone) addEndpoints(d api.Directory, down func(api.Name) bool) {
	var unready []place
	six := d.IPv6()
	for _, h := range d.Endpoints {
		if !down(h.Host) {
			unready = append(unready, z.addEndpointsOf(h.Endpoints, six[h.Host])...)
		}
	}
	for _, u := range unready {
		if len(u.pod.targets) == 0 {
			u.pod.give(u.addr)
		}
	}
}

// place is where a pod is that is not ready.
type place struct {
	pod  *node
	addr netip.Addr
}

// addEndpointsOf adds the endpoints of a host with that IPv6 address, or none, and gives those that are not ready.
func (z *Zone) addEndpointsOf(endpoints []api.Endpoint, six netip.Addr) (unready []place) {
	for _, e := range endpoints {
		if !valid(e.Project, e.Service, e.Pod, e.Port) || !e.Address.Addr().IsValid() {
			continue
		}
		name := podName(e.Pod, e.Project, z.suffix)
		pod, service := z.at(name, e.Project), z.service(e.Project, e.Service)
		t := target{name: name, port: e.Address.Port(), addr: e.Address.Addr()}
		if !service.fixed {
			pod.about = service.about[:min(2, len(service.about))]
		}
		if !e.Ready {
			unready = append(unready, place{pod, t.addr})
			continue
		}
		for _, n := range []*node{service, z.port(e.Project, e.Service, e.Port, e.Protocol), pod} {
			n.give(t.addr)
			if e.IPv6 && six.IsValid() {
				n.give(six)
			}
			if !n.fixed && z.nodes[name] == pod { // not when its name is too long
				n.targets = append(n.targets, t)
			}
		}
	}
	return unready
}

func valid(names ...api.Name) bool {
	return !slices.ContainsFunc(names, func(n api.Name) bool { return n.Validate() != nil })
}

func (z *Zone) service(project, name api.Name) *node {
	n := z.at(string(name)+"."+string(project)+z.suffix, project)
	n.service = true
	return n
}

func (z *Zone) port(project, service, port api.Name, p api.Protocol) *node {
	n := z.at(portName(port, p)+string(service)+"."+string(project)+z.suffix, project)
	n.service = true
	return n
}

// portName gives "_http._tcp." as of RFC 2782.
func portName(port api.Name, p api.Protocol) string {
	if p != api.UDP {
		p = api.TCP
	}
	return "_" + string(port) + "._" + string(p) + "."
}

func podName(pod, project api.Name, suffix string) string {
	return string(pod) + "." + podLabel + "." + string(project) + suffix
}

// give adds an address to a name that hosts do not have.
func (n *node) give(a netip.Addr) {
	if !n.fixed {
		n.addrs = append(n.addrs, a)
	}
}

// at gives the node of a name and makes it, with the names above it in the domain. One that is too
// long for the DNS (255 octets with its lengths, RFC 1035) is in no zone.
func (z *Zone) at(name string, project api.Name) *node {
	if n, ok := z.nodes[name]; ok {
		return n
	}
	n := &node{project: project}
	if len(name)+1 > maxName {
		return n
	}
	z.nodes[name] = n
	if _, above, ok := strings.Cut(name, "."); ok && strings.HasSuffix(above, z.suffix) {
		z.at(above, project)
	}
	return n
}

// addAliases gives each alias the addresses of the routers. One beyond our domain without any
// living router is left to the world's DNS.
func (z *Zone) addAliases(d api.Directory, down func(api.Name) bool) {
	var routers []netip.Addr
	for _, h := range d.Hosts {
		if h.Router && h.Address.IsValid() && !down(h.Name) {
			routers = append(routers, h.Address)
			if h.IPv6.IsValid() {
				routers = append(routers, h.IPv6)
			}
		}
	}
	for _, a := range d.Aliases {
		name := string(a.Host) + "."
		project, inside, ok := z.place(a)
		if !ok {
			z.refused = append(z.refused, a)
			continue
		}
		if !inside && len(routers) == 0 {
			continue
		}
		n := z.at(name, project)
		n.project, n.addrs, n.outside = project, routers, !inside
		if inside {
			n.about = []string{"project=" + string(a.Project), "alias=" + string(a.Service)}
		}
	}
}

// place tells who sees an alias, whether it lies in our domain, and whether it may be answered.
// A project's own part of the domain holds what its pods trust; no other project gets in. Beyond the
// domain, pods see the aliases of their own project alone: no project redirects another's names.
func (z *Zone) place(a api.AliasEntry) (project api.Name, inside, ok bool) {
	name := string(a.Host) + "."
	old := z.nodes[name]
	switch {
	case a.Host.Validate() != nil, old != nil && (old.fixed || len(old.addrs) > 0 || old.text != ""), strings.HasSuffix(name, "arpa."):
		return "", false, false
	case !strings.HasSuffix(name, z.suffix):
		return a.Project, false, true
	}
	labels := strings.Split(strings.TrimSuffix(name, z.suffix), ".")
	switch top := labels[len(labels)-1]; {
	case len(labels) == 1:
		return "", true, true
	case top == string(a.Project) && top != hostLabel && old == nil:
		return a.Project, true, true
	default:
		return "", true, false
	}
}

// order sorts and removes doubles, so that equal directories make equal zones.
func (z *Zone) order() {
	for _, n := range z.nodes {
		if len(n.addrs) > 1 {
			n.addrs = slices.Clone(n.addrs) // aliases share theirs
			slices.SortFunc(n.addrs, netip.Addr.Compare)
			n.addrs = slices.Compact(n.addrs)
		}
		slices.SortFunc(n.targets, func(a, b target) int {
			return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.port, b.port), a.addr.Compare(b.addr))
		})
		n.targets = slices.Compact(n.targets)
	}
}

// reverseZone gives the name that a network's PTR records are under, such as
// "127.10.in-addr.arpa." for 10.127.0.0/16, or nothing.
func reverseZone(p netip.Prefix) string {
	if !p.IsValid() || !p.Addr().Is4() || p.Bits()%8 != 0 || p.Bits() == 0 {
		return ""
	}
	name, err := dns.ReverseAddr(p.Masked().Addr().String())
	if err != nil {
		return ""
	}
	for range 4 - p.Bits()/8 {
		_, name, _ = strings.Cut(name, ".")
	}
	return name
}

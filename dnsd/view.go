package dnsd

import (
	"bytes"
	"cmp"
	"net/netip"
	"sync"
	"sync/atomic"

	"gearmesh.dev/api"
)

// Source tells what an asker may see. It is called for every query, from many goroutines, and
// must answer from memory.
type Source interface {
	View(asker netip.Addr) View
}

// View is the DNS as one asker sees it.
type View struct {
	Zone    *Zone // nil until there is one: the answer is SERVFAIL
	Pod     *Pod  // the pod that asks; nil for hosts and strangers, who see every name
	Recurse bool  // other names are resolved for it
}

// Pod is a pod that asks: it sees the names of its own project, of hosts, and short ways to the
// services that it has links to. Other projects' names look exactly like missing ones.
type Pod struct {
	Project api.Name
	links   map[string]*node

	// Follows tells of a name, without the final dot, whether Config.Tell hears of its addresses; no name's when nil.
	Follows func(name string) bool
}

// NewPod gives a pod's view of its links: SERVICE.PROJECT.DOMAIN is the link's loopback address,
// also before the service exists, and so is NAME.PROJECT.DOMAIN, of the pod's project, when the link has a name of its own; SRV records have the
// link's port.
func NewPod(domain api.Hostname, project api.Name, links []api.LinkTarget) Pod {
	z := &Zone{suffix: "." + string(domain) + ".", nodes: map[string]*node{}}
	for _, t := range links {
		z.addLink(cmp.Or(t.Project, project), t.Service, t)
	}
	for _, t := range links {
		if t.Name != "" { // after the services' own: in this pod the name means the link
			z.addLink(project, t.Name, t)
		}
	}
	return Pod{Project: project, links: z.nodes}
}

// addLink makes a name of the zone that of a link.
func (z *Zone) addLink(project, name api.Name, t api.LinkTarget) {
	to := target{string(name) + "." + string(project) + z.suffix, t.Port, t.Local}
	n := z.service(project, name)
	n.addrs, n.targets = []netip.Addr{t.Local}, append(n.targets, to)
	if t.PortName != "" {
		p := z.port(project, name, t.PortName, t.Protocol)
		p.addrs, p.targets = n.addrs, append(p.targets, to)
	}
}

// find gives a name as the asker sees it. nearest.SERVICE.PROJECT.DOMAIN, and the names of ports below
// it, are those of the service, with near set.
func (v View) find(name []byte) (n *node, near bool) {
	if n := v.named(name); n != nil {
		return n, false
	}
	at := 0
	for i, b := range name { // the labels of a port come first, as SRV wants them
		if i == at && b != '_' {
			break
		}
		if b == '.' {
			at = i + 1
		}
	}
	service, ok := bytes.CutPrefix(name[at:], []byte(nearestLabel))
	if ok && !bytes.HasPrefix(service, []byte{'_'}) && (at == 0 || bytes.Count(name[:at], []byte{'.'}) == 2) {
		var base [4 * maxName]byte
		n = v.named(append(append(base[:0], name[:at]...), service...))
	}
	if n == nil || !n.service || n.fixed {
		return nil, false
	}
	return n, true
}

// named gives the node of a name.
func (v View) named(name []byte) *node {
	if v.Pod == nil {
		return v.Zone.nodes[string(name)]
	}
	link := v.Pod.links[string(name)]
	if link != nil && len(link.addrs) > 0 {
		return link
	}
	if n, ok := v.Zone.nodes[string(name)]; ok && (n.project == "" || n.project == v.Pod.Project) {
		return n
	}
	return link
}

// Table is a Source that the agent fills: zones and pods are swapped whole.
type Table struct {
	podNet  netip.Prefix
	gateway netip.Addr // the host itself, as pods see it
	nobody  *Pod       // an address in podNet that no pod has

	mu  sync.Mutex // for writers
	now atomic.Pointer[state]
}

// state is never changed.
type state struct {
	zone  *Zone
	pods  map[netip.Addr]*Pod
	hosts map[netip.Addr]bool
}

var _ Source = (*Table)(nil)

// NewTable makes an empty table. Askers in podNet are pods, but for its first address, which is the
// host's own; those on loopback and at the addresses of hosts are hosts; all others are strangers.
func NewTable(podNet netip.Prefix) *Table {
	t := &Table{podNet: podNet.Masked(), gateway: podNet.Masked().Addr().Next(), nobody: &Pod{}}
	t.now.Store(&state{})
	return t
}

// SetZone swaps the zone; hosts are the cluster's, whose resolvers may ask for other names. A zone that
// says what the last one did is not taken, so that its packed answers and its serial stay; one that says
// something else gets a higher serial.
func (t *Table) SetZone(z *Zone, hosts []api.HostEntry) {
	at := make(map[netip.Addr]bool, len(hosts))
	for _, h := range hosts {
		at[h.Address.Unmap()] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.now.Load()
	switch {
	case z.same(old.zone):
		z = old.zone
	case old.zone != nil:
		z = z.after(old.zone.serial)
	}
	t.now.Store(&state{zone: z, hosts: at, pods: old.pods})
}

// SetPods swaps the pods of this host, by their address. A pod must be there before it runs: an
// unknown address in the pod network sees hosts only.
func (t *Table) SetPods(pods map[netip.Addr]Pod) {
	all := make(map[netip.Addr]*Pod, len(pods))
	for a, p := range pods {
		all[a] = &p
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.now.Load()
	t.now.Store(&state{zone: old.zone, hosts: old.hosts, pods: all})
}

// View implements Source.
func (t *Table) View(asker netip.Addr) View {
	s := t.now.Load()
	asker = asker.Unmap()
	switch {
	case asker.IsLoopback(), asker == t.gateway, s.hosts[asker]:
		return View{Zone: s.zone, Recurse: true}
	case t.podNet.Contains(asker):
		if p, ok := s.pods[asker]; ok {
			return View{Zone: s.zone, Pod: p, Recurse: true}
		}
		return View{Zone: s.zone, Pod: t.nobody, Recurse: true}
	default:
		return View{Zone: s.zone}
	}
}

// Static is a Source that gives everyone one view.
type Static View

var _ Source = Static{}

// View implements Source.
func (s Static) View(netip.Addr) View { return View(s) }

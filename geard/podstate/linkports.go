package podstate

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/atomicfile"
)

// LinkPorts are the ports of the gateway's address where the host's balancer takes connections, by LinkKey of what they lead to.
type LinkPorts map[string]uint16

// LinkKey names what a balanced link of a pod of that project leads to. Links with the same key share a port; it is empty for links
// that are not balanced, and while the service's port is not known.
func LinkKey(project api.Name, l api.LinkTarget) string {
	if l.Mode != api.LinkBalanced || l.PortName == "" {
		return ""
	}
	if l.Project != "" {
		project = l.Project
	}
	return fmt.Sprintf("%s/%s/%s nearest=%t retarget=%s maxDrain=%s", project, l.Service, l.PortName, l.Nearest, l.Retarget, l.MaxDrain)
}

// Fill puts the ports into the links of a pod of that project, as far as they have one.
func (p LinkPorts) Fill(project api.Name, links []api.LinkTarget) {
	for i, l := range links {
		if port, ok := p[LinkKey(project, l)]; ok {
			links[i].Via = netip.AddrPortFrom(Gateway(), port)
		}
	}
}

// Balanced gives the ports of the host's balancer that a pod's links lead to.
func Balanced(links []api.LinkTarget) (ports []uint16) {
	for _, l := range links {
		if l.Via.IsValid() {
			ports = append(ports, l.Via.Port())
		}
	}
	return ports
}

func (d Dirs) linkPorts() string { return filepath.Join(d.State, "links", "ports.json") }

// LoadLinkPorts reads the ports that were last given to targets of balanced links.
func (d Dirs) LoadLinkPorts() (LinkPorts, error) {
	return loadSummed[LinkPorts](d.linkPorts())
}

// SaveLinkPorts replaces them.
func (d Dirs) SaveLinkPorts(p LinkPorts) error {
	if err := os.MkdirAll(filepath.Dir(d.linkPorts()), 0o755); err != nil {
		return fmt.Errorf("keeping the ports of balanced links: %w", err)
	}
	return atomicfile.WriteSummed(d.linkPorts(), p, 0o644)
}

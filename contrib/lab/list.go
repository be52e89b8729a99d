package lab

import (
	"context"
	"net/netip"
	"path/filepath"
)

// State is what a host is doing.
type State string

// The states of a host.
const (
	Running     State = "running"
	Partitioned State = "partitioned" // running, and cut off from the network
	Off         State = "off"
)

// Host is one line of List.
type Host struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	State   State      `json:"state"`
	PID     int        `json:"pid,omitempty"` // its systemd on the outer machine; 0 if off
}

// List returns the lab's hosts in order.
func (l *Lab) List(ctx context.Context) ([]Host, error) {
	s, err := l.loadState()
	if err != nil {
		return nil, err
	}
	hosts, err := l.knownHosts(s.Subnet)
	if err != nil {
		return nil, err
	}
	cut := map[string]bool{}
	if exists(filepath.Join(netnsDir, l.switchNS())) {
		if cut, err = l.cutPorts(ctx); err != nil {
			return nil, err
		}
	}
	list := make([]Host, len(hosts))
	for i, h := range hosts {
		list[i] = Host{Name: h.name, Address: h.addr, State: Off}
		if p, ok := h.running(); ok {
			list[i].PID, list[i].State = p.pid, Running
			if cut[h.name] {
				list[i].State = Partitioned
			}
		}
	}
	return list, nil
}

// Addresses tells where the lab's own two addresses are: the registry that
// images are pulled from ("10.99.0.1:5000"), and the outer machine as the
// hosts see it ("10.99.0.2").
func (l *Lab) Addresses() (registry netip.AddrPort, outer netip.Addr, err error) {
	s, err := l.loadState()
	if err != nil {
		return netip.AddrPort{}, netip.Addr{}, err
	}
	return registryAddr(s.Subnet), nth(s.Subnet, outerByte), nil
}

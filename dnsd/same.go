package dnsd

import (
	"maps"
	"slices"
)

// same tells whether two zones say the same, but for their serials.
func (z *Zone) same(o *Zone) bool {
	if o == nil || z.domain != o.domain || len(z.nodes) != len(o.nodes) || !maps.Equal(z.places, o.places) {
		return false
	}
	if !slices.Equal(z.refused, o.refused) || !slices.EqualFunc(z.local, o.local, func(a, b local) bool { return a.name == b.name }) {
		return false
	}
	for name, n := range z.nodes {
		if m, ok := o.nodes[name]; !ok || !n.same(m) {
			return false
		}
	}
	return true
}

func (n *node) same(m *node) bool {
	return n.project == m.project && n.text == m.text && n.outside == m.outside && n.fixed == m.fixed && n.service == m.service &&
		slices.Equal(n.addrs, m.addrs) && slices.Equal(n.targets, m.targets) && slices.Equal(n.about, m.about) && slices.Equal(n.servers, m.servers)
}

// after gives the zone with a serial that is higher than another's, as RFC 1982 counts.
func (z *Zone) after(serial uint32) *Zone {
	if int32(z.serial-serial) > 0 {
		return z
	}
	next := *z
	next.serial = max(serial+1, 1)
	next.local = slices.Clone(z.local)
	next.packLocal()
	return &next
}

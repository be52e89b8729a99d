package router

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"gearmesh.dev/api"
)

// sparePrefix begins the name of a spare: a backend of the configuration that is nobody's until a new one moves in.
const sparePrefix = "spare_"

func spareID(k int) string { return fmt.Sprintf("%s%d", sparePrefix, k) }

func isSpare(id string) bool { return strings.HasPrefix(id, sparePrefix) }

// ownsID tells whether a backend is one of ours by its name.
func ownsID(id string) bool { return strings.HasPrefix(id, "be_") || isSpare(id) }

// compareIDs orders backends: those of services by name, then spares by number.
func compareIDs(a, b string) int {
	if isSpare(a) && isSpare(b) {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	}
	return cmp.Compare(a, b)
}

// marker is the key of the map's line that says who lives in a spare: "SPARE_1. be_shop.web.http". The map is the one
// thing that HAProxy lets us change while it runs, shows when asked, and reads from disk when it starts; so the line
// is there whoever of us restarts. No request finds it: what is looked up has small letters and no dot at its end.
func marker(spare string) string { return strings.ToUpper(spare) + "." }

// readMarkers takes the markers out of the hosts and into the spares. A marker of a spare that does not exist
// stays a host name that nobody wants, and so goes at the next change.
func (c *Config) readMarkers() {
	at := map[string]int{}
	for i, b := range c.Backends {
		if isSpare(b.ID) {
			at[marker(b.ID)] = i
		}
	}
	c.Hosts = slices.DeleteFunc(c.Hosts, func(h Host) bool {
		i, ok := at[string(h.Name)]
		if ok {
			c.Backends[i].For = h.Backend
		}
		return ok
	})
}

// draining tells whether a spare's last servers are gone, but not yet known to be the last requests of whom it served.
func (b Backend) draining() bool { return b.For != "" && len(used(b.Slots)) == 0 }

// spares counts the spares, and how many of them are taken.
func (c Config) spares() (all, taken int) {
	for _, b := range c.Backends {
		if isSpare(b.ID) {
			all++
		}
		if b.For != "" {
			taken++
		}
	}
	return all, taken
}

// house finds a home for each wanted backend: its own section, the spare that it lives in, or a free spare. For
// those that are left, HAProxy must be reloaded.
func (d *differ) house(running, wanted []Backend) {
	lodgers := map[string]int{}
	for i, b := range slices.Backward(running) {
		lodgers[cmp.Or(b.For, b.ID)] = i
	}
	maps.Copy(lodgers, d.index) // its own section is better than a spare
	var homeless []Backend
	for _, w := range wanted {
		if i, ok := lodgers[w.ID]; ok {
			d.homes[w.ID] = i
		} else {
			homeless = append(homeless, w)
		}
	}
	d.release(running)
	free := d.freeSpares()
	for _, w := range homeless {
		if len(free) == 0 || len(used(w.Slots)) > len(d.After.Backends[free[0]].Slots) {
			d.reload(ReasonBackend, w.ID)
			continue
		}
		d.moveIn(w.ID, free[0])
		free = free[1:]
	}
}

// moveIn marks a free spare as taken. Its servers and host names follow, so that a spare which is not marked never has any.
func (d *differ) moveIn(id string, spare int) {
	b := &d.After.Backends[spare]
	b.For = id
	d.homes[id] = spare
	d.Commands = append(d.Commands, fmt.Sprintf("add map %s %s %s", d.After.MapFile, marker(b.ID), id))
}

// freeSpares gives the indexes of the spares that somebody can move into. One with servers, or with a host name,
// is not free, even if nobody has marked it.
func (d *differ) freeSpares() (free []int) {
	for i, b := range d.After.Backends {
		if isSpare(b.ID) && b.For == "" && len(used(b.Slots)) == 0 && !d.pointed[b.ID] {
			free = append(free, i)
		}
	}
	return free
}

// release frees the spares that are no home and have nothing left: no server, no host name, and no request. A request
// that still ran could be sent once more by HAProxy, and would then reach the servers of the next owner.
func (d *differ) release(running []Backend) {
	for i, b := range running {
		if home, ok := d.homes[b.For]; ok && home == i || !b.draining() || !b.Idle || d.pointed[b.ID] {
			continue
		}
		d.After.Backends[i].For = ""
		d.Commands = append(d.Commands, fmt.Sprintf("del map %s %s", d.After.MapFile, marker(b.ID)))
	}
}

// pointedAt gives the backends that some host name leads to.
func pointedAt(hosts []Host) map[string]bool {
	out := map[string]bool{}
	for _, h := range hosts {
		out[h.Backend] = true
	}
	return out
}

// spareBackends are free spares, numbered from 1.
func spareBackends(n, slots int) (out []Backend) {
	for k := range n {
		out = append(out, Backend{ID: spareID(k + 1), Slots: make([]netip.AddrPort, slots)})
	}
	return out
}

// markers gives the map's lines that say who lives in which spare.
func (c Config) markers() (out []Host) {
	for _, b := range c.Backends {
		if b.For != "" {
			out = append(out, Host{Name: api.Hostname(marker(b.ID)), Backend: b.For})
		}
	}
	return out
}

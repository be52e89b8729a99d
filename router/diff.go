package router

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"gearmesh.dev/api"
)

// Reason says why HAProxy must be reloaded, or what a change is for.
type Reason string

// Why HAProxy is reloaded.
const (
	ReasonHead       Reason = "HeadChanged"      // global, defaults or frontend differ
	ReasonBackend    Reason = "NewBackend"       // a backend does not exist yet, and no spare is left for it
	ReasonSlots      Reason = "SlotsOutgrown"    // a backend has more endpoints than slots
	ReasonUnexpected Reason = "UnexpectedAnswer" // a command was not answered as it should be
	ReasonStill      Reason = "FreeingSpares"    // spares are taken, and nothing has changed for long
)

// Change is the way from what runs to what is wanted.
type Change struct {
	Commands []string // for the runtime socket, in this order; they do what can be done without a reload
	Reload   bool     // the rest needs a reload
	Reason   Reason   // of the reload
	What     string   // backend that needs it
	After    Config   // what runs once the commands are done
}

// Empty tells whether nothing is to be done.
func (c Change) Empty() bool { return len(c.Commands) == 0 && !c.Reload }

// Diff compares what HAProxy runs with what is wanted. Endpoints keep the slot they have, and a backend that HAProxy
// does not have moves into a spare. New servers come first, then the host names, then what goes, so that no step leaves
// a service without a server that it had, and none leads a host name to another service's servers. A backend that is
// no longer wanted loses its host names and servers at once; its section stays until the next reload, but a spare is
// free again when the last request has left it. A host name waits for its backend to exist.
func Diff(running, wanted Config) Change {
	d := differ{index: map[string]int{}, homes: map[string]int{}, pointed: pointedAt(running.Hosts)}
	d.After = Config{HeadID: running.HeadID, Head: wanted.Head, MapFile: wanted.MapFile, Hosts: slices.Clone(running.Hosts)}
	for i, b := range running.Backends {
		d.index[b.ID] = i
		d.After.Backends = append(d.After.Backends, Backend{ID: b.ID, For: b.For, Slots: slices.Clone(b.Slots)})
	}
	if running.HeadID != wanted.HeadID {
		d.reload(ReasonHead, "")
	}
	services := slices.DeleteFunc(slices.Clone(wanted.Backends), func(b Backend) bool { return isSpare(b.ID) })
	d.house(running.Backends, services)
	d.backends(services)
	d.hosts(wanted.MapFile, wanted.Hosts)
	d.Commands = append(d.Commands, d.last...)
	return d.Change
}

// differ gathers a Change. After.Backends has the backends that run, at the same indexes.
type differ struct {
	Change
	index   map[string]int  // backend id -> index in After.Backends
	homes   map[string]int  // wanted backend id -> index of where it lives
	pointed map[string]bool // backends that host names led to before
	last    []string        // commands that take something away
}

func (d *differ) reload(why Reason, what string) {
	if !d.Reload {
		d.Reload, d.Reason, d.What = true, why, what
	}
}

func (d *differ) backends(wanted []Backend) {
	kept := map[int]bool{}
	for _, w := range wanted {
		if i, ok := d.homes[w.ID]; ok {
			kept[i] = true
			d.slots(d.After.Backends[i], used(w.Slots))
		}
	}
	for i, b := range d.After.Backends {
		if !kept[i] {
			d.slots(b, nil)
		}
	}
}

// slots brings the endpoints into the backend's slots: those that stay where they are, the new
// ones into free slots, and only then into slots whose endpoint goes.
func (d *differ) slots(b Backend, wanted []netip.AddrPort) {
	var free, going []int
	for i, s := range b.Slots {
		at := slices.Index(wanted, s)
		switch {
		case !s.IsValid():
			free = append(free, i)
		case at < 0:
			going = append(going, i)
		default:
			wanted = slices.Delete(slices.Clone(wanted), at, at+1)
		}
	}
	room := slices.Concat(free, going)
	if len(wanted) > len(room) {
		d.reload(ReasonSlots, cmp.Or(b.For, b.ID))
		wanted = wanted[:len(room)]
	}
	for n, a := range wanted {
		d.set(b, room[n], a)
	}
	for _, i := range going {
		if !slices.Contains(room[:len(wanted)], i) {
			b.Slots[i] = netip.AddrPort{}
			d.last = append(d.last, fmt.Sprintf("set server %s/%s state maint", b.ID, slotName(i)))
		}
	}
}

// set puts an endpoint into a slot. Requests that run on the slot's old endpoint run on.
func (d *differ) set(b Backend, slot int, a netip.AddrPort) {
	server := b.ID + "/" + slotName(slot)
	d.Commands = append(d.Commands, fmt.Sprintf("set server %s addr %s port %d", server, a.Addr(), a.Port()))
	if !b.Slots[slot].IsValid() {
		d.Commands = append(d.Commands, fmt.Sprintf("set server %s state ready", server))
	}
	b.Slots[slot] = a
}

// hosts gives the commands for the map, which the runtime socket knows by its file's name.
func (d *differ) hosts(file string, wanted []Host) {
	old, after := map[api.Hostname]string{}, []Host{}
	for _, h := range d.After.Hosts {
		old[h.Name] = h.Backend
	}
	for _, h := range wanted {
		was, known := old[h.Name]
		delete(old, h.Name)
		home, exists := d.homes[h.Backend]
		if exists {
			h.Backend = d.After.Backends[home].ID
		}
		switch {
		case was == h.Backend:
		case !exists && known:
			h.Backend = was
		case !exists:
			continue
		case known:
			d.Commands = append(d.Commands, fmt.Sprintf("set map %s %s %s", file, h.Name, h.Backend))
		default:
			d.Commands = append(d.Commands, fmt.Sprintf("add map %s %s %s", file, h.Name, h.Backend))
		}
		after = append(after, h)
	}
	for _, h := range d.After.Hosts {
		if _, gone := old[h.Name]; gone {
			d.Commands = append(d.Commands, fmt.Sprintf("del map %s %s", file, h.Name))
		}
	}
	d.After.Hosts = after
}

func used(slots []netip.AddrPort) []netip.AddrPort {
	return slices.DeleteFunc(slices.Clone(slots), func(a netip.AddrPort) bool { return !a.IsValid() })
}

func compareServices(a, b api.ServiceEntry) int {
	return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.Name, b.Name))
}

func compareAliases(a, b api.AliasEntry) int {
	return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Project, b.Project),
		cmp.Compare(a.Service, b.Service), cmp.Compare(a.Port, b.Port))
}

package router

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"

	"gearmesh.dev/api"
)

// Config is everything HAProxy is told, or was found to run.
type Config struct {
	// HeadID is a hash of all that is not in Backends and Hosts. HAProxy carries it as its
	// description, so that it can be asked which head it runs.
	HeadID string
	// Head is the text of the sections global, defaults and frontend. It is empty in a Config read from HAProxy.
	Head     string
	MapFile  string    // path of hosts.map, which Head refers to
	Backends []Backend // sorted by ID, spares last
	Hosts    []Host    // sorted by Name, each name once
	Skipped  []string  // what of the directory was left out, and why; sorted
}

// Backend is one port of one service, or a spare.
type Backend struct {
	// ID is be_PROJECT.SERVICE.PORT, where names have no dots and no underscores, so no two are alike; or spare_K.
	ID string
	// For is the ID of the backend that lives in this spare; empty when the spare is free, and of other backends.
	For string
	// Idle says that no request is in this spare, when HAProxy was asked about it just now.
	Idle bool
	// Slots are the backend's servers s1, s2, ...; the zero AddrPort is a free slot, kept in maintenance.
	Slots []netip.AddrPort
}

// Host is one line of the map: requests for a host name, or of links connections to a port, go to a backend.
type Host struct {
	Name    api.Hostname
	Backend string
}

// freeSlot is the address of a slot that nobody uses. Were it ever enabled by mistake, it would
// refuse connections at once, and HAProxy would take another server.
var freeSlot = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 1)

// File prints haproxy.cfg.
func (c Config) File() []byte {
	var b bytes.Buffer
	b.WriteString(c.Head)
	for _, be := range c.Backends {
		fmt.Fprintf(&b, "\nbackend %s\n", be.ID)
		for i, s := range be.Slots {
			if s.IsValid() {
				fmt.Fprintf(&b, "    server %s %s\n", slotName(i), s)
			} else {
				fmt.Fprintf(&b, "    server %s %s disabled\n", slotName(i), freeSlot)
			}
		}
	}
	return b.Bytes()
}

// Map prints hosts.map: who lives in which spare, then a host name and a backend a line.
func (c Config) Map() []byte {
	var b bytes.Buffer
	for _, h := range slices.Concat(c.markers(), c.Hosts) {
		fmt.Fprintf(&b, "%s %s\n", h.Name, h.Backend)
	}
	return b.Bytes()
}

// shape is what a check of the file depends on: everything but the addresses in the slots.
func (c Config) shape() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n", c.HeadID)
	for _, be := range c.Backends {
		fmt.Fprintf(h, "%s %d\n", be.ID, len(be.Slots))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// slotName names the slot with the index i.
func slotName(i int) string { return fmt.Sprintf("s%d", i+1) }

// backendID names the backend of a service's port.
func backendID(project, service, port api.Name) string {
	return fmt.Sprintf("be_%s.%s.%s", project, service, port)
}

// Package router drives a real HAProxy: it sends HTTP requests from outside to the pods of
// services, by host name.
//
// Render, Diff and the printers are pure. Render makes a Config of the cluster's directory; Diff compares it with
// what HAProxy runs and answers with commands for HAProxy's runtime socket where they are enough (endpoints come
// and go, host names move, services are new) and with a reload where they are not (no spare is left, a backend has
// outgrown its slots, the head differs). Run is the daemon: it follows the directory, keeps the files on disk current,
// and asks HAProxy itself what it runs instead of believing its own memory.
//
// # Spares
//
// A reload costs a second of CPU, and a new backend would need one. So the configuration holds spares: backends
// spare_1, spare_2, ... with free slots. Requests find their backend through the map, so a new service is live once a
// spare's slots have its endpoints and the map leads its host names there. Who lives in a spare is a line of the same
// map, "SPARE_1. be_shop.web.http", which no request can reach. It is on disk and in HAProxy, hence known after a
// restart of either. The next reload gives every service a backend of its own and frees all spares; it comes when it
// is needed, or when half of the spares are taken and nothing has changed for Options.Still.
//
// The spare of a removed service has no host names and no servers at once, but gets a new owner only when HAProxy
// says that no request is left in it: one that is sent again would reach the new owner's servers.
//
// Text that others wrote never becomes a directive: backend and server names are made of api.Name values, which have
// one safe grammar; addresses are netip values without zones; host names stand in the map file alone. What does not
// validate is left out and reported in Config.Skipped, so one tenant's bad part never stops the rest.
//
// Requests reach HAProxy 2.6 or later. The sources of what this package relies on are HAProxy's configuration.txt
// and management.txt, chapter 9.3.
package router

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"gearmesh.dev/api"
)

// Settings say where HAProxy listens and where its files are. The zero value of each field but
// Bind means its default.
type Settings struct {
	Bind     []netip.AddrPort // addresses and ports for HTTP; at least one, 0.0.0.0:80 is usual
	Dir      string           // directory of haproxy.cfg and hosts.map; /var/lib/gear/router
	Socket   string           // HAProxy's runtime socket; /run/gear/haproxy.sock
	Domain   api.Hostname     // when set, each service with a TCP port gets SERVICE-PROJECT.DOMAIN
	User     string           // user that HAProxy's workers run as; empty leaves them root
	Chroot   string           // directory that workers are locked into; empty for none
	MaxConn  int              // most connections at a time, about; 20000. Fewer where HAProxy may not open two files for each
	MinSlots int              // fewest server slots of a backend; 8
	LastPort uint16           // with RenderLinks, the last of the ports that begin with the one of Bind; 0 otherwise
	Spares   int              // backends kept free for new services, each with MinSlots slots of about 7 KB; 16
}

// File gives the path of the configuration.
func (s Settings) File() string { return filepath.Join(s.Dir, "haproxy.cfg") }

// MapFile gives the path of the map from host names, or of links from ports, to backends.
func (s Settings) MapFile() string {
	if s.LastPort != 0 {
		return filepath.Join(s.Dir, "ports.map")
	}
	return filepath.Join(s.Dir, "hosts.map")
}

// Default fills in what was left out.
func (s Settings) Default() Settings {
	s.Dir = cmp.Or(s.Dir, "/var/lib/gear/router")
	s.Socket = cmp.Or(s.Socket, "/run/gear/haproxy.sock")
	s.MaxConn = cmp.Or(s.MaxConn, 20000)
	s.MinSlots = cmp.Or(s.MinSlots, 8)
	s.Spares = cmp.Or(s.Spares, 16)
	return s
}

// Validate reports what would not stand safely in a configuration file. HAProxy splits lines at
// blanks and expands ${...}, so paths and users have a narrow grammar here.
func (s Settings) Validate() error {
	var errs []error
	if len(s.Bind) == 0 {
		errs = append(errs, errors.New("router: no address to listen on; give one such as 0.0.0.0:80"))
	}
	for _, b := range s.Bind {
		if !b.IsValid() || b.Addr().Zone() != "" || b.Port() == 0 {
			errs = append(errs, fmt.Errorf("router: cannot listen on %q; an address and port such as 0.0.0.0:80 is needed", b.String()))
		}
	}
	for what, path := range map[string]string{"directory": s.Dir, "socket": s.Socket, "chroot": s.Chroot} {
		if path != "" && (!filepath.IsAbs(path) || !plain(path)) {
			errs = append(errs, fmt.Errorf("router: %s %q: an absolute path of letters, digits, / . _ and - is needed", what, path))
		}
	}
	if !plain(s.User) || strings.Contains(s.User, "/") {
		errs = append(errs, fmt.Errorf("router: user %q: a name of letters, digits, _ and - is needed", s.User))
	}
	if s.Domain != "" {
		errs = append(errs, s.Domain.Validate())
	}
	if s.MaxConn < 0 || s.MinSlots < 0 || s.Spares < 0 {
		errs = append(errs, errors.New("router: numbers of connections, slots and spares cannot be negative"))
	}
	return errors.Join(errs...)
}

// plain tells whether every byte of text is one that HAProxy takes literally outside quotes.
func plain(text string) bool {
	const literal = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-"
	return strings.Trim(text, literal) == ""
}

package main

import (
	"log/slog"
	"net/netip"
	"path/filepath"

	systemdunits "gearmesh.dev/contrib/systemd"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/linker"
	"gearmesh.dev/router"
)

// newBalancer gives what carries this host's balanced links: a HAProxy on the pods' gateway.
func newBalancer(log *slog.Logger) (*router.Balancer, error) {
	dirs := podstate.Host()
	return router.NewBalancer(router.BalancerOptions{
		Settings: router.Settings{Bind: []netip.AddrPort{netip.AddrPortFrom(podstate.Gateway(), linker.FirstLinkPort)}, LastPort: linker.LastLinkPort,
			Dir: filepath.Join(dirs.State, "links"), Socket: filepath.Join(dirs.Run, "links.sock"), User: "haproxy", Chroot: "/var/lib/haproxy"},
		Master:     filepath.Join(dirs.Run, "links-master.sock"),
		Supervisor: router.Systemd{Unit: systemdunits.Links},
		Logger:     log,
	})
}

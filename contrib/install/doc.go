// Package install makes a plain Linux host a host of Gearmesh: what gear up and gear join do.
//
// Each is a list of steps. A step looks first whether its work is done, and then changes
// nothing, so both can be run again at any time: after an error, and after a reboot. What was there
// before, such as dockerd's settings, is kept; dockerd is told to read them, and never restarted.
//
// What a master has on disk (STATE is /var/lib/gear):
//
//	STATE/master/ca.crt, ca.key   the cluster's CA; the key 0400
//	STATE/master/people.json      who may use the API: names and token hashes, 0400
//	/etc/gear/master.env          GEAR_MASTER_FLAGS: --address, and --domain
//	/root/.config/gear/config.json  the administrator's client: server, CA, token; 0600
//
// and what every host has:
//
//	STATE/agent/host.key, host.crt, ca.crt, gossip.key, identity.json   (see Identity)
//	/usr/local/bin/gear, geard, gear-run, and gear-oci, a link to gear-run
//	/etc/systemd/system/gear.target, gearrun.slice, gear-agent.service, ...
//	/etc/docker/daemon.json       with live-restore, and the runtime gear
package install

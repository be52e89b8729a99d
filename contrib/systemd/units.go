// Package systemdunits holds the systemd units of Gearmesh itself, as files that can be read,
// linted and installed as they are:
//
//	gear.target           what boots the host's pods
//	gearrun.slice         the supervisors of containers
//	gearrun-stopped@.service  ends what a stopped unit of a container has left behind
//	gear-agent.service    geard agent, on every host
//	gear-master.service   geard master
//	gear-router.service   geard router, on hosts labelled router
//	gear-haproxy.service  HAProxy, kept by the router
//	gear-links.service    HAProxy of balanced links, kept by the agent
//
// None of them is tied to a pod: stopping, restarting or removing any of them stops no container.
// Settings come from /etc/gear/NAME.env (GEAR_AGENT_FLAGS and so on), never from edits of the files.
package systemdunits

import (
	"embed"
	"fmt"

	"gearmesh.dev/api"
)

//go:embed *.service *.target *.slice
var files embed.FS

// The names of the units.
const (
	Target   = "gear.target"
	RunSlice = "gearrun.slice"
	Stopped  = "gearrun-stopped@.service"
	Agent    = "gear-agent.service"
	Master   = "gear-master.service"
	Router   = "gear-router.service"
	HAProxy  = "gear-haproxy.service"
	Links    = "gear-links.service"
)

// Host lists the units that every host has. The agent starts the router where the host is
// labelled so, and the router starts HAProxy; the HAProxy of links is started where a pod has a balanced one.
func Host() []string { return []string{Target, RunSlice, Stopped, Agent, Router, HAProxy, Links} }

// Texts gives the unit files of the given names.
func Texts(names ...string) ([]api.TextFile, error) {
	out := make([]api.TextFile, 0, len(names))
	for _, n := range names {
		text, err := files.ReadFile(n)
		if err != nil {
			return nil, fmt.Errorf("gearmesh has no unit %q: %w", n, err)
		}
		out = append(out, api.TextFile{Name: n, Text: string(text)})
	}
	return out, nil
}

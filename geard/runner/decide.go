package runner

import (
	"maps"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/engine"
)

// action is what a runner does first.
type action string

const (
	create  action = "create"  // there is no container
	adopt   action = "adopt"   // ours runs: look after it
	collect action = "collect" // ours ran, and ended while nobody looked: take its exit
	replace action = "replace" // something else has its place, or it never started: remove it, then create
)

// decide compares the container that has our name, if any, with the one that should have it. last
// is the state that the runner before us left.
func decide(want map[string]string, last api.ContainerStatus, found engine.Container, exists bool) action {
	switch {
	case !exists:
		return create
	case !same(want, found.Labels):
		return replace
	case found.Running:
		return adopt
	case !found.Started.IsZero() && last.ID == found.ID && last.State == api.RunRunning:
		return collect
	}
	return replace
}

// same tells whether labels are those of the wanted container.
func same(want, labels map[string]string) bool {
	ours := maps.Clone(labels)
	maps.DeleteFunc(ours, func(k, _ string) bool { _, ok := want[k]; return !ok })
	return maps.Equal(want, ours)
}

package geard

import (
	"time"

	"gearmesh.dev/api"
)

// What the master tells an agent of whom to trust: the keys of the mesh, and certificates that were withdrawn.

// setGossip takes the keys of the mesh. What could not be kept is not reported as taken, so the old key stays in use everywhere.
func (a *Agent) setGossip(k api.GossipKeys) {
	err := a.cfg.Mesh.SetKeys(k.Keys)
	a.condition(reasonGossip, err)
	if err == nil {
		a.gossip.Store(k.Seq)
		a.reportKick.Wake()
	}
}

// reasonGossip is the condition of a host that could not take the keys of the mesh.
const reasonGossip = api.Reason("GossipKeysRefused")

// Refuses tells whether a host's certificate was withdrawn, as the last master said it: from the host's disk when none answers.
func (a *Agent) Refuses(host api.Name, issued time.Time) bool {
	return a.mem.get().Directory.Refuses(host, issued)
}

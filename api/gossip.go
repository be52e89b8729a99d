package api

import "time"

// GossipKeys are the keys that encrypt the mesh, as a host is told them over TLS. A higher Seq replaces a lower one.
type GossipKeys struct {
	Seq  int64    `json:"seq"`
	Keys [][]byte `json:"keys" doc:"32 bytes each; the first one encrypts what is sent, all of them are accepted"`
}

// MeshStep is where a change of the mesh's key stands. Each step waits until all living hosts have taken it.
type MeshStep string

// The steps, in their order.
const (
	MeshSteady  MeshStep = "steady"  // there is one key
	MeshInstall MeshStep = "install" // the new one is accepted
	MeshUse     MeshStep = "use"     // the new one encrypts, the old one is still accepted
)

// MeshKeys is the answer of GET /v1/mesh: everything of the mesh's keys but the keys.
type MeshKeys struct {
	Seq   int64     `json:"seq" doc:"Grows with each step"`
	Step  MeshStep  `json:"step"`
	Since time.Time `json:"since" doc:"When the step was begun"`
	Waits []Name    `json:"waits,omitempty" doc:"Living hosts that have not taken the step yet"`
	Gone  []Name    `json:"gone,omitempty" doc:"Hosts that are lost, for which nobody waits: they get the key when they are back"`
}

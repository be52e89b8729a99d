package api

import (
	"fmt"
	"net/netip"
	"time"
)

// PendingHost is a host that has shown a token whose joins wait for a person. Nothing of it is trusted: it has no certificate
// and no gossip key, and it is no host of the cluster.
type PendingHost struct {
	Name        Name              `json:"name" doc:"The name it will have"`
	Address     netip.Addr        `json:"address" doc:"Where it says that other hosts reach it"`
	Labels      map[string]string `json:"labels,omitempty" doc:"Those that it asks for"`
	Fingerprint string            `json:"fingerprint" doc:"SHA-256 of its public key, in hex; gear join shows the same on the host"`
	From        netip.Addr        `json:"from" doc:"Where its request came from"`
	Asked       time.Time         `json:"asked"`
	Until       time.Time         `json:"until" doc:"When it has waited too long"`
	State       PendingState      `json:"state"`
	By          Name              `json:"by,omitempty" doc:"Who approved or rejected it"`
}

// PendingState is what became of a pending host.
type PendingState string

// The states of a pending host. One that has joined is a Host.
const (
	PendingWaiting  PendingState = "waiting"  // nobody has said anything
	PendingApproved PendingState = "approved" // it gets its identity when it asks next
	PendingRejected PendingState = "rejected" // it never does by this token
)

// PendingList is the answer of GET /v1/pending.
type PendingList struct {
	Items []PendingHost `json:"items"`
}

// Verdict is what a person says of a pending host.
type Verdict struct {
	State       PendingState `json:"state" enum:"approved,rejected"`
	Fingerprint string       `json:"fingerprint,omitempty" doc:"Only if its key is this one" maxLength:"64"`
}

// Validate refuses a verdict that says nothing.
func (v Verdict) Validate() error {
	if v.State != PendingApproved && v.State != PendingRejected {
		return Invalid("the verdict", []Fault{{Field: "state", Message: fmt.Sprintf("%.20q is neither %q nor %q", v.State, PendingApproved, PendingRejected)}})
	}
	return nil
}

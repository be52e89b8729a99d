package api

import "net/netip"

// Master is one of the masters of a cluster.
type Master struct {
	Name    Name           `json:"name"`
	Address netip.AddrPort `json:"address,omitzero" doc:"Of its API"`
	State   MasterState    `json:"state"`
	Leads   bool           `json:"leads,omitempty" doc:"It runs the controllers and hears the hosts"`
	Answers bool           `json:"answers,omitempty" doc:"This is the one that answers"`
	Version string         `json:"version,omitempty"`
	Peer    string         `json:"peer,omitempty" doc:"Where the other masters reach its store; empty when it is alone, or the store is an etcd of your own"`
}

// MasterState is what a master is to the store.
type MasterState string

// The states of a master.
const (
	MasterVoter   MasterState = "voter"   // its vote counts for the quorum
	MasterLearner MasterState = "learner" // it is catching up and has no vote yet
	MasterJoining MasterState = "joining" // it has a seat and has not started
	MasterOutside MasterState = "outside" // the store is an etcd of your own
)

// MasterList is the answer of GET /v1/masters.
type MasterList struct {
	Items []Master `json:"items"`
}

// MasterEntry is a master as hosts and clients know it.
type MasterEntry struct {
	Name    Name           `json:"name"`
	Address netip.AddrPort `json:"address"` // of its API
}

// MasterJoin asks to become another master. It is sent only to a master whose CA the token pins.
type MasterJoin struct {
	Token   string     `json:"token" doc:"From gear token create --master; works once, for 15 minutes" maxLength:"256"`
	Name    Name       `json:"name" doc:"Of the new master"`
	Address netip.Addr `json:"address" doc:"Where the other masters reach it, on TCP 2380"`
}

// MasterKit is what a new master gets: all that makes it one. It is the cluster's whole secret.
type MasterKit struct {
	CA         string   `json:"ca" doc:"PEM of the cluster's certificate authority"`
	CAKey      string   `json:"caKey" doc:"PEM of its key"`
	SealingKey string   `json:"sealingKey" doc:"Opens the secrets in the store"`
	People     string   `json:"people" doc:"people.json"`
	Domain     Hostname `json:"domain"`
	Seat       string   `json:"seat" doc:"The members of the store with the new one, as NAME=URL,NAME=URL"`
}

// TokenRequest says what a join token is for.
type TokenRequest struct {
	Master  bool `json:"master,omitempty" doc:"The host may become a master too"`
	Approve bool `json:"approve,omitempty" doc:"A person must approve the host before it gets its identity; not with master"`
}

// Validate refuses a token that could not keep what it promises: a master's is worth the whole cluster as soon as it is made.
func (r TokenRequest) Validate() error {
	if r.Master && r.Approve {
		return Invalid("the request for a token", []Fault{{Field: "approve", Message: "a master's token cannot wait for approval; let the host join with a token that does, then make one with master"}})
	}
	return nil
}

// BackupRequest asks for a backup.
type BackupRequest struct {
	Recipient string `json:"recipient" doc:"The age public key that it is encrypted for: age1…" maxLength:"256"`
}

package api

import (
	"net/netip"
	"slices"
	"time"
)

// HostLabel is the label that stands for the host's own name in requirements and spreads.
const HostLabel = "host"

// RouterLabel is the host label that makes a host run a router, with the value "true".
const RouterLabel = "router"

// ZoneLabel is the host label that names its failure domain, such as a rack: links with nearest go by it.
const ZoneLabel = "zone"

// Host is a machine that runs an agent.
type Host struct {
	Header
	Spec   HostSpec   `json:"spec"`
	Status HostStatus `json:"status,omitzero"`
}

// HostSpec is what operators say of a host. Its labels are in the metadata.
type HostSpec struct {
	Address  netip.Addr `json:"address,omitzero" doc:"Where other hosts reach it; set when it joins"`
	Cordoned bool       `json:"cordoned,omitempty" doc:"No new pods are placed on it"`
	Expelled bool       `json:"expelled,omitempty" doc:"Set by the master when the host is removed at once: nothing that it says counts any more, and its pods are replaced without waiting for it"`
	Drain    bool       `json:"drain,omitempty" doc:"Its pods move away, of each service one at a time and new before old; those with volumes here stay. No new pods are placed on it"`
}

// HostStatus is what the master knows of a host.
type HostStatus struct {
	State   HostState `json:"state,omitempty"`
	Reason  Reason    `json:"reason,omitempty"`
	Message string    `json:"message,omitempty"`
	Seen    time.Time `json:"seen,omitzero" doc:"When its agent last reported"`
	Version string    `json:"version,omitempty" doc:"Of its agent"`
	HostIPv6
	Capacity Resources `json:"capacity,omitzero" doc:"What pods may use in all"`
	Pods     int       `json:"pods" doc:"Pods assigned to it"`
	HostOffer
}

// HostOffer is what the operator of a host has decided that pods may have there. The master places pods by it; the
// host itself checks each pod again, so a wrong offer gives nobody more.
type HostOffer struct {
	MaxPolicy     Policy `json:"maxPolicy,omitempty" enum:"restricted,baseline,privileged" doc:"Most that it lets any pod have; empty when its agent does not say, and then nothing of the offer is known"`
	VolumeClasses []Name `json:"volumeClasses,omitempty" doc:"Volume classes that it has besides the default one"`
	HostPorts     int    `json:"hostPorts,omitempty" doc:"Ports that it has for pods; not counted when its agent does not say"`
}

// Lacks tells why a host with this offer cannot take a pod that needs a policy and volume classes, "" when it can. A
// host that says nothing is taken at its best.
func (o HostOffer) Lacks(need Policy, classes []Name) Reason {
	if o.MaxPolicy == "" {
		return ""
	}
	if !o.MaxPolicy.Covers(need) {
		return ReasonPolicyCeiling
	}
	for _, c := range classes {
		if !slices.Contains(o.VolumeClasses, c) {
			return ReasonVolumeClass
		}
	}
	return ""
}

// HostState is how the master sees a host.
type HostState string

// The states of a host.
const (
	HostJoining HostState = "joining" // has an identity, has never reported
	HostReady   HostState = "ready"   // its lease is good
	HostSuspect HostState = "suspect" // the lease ran out, or the mesh reports it failed, but not both
	HostLost    HostState = "lost"    // the lease ran out and the mesh reports it failed: its pods are replaced
)

// HostReport is what an agent tells the master: on every change at once, otherwise as a heartbeat.
type HostReport struct {
	Host     Name      `json:"host"`
	Version  string    `json:"version" doc:"Of the agent"`
	Term     int64     `json:"term" doc:"Highest term the host has seen"`
	Revision int64     `json:"revision" doc:"Desired state the host has on disk"`
	Capacity Resources `json:"capacity"`
	HostIPv6
	HostOffer
	Pods       []PodReport   `json:"pods,omitempty" doc:"Every pod the host has anything of"`
	Endpoints  HostEndpoints `json:"endpoints"`
	MeshDown   []Name        `json:"meshDown,omitempty" doc:"Hosts that the mesh reports as failed, as seen from here"`
	Gossip     int64         `json:"gossip,omitempty" doc:"Seq of the keys of the mesh that the host has on disk and in use"`
	MeshSeen   int           `json:"meshSeen,omitempty" doc:"Members of the mesh that are alive, as seen from here, itself included"`
	Conditions []Condition   `json:"conditions,omitempty" doc:"What is wrong with the host itself"`
}

// PodReport is the state of one pod on the host.
type PodReport struct {
	UID     UID       `json:"uid"`
	Project Name      `json:"project"`
	Name    Name      `json:"name"`
	Status  PodStatus `json:"status"`
}

// Condition is something wrong with a host that is not one pod's fault.
type Condition struct {
	Reason  Reason `json:"reason"`
	Message string `json:"message"`
}

// JoinRequest asks for an identity. The key stays on the host; the request signs its public half.
type JoinRequest struct {
	Token   string            `json:"token" doc:"From gear token create; works once, for 15 minutes" maxLength:"256"`
	Name    Name              `json:"name" doc:"The name the host would like"`
	Address netip.Addr        `json:"address" doc:"Where other hosts reach it"`
	Labels  map[string]string `json:"labels,omitempty"`
	CSR     string            `json:"csr" doc:"PKCS #10 request in PEM" maxLength:"8192"`
}

// Identity is what a host gets when it joins.
type Identity struct {
	Name        Name         `json:"name" doc:"The name the master gave it"`
	Certificate string       `json:"certificate" doc:"PEM; good for 7 days"`
	CA          string       `json:"ca" doc:"PEM of the cluster's certificate authority"`
	GossipKey   []byte       `json:"gossipKey" doc:"32 bytes; encrypts the mesh"`
	Domain      Hostname     `json:"domain" doc:"The cluster's DNS domain"`
	Peers       []netip.Addr `json:"peers,omitempty" doc:"Hosts whose mesh it can join"`
	Pending     *PendingHost `json:"pending,omitempty" doc:"The host waits for a person's approval, and has nothing else of this yet; it asks again with the same key"`
}

// CertificateRequest asks for a fresh certificate for the host that sends it.
type CertificateRequest struct {
	CSR string `json:"csr" doc:"PKCS #10 request in PEM" maxLength:"8192"`
}

// JoinToken lets one host join.
type JoinToken struct {
	Token   string    `json:"token" doc:"ID.SECRET.PIN: the pin is the SHA-256 of the cluster's CA certificate, in base64url"`
	Expires time.Time `json:"expires"`
}

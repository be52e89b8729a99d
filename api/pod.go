package api

import (
	"net/netip"
	"time"
)

// Pod is one running copy of a service's template on one host. Its spec never changes but for
// the host it is assigned to, once; another host or another template means another pod.
type Pod struct {
	Header
	Spec   PodSpec   `json:"spec"`
	Status PodStatus `json:"status,omitzero"`
}

// PodSpec is what runs, and where.
type PodSpec struct {
	Service    Name        `json:"service" doc:"The service that the pod belongs to"`
	Hash       string      `json:"hash" doc:"Hash of the template that its containers were made from; a pod with another hash than its service's is out of date"`
	Live       string      `json:"live,omitempty" doc:"Hash of the template now, when it has changed under running containers: where links lead, the weight, egress"`
	Template   PodTemplate `json:"template"`
	Host       Name        `json:"host,omitempty" doc:"Host it is assigned to; empty while it waits for one"`
	Term       int64       `json:"term,omitempty" doc:"Term of the leader that assigned it; hosts refuse lower ones"`
	Fence      int64       `json:"fence,omitempty" doc:"Fencing token of a pod that runs by a lease: higher than that of every pod of the service before it; 0 for others"`
	Ordinal    *int        `json:"ordinal,omitempty" doc:"Its number in a service with identity, from 0" minimum:"0" maximum:"9999"`
	Policy     Policy      `json:"policy,omitempty" enum:"restricted,baseline,privileged" doc:"Policy it was admitted under; its host refuses what that does not allow"`
	Registries []Registry  `json:"registries,omitempty" doc:"Registries of its project when it was made"`
	Egress     *Egress     `json:"egress,omitempty" doc:"What its host lets it connect to: what its service says, else what its project says at present; told to its host alone"`
	Replaces   UID         `json:"replaces,omitempty" doc:"Pod of the service whose place it takes on another host, where it is better off: that one ends when it is ready"`
	Ending     Reason      `json:"ending,omitempty" doc:"Why it is being deleted"`
	Cause      Reason      `json:"cause,omitempty" doc:"Why the pod was made"`
	Placement  *Decision   `json:"placement,omitempty" doc:"Why it was placed where it is, or nowhere"`
}

// Decision explains a placement.
type Decision struct {
	Host     Name           `json:"host,omitempty" doc:"Where it was placed; empty when no host fits"`
	Waits    Name           `json:"waits,omitempty" doc:"Host on which it waits for pods of lower priority to end"`
	Score    int            `json:"score,omitempty" doc:"Score of the chosen host; higher is better"`
	Others   []HostScore    `json:"others,omitempty" doc:"The next best of the hosts that fitted too, at most 3, best first"`
	Reasons  []string       `json:"reasons,omitempty" doc:"What the score is made of"`
	Rejected map[Reason]int `json:"rejected,omitempty" doc:"Number of hosts left out, by reason"`
}

// HostScore is what a host was worth in a placement.
type HostScore struct {
	Host  Name `json:"host" doc:"Name of the host"`
	Score int  `json:"score" doc:"Its score; of two that are equal, the one with fewer pods is taken, then the first by name"`
}

// Phase is where a pod is in its life. The next phase is decided by the host alone.
type Phase string

// The phases of a pod, in the order of an undisturbed life.
const (
	PhasePending  Phase = "pending"  // no host yet, or the host has not seen it yet
	PhasePulling  Phase = "pulling"  // images are being fetched
	PhaseStarting Phase = "starting" // units are started, readiness has not passed
	PhaseRunning  Phase = "running"  // runs; Ready says whether it serves
	PhaseBackOff  Phase = "backoff"  // a container ended or could not start, and is tried again later
	PhaseStopped  Phase = "stopped"  // its operator stopped the unit on the host
	PhaseStopping Phase = "stopping" // being deleted
	PhaseGone     Phase = "gone"     // nothing of it is left on the host
	PhaseUnknown  Phase = "unknown"  // the host has not been heard of since Seen
)

// PodStatus is what the pod's host says of it.
type PodStatus struct {
	Phase      Phase             `json:"phase,omitempty"`
	Ready      bool              `json:"ready,omitempty" doc:"Every container has passed its readiness check"`
	Reason     Reason            `json:"reason,omitempty" doc:"Why it is not ready, for programs"`
	Message    string            `json:"message,omitempty" doc:"Why it is not ready, for people"`
	Address    netip.Addr        `json:"address,omitzero" doc:"The pod's address on its host; not reachable from other hosts"`
	Ports      []HostPort        `json:"ports,omitempty" doc:"Where its ports are reached from other hosts"`
	Containers []ContainerStatus `json:"containers,omitempty"`
	Seen       time.Time         `json:"seen,omitzero" doc:"When the host last said so"`
}

// HostPort is the port of the host that a port of a pod is mapped to.
type HostPort struct {
	Name     Name     `json:"name"`
	Protocol Protocol `json:"protocol"`
	Port     uint16   `json:"port" doc:"In the pod"`
	HostPort uint16   `json:"hostPort" doc:"On the host"`
	Public   bool     `json:"public,omitempty"`
}

// ContainerStatus is the state of one container, as its gear-run sees it.
type ContainerStatus struct {
	Name     Name      `json:"name"`
	Unit     string    `json:"unit" doc:"Its systemd unit"`
	State    RunState  `json:"state"`
	Init     bool      `json:"init,omitempty" doc:"It runs to its end before the others start"`
	Ready    bool      `json:"ready,omitempty"`
	ID       string    `json:"id,omitempty" doc:"The engine's id of the container"`
	Started  time.Time `json:"started,omitzero"`
	Restarts int       `json:"restarts,omitempty"`
	Reason   Reason    `json:"reason,omitempty" doc:"Why it last ended, or does not run"`
	Message  string    `json:"message,omitempty"`
	ExitCode int       `json:"exitCode,omitempty" doc:"Of the last run that ended"`
}

// RunState is the state of a container.
type RunState string

// The states of a container.
const (
	RunWaiting RunState = "waiting" // its unit has not been started, or waits for the image
	RunBackOff RunState = "backoff" // ended or could not start; started again when the back-off is over
	RunRunning RunState = "running"
	RunStopped RunState = "stopped" // asked to stop
	RunDone    RunState = "done"    // an init container that has ended well
)

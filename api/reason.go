package api

// Reason says why something is as it is, for programs: the log, gear plan, gear why and the API
// use the same word. The text for people stands beside it in a Message.
type Reason string

// Why a pod or container is not ready, or was started again.
const (
	ReasonUnschedulable  Reason = "Unschedulable"  // no host fits
	ReasonWaitingForHost Reason = "WaitingForHost" // assigned, its host has not reported it yet
	ReasonLinkDown       Reason = "LinkDown"       // a link that it needs has no backend
	ReasonQueued         Reason = "Queued"         // its host starts others first
	ReasonImagePull      Reason = "ImagePull"      // the image could not be fetched
	ReasonNotReady       Reason = "NotReady"       // the readiness check has not passed
	ReasonExited         Reason = "Exited"         // the container ended
	ReasonUnhealthy      Reason = "Unhealthy"      // the start-up or liveness check failed too often; it is started anew
	ReasonWaiting        Reason = "Waiting"        // waits for other containers of its pod
	ReasonOOMKilled      Reason = "OOMKilled"      // the kernel killed it over its memory limit
	ReasonCreateFailed   Reason = "CreateFailed"   // the engine refused to create or start it
	ReasonEngineDown     Reason = "EngineDown"     // dockerd does not answer; what runs, runs on
	ReasonNoPorts        Reason = "NoPorts"        // no host port is free
	ReasonStopped        Reason = "Stopped"        // stopped by the host's operator
	ReasonLeaseLapsed    Reason = "LeaseLapsed"    // a singleton waits for a lease: the master does not answer its host
	ReasonHostLost       Reason = "HostLost"       // its host is lost
	ReasonHostSilent     Reason = "HostSilent"     // its host has not reported for longer than its lease
	ReasonUnknownPod     Reason = "UnknownPod"     // runs on a host, but the master does not know it
	ReasonSecret         Reason = "SecretMissing"  // a secret that it needs does not exist, or has not reached its host
	ReasonVolume         Reason = "VolumeError"    // a volume of it cannot be made or deleted on its host
	ReasonPolicy         Reason = "PolicyRefused"  // it asks for more than its policy or its host allows
	ReasonHostError      Reason = "HostError"      // the host could not carry it out (disk, systemd, kernel)
)

// What events tell besides.
const (
	ReasonReady      Reason = "Ready"      // a pod's checks pass, or a host reports again
	ReasonMeshFailed Reason = "MeshFailed" // the other hosts have found a host to be down
)

// Why a pod was made, moved or ended.
const (
	ReasonScaleUp        Reason = "ScaleUp"
	ReasonScaleDown      Reason = "ScaleDown"
	ReasonTemplateChange Reason = "TemplateChanged"
	ReasonLiveChange     Reason = "ChangedLive" // where its links lead, its weight or its egress; its containers run on
	ReasonPlacement      Reason = "PlacementChanged"
	ReasonDrained        Reason = "HostDrained" // its host is drained
	ReasonServiceDeleted Reason = "ServiceDeleted"
	ReasonPreempted      Reason = "Preempted"  // a pod of higher priority needs its room
	ReasonReplaced       Reason = "Replaced"   // a newer pod has taken its place
	ReasonRebalanced     Reason = "Rebalanced" // a pod is better off on another host
	ReasonMoveFailed     Reason = "MoveFailed" // it was to take another's place on a better host, and did not become ready
)

// Why a host was left out of a placement.
const (
	ReasonHostNotReady  Reason = "HostNotReady"
	ReasonCordoned      Reason = "Cordoned"
	ReasonRequirement   Reason = "RequirementNotMet"
	ReasonPolicyCeiling Reason = "PolicyNotAllowed" // the host's operator allows no pod that much (--max-policy)
	ReasonVolumeClass   Reason = "NoVolumeClass"    // the host lacks a volume class
	ReasonNotNear       Reason = "NotNear"          // no pod of a service that it must be near
	ReasonNotApart      Reason = "NotApart"         // a pod of a service that it must be apart from
	ReasonSpread        Reason = "SpreadBound"      // too many pods of the service under its value of the spread label
	ReasonHostMaximum   Reason = "HostMaximum"      // it has as many pods of the service as one host may
	ReasonHostPorts     Reason = "NotEnoughPorts"   // too few ports for pods are left
	ReasonCPU           Reason = "NotEnoughCPU"
	ReasonMemory        Reason = "NotEnoughMemory"
)

// Why an alias is not in force, or a service not as wanted.
const (
	ReasonHostnameTaken Reason = "HostnameTaken" // an older alias owns the host name
	ReasonNoService     Reason = "NoService"     // the service or port does not exist
	ReasonNoBackend     Reason = "NoBackend"     // no pod of the service is ready
	ReasonNotOffered    Reason = "NotOffered"    // no such service offers itself to this project
	ReasonProgressing   Reason = "Progressing"   // pods are on their way
	ReasonBrake         Reason = "MassFailure"   // more than half of the hosts vanished together: nothing is moved
)

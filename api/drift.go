package api

// Drift is one thing on a host that is not as the host's own state says. It is found by looking, never remembered.
type Drift struct {
	Project Name   `json:"project,omitempty"`
	Pod     Name   `json:"pod,omitempty" doc:"Empty for what belongs to the host itself"`
	What    string `json:"what" doc:"The unit, namespace or rules that differ"`
	Reason  Reason `json:"reason"`
	Message string `json:"message,omitempty" doc:"More than the reason says, for people"`
	Diff    string `json:"diff,omitempty" doc:"Lines that are too many begin with -, lines that lack with +"`
}

// In how far a host is not as its state says.
const (
	ReasonUnitMissing    Reason = "UnitMissing"      // a unit file is not there, or empty
	ReasonUnitDiffers    Reason = "UnitDiffers"      // somebody has edited it; drop-ins are for that
	ReasonUnitForeign    Reason = "UnitForeign"      // a file of that name belongs to somebody else; it is left alone
	ReasonNotEnabled     Reason = "NotEnabled"       // it would not start at boot
	ReasonNoNamespace    Reason = "NamespaceMissing" // the pod's network namespace has no name any more
	ReasonRulesDiffer    Reason = "RulesDiffer"      // rules are missing, changed or too many
	ReasonNotSupervised  Reason = "NotSupervised"    // a container runs, and the unit that looks after it does not
	ReasonUnitNotRunning Reason = "UnitNotRunning"   // a unit does not run, and nobody stopped it
)

// HostTask is what a host's agent would do next to a pod.
type HostTask struct {
	UID     UID    `json:"uid"`
	Project Name   `json:"project,omitempty"`
	Pod     Name   `json:"pod,omitempty"`
	Op      string `json:"op" doc:"install, start, remove or clean"`
	Reason  Reason `json:"reason"`
}

// HostPlan is what a host's agent would do now. Looking changes nothing.
type HostPlan struct {
	Host  Name       `json:"host"`
	Tasks []HostTask `json:"tasks,omitempty"`
	Drift []Drift    `json:"drift,omitempty"`
}

// Empty tells whether there is nothing to do.
func (p HostPlan) Empty() bool { return len(p.Tasks) == 0 && len(p.Drift) == 0 }

// Repair is what a host's agent found when it asserted everything anew, and what became of it.
type Repair struct {
	Host   Name    `json:"host"`
	Pods   int     `json:"pods" doc:"How many pods were looked at"`
	Mended []Drift `json:"mended,omitempty"`
	Left   []Drift `json:"left,omitempty" doc:"Still so"`
	Error  string  `json:"error,omitempty" doc:"What could not be done"`
}

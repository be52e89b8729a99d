package api

import "slices"

// ApplyRequest applies resources, or asks what that would change.
type ApplyRequest struct {
	Resources []Resource `json:"resources" doc:"As they would be applied; each has its kind" minItems:"1" maxItems:"1000"`
}

// ApplyPlan is what an apply of resources would change. It is worked out by the controllers and the scheduler themselves,
// on the cluster as it is, taken that hosts do as they are told and pods become ready; nothing is stored.
type ApplyPlan struct {
	Revision  int64            `json:"revision" doc:"Of the store that it was worked out from"`
	Resources []ResourceChange `json:"resources" doc:"In the order in which they are applied"`
	Pods      []PodChange      `json:"pods,omitempty" doc:"Pods that would be made, replaced or ended, and those that stay of the services named; what would happen without the apply too is left out"`
	Units     []UnitChange     `json:"units,omitempty" doc:"Unit files of the pods' services that would not be the same any more"`
	Rules     []RuleChange     `json:"rules,omitempty" doc:"Links of pods that run on, host ports, and host names of the routers; changed without a restart"`
	Cut       bool             `json:"cut,omitempty" doc:"It is too much to look at to its end: more pods would be replaced, in the same way"`
}

// Empty tells whether an apply would change nothing.
func (p ApplyPlan) Empty() bool {
	return !slices.ContainsFunc(p.Resources, func(r ResourceChange) bool { return r.Result != ResultUnchanged })
}

// RebalancePlan is what of services with placement.rebalance would be better off elsewhere.
type RebalancePlan struct {
	Held string      `json:"held,omitempty" doc:"Why no pod is moved now"`
	Pods []PodChange `json:"pods,omitempty" doc:"The next moves, as if all had rested since their last ones; others may follow from them"`
}

// Applied is what an apply has done: everything in one transaction.
type Applied struct {
	Revision  int64            `json:"revision,omitempty" doc:"At which everything that changed is stored; left out when nothing did"`
	DryRun    bool             `json:"dryRun,omitempty" doc:"Nothing was stored: it is what would have been done"`
	Resources []ResourceChange `json:"resources" doc:"In the order in which they are applied"`
}

// ApplyResult says what an apply does to a resource.
type ApplyResult string

// The results of an apply.
const (
	ResultCreated    ApplyResult = "created"
	ResultConfigured ApplyResult = "configured"
	ResultUnchanged  ApplyResult = "unchanged"
)

// ResourceChange is what an apply does to one resource.
type ResourceChange struct {
	Kind     Kind          `json:"kind"`
	Project  Name          `json:"project,omitempty"`
	Name     Name          `json:"name"`
	Result   ApplyResult   `json:"result" enum:"created,configured,unchanged"`
	Revision int64         `json:"revision,omitempty" doc:"At which it is stored now; of a plan and a dry run, before the change"`
	Fields   []FieldChange `json:"fields,omitempty" doc:"Of a plan: what differs, defaults filled in, by path"`
}

// Key gives the key of the resource.
func (r ResourceChange) Key() Key { return Key{r.Kind, r.Project, r.Name} }

// FieldChange is one field of a resource that differs. A field that is not there has no value.
type FieldChange struct {
	Field string `json:"field" example:"spec.containers[0].image"`
	Old   any    `json:"old,omitempty"`
	New   any    `json:"new,omitempty"`
}

// PodChange is what would become of one pod.
type PodChange struct {
	Op       PodOp     `json:"op" enum:"make,replace,end,place,keep"`
	Project  Name      `json:"project"`
	Service  Name      `json:"service"`
	Pod      Name      `json:"pod,omitempty" doc:"The pod that is there; of make, only the name of one whose name lasts"`
	Host     Name      `json:"host,omitempty" doc:"Where that is"`
	NewHost  Name      `json:"newHost,omitempty" doc:"Where the new pod would go; empty when no host fits"`
	Reason   Reason    `json:"reason,omitempty"`
	Message  string    `json:"message,omitempty" doc:"For people; why no host fits"`
	Decision *Decision `json:"decision,omitempty" doc:"Why the new pod would go there"`
}

// PodOp says what becomes of a pod.
type PodOp string

// What becomes of pods.
const (
	PodMake    PodOp = "make"    // a new one
	PodReplace PodOp = "replace" // it ends, and a new one takes its place: a restart
	PodEnd     PodOp = "end"
	PodPlace   PodOp = "place" // it has waited for a host
	PodKeep    PodOp = "keep"  // it runs on untouched
)

// UnitChange is a unit file of a service's pods that would differ, as it would be for a pod called SERVICE-pod.
type UnitChange struct {
	Project Name   `json:"project"`
	Service Name   `json:"service"`
	Unit    string `json:"unit" example:"gear-shop-web-pod.service"`
	Change  string `json:"change" enum:"added,removed,changed"`
	Diff    string `json:"diff,omitempty" doc:"Lines that go begin with -, new ones with +"`
}

// RuleChange is a change of rules in the kernel, or of the routers.
type RuleChange struct {
	Host    Name     `json:"host,omitempty" doc:"Empty for all routers"`
	Project Name     `json:"project,omitempty"`
	Pod     Name     `json:"pod,omitempty"`
	What    string   `json:"what" example:"link db"`
	Old     []string `json:"old,omitempty"`
	New     []string `json:"new,omitempty"`
}

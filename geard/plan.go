package geard

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"gearmesh.dev/api"
)

// Op is what a task does to a pod. Each is idempotent and may be cut short at any point.
type Op string

// The operations on a pod.
const (
	OpInstall Op = "install" // state to disk, units, images, start
	OpStart   Op = "start"   // start units that do not run
	OpChange  Op = "change"  // take what of the pod's template changes under running containers: where links lead
	OpSecrets Op = "secrets" // give containers the secrets as they are now
	OpLapse   Op = "lapse"   // end a singleton that runs without its timer
	OpRemove  Op = "remove"  // stop, then leave nothing but volumes
	OpClean   Op = "clean"   // a directory without a pod: the rest of a save that was cut short
)

// Why a task is done.
const (
	reasonAssigned = api.Reason("Assigned")
	reasonUnits    = api.Reason("UnitsToCheck") // missing, different, or not compared since the agent started
	reasonNotUp    = api.Reason("UnitNotRunning")
	reasonChanged  = api.ReasonLiveChange
	reasonSecrets  = api.Reason("SecretChanged")
	reasonNoTimer  = api.Reason("LeaseTimerNotSet")
	reasonDeleted  = api.Reason("Deleted")
	reasonLeftover = api.Reason("Leftover")
)

// Task is one thing to do to one pod, with the reason that log, plan and why print.
type Task struct {
	UID    api.UID
	Op     Op
	Reason api.Reason
}

// Actual is what there is of a pod on this host.
type Actual struct {
	UID     api.UID
	Pod     *api.Pod // from disk; nil when the directory has none, or one that cannot be read
	Corrupt bool     // there is a pod on disk, but it cannot be read
	Units   UnitsState
	Secrets bool      // it has other secrets than the master has sent
	Busy    bool      // a task of this pod is under way
	Retry   time.Time // not before, after a task that did not succeed
	Held    bool      // a singleton that the master has not lately said may run
	Absent  bool      // nothing is on disk; a task of it is under way or will be tried again
}

// UnitsState sums up the units of a pod.
type UnitsState struct {
	Installed bool // every unit file is there, as rendered
	Up        bool // every container unit is active or being started
	Stopped   bool // the operator stopped or masked one; of a singleton, masked: what stopped it may have been its timer
	Leased    bool // the dead-man timer of a singleton is set
}

// unheld tells whether a singleton runs although nothing would end it.
func (a Actual) unheld() bool {
	return a.Pod != nil && a.Pod.Singleton() && a.Units.Up && !a.Units.Leased
}

// plan decides what to do, from what is wanted and what there is, the oldest pod first.
//
// A pod is removed only where desired says Deleting. One that desired lacks is left alone: the
// master may have lost its memory, and nothing healthy is touched by that.
func plan(desired []api.Pod, actual []Actual, now time.Time) []Task {
	have := make(map[api.UID]Actual, len(actual))
	created := make(map[api.UID]time.Time, len(desired))
	for _, a := range actual {
		have[a.UID] = a
	}
	var tasks []Task
	add := func(a Actual, op Op, reason api.Reason) {
		if !a.Busy && !now.Before(a.Retry) {
			tasks = append(tasks, Task{UID: a.UID, Op: op, Reason: reason})
		}
	}
	for _, p := range desired {
		created[p.Metadata.UID] = p.Metadata.Created
		a, exists := have[p.Metadata.UID]
		a.UID = p.Metadata.UID
		if op, reason := next(p, a, exists && !a.Absent); op != "" {
			add(a, op, reason)
		}
		delete(have, p.Metadata.UID)
	}
	for _, a := range slices.Collect(maps.Values(have)) {
		switch {
		case a.Pod == nil && !a.Corrupt && !a.Absent:
			add(a, OpClean, reasonLeftover)
		case a.Pod != nil && !a.Units.Installed:
			add(a, OpInstall, reasonUnits)
		case a.unheld():
			add(a, OpLapse, reasonNoTimer)
		}
	}
	slices.SortFunc(tasks, func(a, b Task) int {
		return cmp.Or(created[a.UID].Compare(created[b.UID]), cmp.Compare(a.UID, b.UID))
	})
	return tasks
}

// next gives the operation that brings a wanted pod one step on, or "" when it is as it should be.
func next(want api.Pod, a Actual, exists bool) (Op, api.Reason) {
	switch {
	case want.Metadata.Deleting && exists:
		return OpRemove, reasonDeleted
	case want.Metadata.Deleting:
		return "", ""
	case !exists:
		return OpInstall, reasonAssigned
	case a.Pod == nil || !a.Units.Installed:
		return OpInstall, reasonUnits
	case a.Pod.Spec.Live != want.Spec.Live:
		return OpChange, reasonChanged
	case a.unheld():
		return OpLapse, reasonNoTimer
	case !a.Units.Up && !a.Units.Stopped && !a.Held:
		return OpStart, reasonNotUp
	case a.Secrets:
		return OpSecrets, reasonSecrets
	}
	return "", ""
}

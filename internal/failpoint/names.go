// Package failpoint names the points of a deployment and of a deletion at which a process may die,
// and lets a test make it die there.
//
// Only programs that are built with the tag failpoints (make build-failpoints) have them. In all
// others a call of [Hit] is nothing: the compiler leaves it out.
//
// A point is armed by a file in [Dir] that has its name and says what is to happen (docs/debugging.md):
//
//	kill         the process gets SIGKILL
//	exit         it ends at once with status 1
//	sleep 5s     it waits
//	error TEXT   the step gives this error
//
// Each arming counts once: the file is renamed to NAME.hit just before its action, so that what is
// started again goes on, and so that a test sees that the point was reached.
package failpoint

// Dir is where points are armed.
const Dir = "/run/gear/failpoints"

// Name is a point, for example "install-after-save".
type Name string

// The points, in the order in which a deployment and then a deletion pass them.
const (
	MasterStored      Name = "master-stored"       // a client's write is in the store; nobody has been answered, nothing assigned
	MasterPlanned     Name = "master-planned"      // a plan has been made; none of it is in the store
	MasterAssigned    Name = "master-assigned"     // a plan is in the store; its hosts have not heard of it
	DesiredReceived   Name = "desired-received"    // the agent has a patch that is not on disk
	DesiredKept       Name = "desired-kept"        // the patch is on disk, and nothing was done
	InstallBeforeSave Name = "install-before-save" // the pod has an address and ports, in memory alone
	SaveBeforePod     Name = "save-before-pod"     // everything of the pod is on disk but pod.json
	InstallAfterSave  Name = "install-after-save"  // the pod is on disk, without units
	UnitsWritten      Name = "units-written"       // its units are there, not wanted by gear.target
	UnitsWanted       Name = "units-wanted"        // and wanted, so that a power-on starts them
	StartAfterPull    Name = "start-after-pull"    // its images are there, nothing started
	AheadMade         Name = "ahead-made"          // the engine has made its first container, and gear-run does not know
	NetAfterNamespace Name = "net-after-namespace" // its namespace is there, empty
	NetAfterVeth      Name = "net-after-veth"      // and has its interface, without links
	RunBeforeCreate   Name = "run-before-create"   // gear-run is about to create the container
	RunAfterCreate    Name = "run-after-create"    // the container exists, its namespace is not on record
	RunAfterRecord    Name = "run-after-record"    // it is on record, not started
	RunAfterStart     Name = "run-after-start"     // it runs, and its state file does not say so
	StartAfterStart   Name = "start-after-start"   // systemd has taken the start, the agent has not noted it
	RemoveBeforeStop  Name = "remove-before-stop"  // endpoints are withdrawn, everything runs
	NetDownAfterVeth  Name = "net-down-after-veth" // the containers are stopped, the interface is gone, the namespace is not
	RemoveAfterStop   Name = "remove-after-stop"   // the units are stopped
	RemoveContainers  Name = "remove-containers"   // no container is left, the units are
	RemoveUnits       Name = "remove-units"        // the units' files are gone, systemd has not forgotten them
	RemoveBeforeState Name = "remove-before-state" // nothing is left but the pod's directory
	RemoveAfterPod    Name = "remove-after-pod"    // pod.json is gone, the rest of the directory is not
)

// Host lists the points that a host passes while it starts a pod, in that order.
func Host() []Name {
	return []Name{DesiredReceived, DesiredKept, InstallBeforeSave, SaveBeforePod, InstallAfterSave, UnitsWritten, UnitsWanted, StartAfterPull,
		AheadMade, NetAfterNamespace, NetAfterVeth, RunBeforeCreate, RunAfterCreate, RunAfterRecord, RunAfterStart, StartAfterStart}
}

// Removal lists the points that a host passes while it removes a pod, in that order.
func Removal() []Name {
	return []Name{RemoveBeforeStop, NetDownAfterVeth, RemoveAfterStop, RemoveContainers, RemoveUnits, RemoveBeforeState, RemoveAfterPod}
}

// Master lists the points of the master.
func Master() []Name { return []Name{MasterStored, MasterPlanned, MasterAssigned} }

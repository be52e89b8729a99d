// Package control holds the master's controllers as pure functions: Plan turns a Snapshot of the
// cluster into the writes that bring it nearer to what people asked for, and NewView gives the
// statuses and the directory that are read from the same Snapshot. Nothing here reads a clock,
// a store or the network.
//
// The caller carries the actions out in their order, each compare-and-set on the object's
// Metadata.Revision (0: must not exist yet), stops at the first that is refused, and plans again
// on what is there then. Every prefix of a plan leaves a state that the next Plan continues from.
// A plan on a state that is as wanted is empty.
//
// # Pods
//
// A service without volumes replaces pods one at a time and new before old: a new pod is made,
// and when all new pods are ready one old pod goes, so that never fewer than the wanted number
// are ready. A template that never gets ready thus stops the roll, with the old pods in service.
//
// A service with volumes replaces old before new: its volumes must not be in use twice. The old
// pod ends, and the new one is made once the host has reported it gone. Volumes are directories
// of a host, so the new pod carries PinLabel and waits for that host; it goes elsewhere, with
// empty volumes, only when the host object is deleted or Placement.Require no longer holds of it.
//
// # Hosts that vanish
//
// A host is lost when its lease has run out and the mesh reports it as failed; with one of both
// it is suspect, gets no new pods and keeps those it has. When a host is lost, each of its pods
// without volumes is marked Deleting and replaced elsewhere with the cause HostLost, in one plan,
// and only when another host has room for it now; until then it stays as it is. The mark is kept
// until the host returns and reports the pod gone, so that a host that was off removes it. A mark
// is never taken back: a host that returns later gets new pods as any other does.
//
// Pods with volumes stay where they are, with the reason HostLost: whether a silent host still
// writes to its volumes cannot be known from outside. Deleting the host object is how an operator
// says that a host is gone for good; when it is lost, or silent with no other host ready that could
// tell, its pods are then deleted and replaced. A host that still answers is emptied first.
//
// When more than half of the hosts (of three or more that have ever reported) are lost or suspect
// together, it is more likely that the master is cut off than that they all broke: nothing is
// moved and the reason is MassFailure.
package control

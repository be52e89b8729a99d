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
// One that is removed at once (spec.expelled) is lost whatever it does, and its pods are gone; those that run by leases, when it
// has been silent for api.SingletonSilence.
//
// The pod of a singleton (spec.singleton) is never made while one before it may run: until that one's host has reported it
// gone, or has been silent for api.SingletonSilence, when the pod's dead-man timer on that host has ended it
// (docs/adr/0008-singletons.md). What the mesh says counts for nothing there. The old pod is marked in one plan and the
// new one made in a later one.
//
// # Rebalancing
//
// Rebalance begins moves of pods that would be better off elsewhere, of services that ask for it. The new pod of a move names the
// one whose place it takes; that one then counts as outdated, and Plan does the rest (docs/adr/0012-rebalance.md).
//
// # Identity
//
// A pod of a service with spec.identity has the name SERVICE-ORDINAL, and so has the one that follows it: that one is put in
// its place in the store, once nothing of it is left. A pod that no longer runs on a silent host is renamed, in the write that
// marks it. Pods with volumes are pinned as others are, and the pod of a number that is not wanted any more stays, gone, as the
// record of its pin; those without run by leases, as that of a singleton does (docs/adr/0009-identity.md).
//
// # Mass failure
//
// When more than half of the hosts (of three or more that have ever reported) are lost or suspect
// together, it is more likely that the master is cut off than that they all broke: nothing is
// moved and the reason is MassFailure.
package control

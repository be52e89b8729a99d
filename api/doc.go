// Package api is the vocabulary of Gearmesh: the resources that people write, the state that
// master and hosts exchange, the names both use, and the rules that say what is valid.
//
// It imports the standard library only and is imported by every other package. Siblings
// (linker, dnsd, router, mesh, ...) never import each other: they exchange values of this package.
//
// A resource has Metadata, a Spec written by people (or by a controller), and a Status written
// by the system. A Revision is the store's counter at the resource's last change; it only grows.
//
// Three flows cross the wire:
//
//	people  → master   Service, Alias, Project, Host (create, replace, delete; watch)
//	master  → host     Patch: changes to the host's Desired (its pods, and the cluster's Directory)
//	host    → master   HostReport: the state of its pods, and its Endpoints
package api

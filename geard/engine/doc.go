// Package engine speaks to the container engine of this host: dockerd, or Podman's
// Docker-compatible service, over its unix socket. It is the only package that knows the client
// library; the rest of Gearmesh sees the few types below.
//
// A container of ours never has a network of the engine. It is created in network mode "host"
// with the OCI runtime RuntimeName, which puts the pod's namespace in (package oci) and refuses
// to start where none is on record. What its spec does not ask for it does not get (see apply): no capabilities but one, no new privileges. It has no restart
// policy (systemd restarts it) and carries labels that say whose it is.
//
// Docker Engine API 1.41 (dockerd 20.10) is enough: https://docs.docker.com/reference/api/engine/version/v1.41/
package engine

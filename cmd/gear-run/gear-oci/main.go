// Command gear-oci is the OCI runtime that puts containers into their pod's network (package oci). It is gear-run under
// its other name, built without all the rest: the engine calls it several times for each container, and a
// small program starts in half the time.
package main

import (
	"fmt"
	"os"

	"gearmesh.dev/geard/oci"
)

// record is podstate's Record of a real host, which would bring package api and net/http with it; a
// test holds the two together.
func record(id string) string { return "/run/gear/containers/" + id }

func main() {
	err := oci.Shim{Record: record}.Run(os.Args, os.Environ())
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

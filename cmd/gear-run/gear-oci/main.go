// Command gear-oci is the OCI runtime that puts containers into their pod's network (package oci). It is gear-run under
// its other name, built without all the rest: the engine calls it several times for each container, and the
// start of a small program takes half the time.
package main

import (
	"fmt"
	"os"

	"gearmesh.dev/geard/oci"
	"gearmesh.dev/geard/podstate"
)

func main() {
	err := oci.Shim{Record: podstate.Host().Record}.Run(os.Args, os.Environ())
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

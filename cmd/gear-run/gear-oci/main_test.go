package main

import (
	"testing"

	"gearmesh.dev/geard/podstate"
)

func TestRecord(t *testing.T) {
	if got, want := record("abc"), podstate.Host().Record("abc"); got != want {
		t.Errorf("gear-oci reads %q, gear-run writes %q", got, want)
	}
}

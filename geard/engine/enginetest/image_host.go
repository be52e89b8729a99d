//go:build host

package enginetest

import (
	"os/exec"
	"testing"
)

// importImage makes the image bb:1 of this host's own shell and a few commands, so that no registry is needed.
const importImage = `cd / && tar -ch bin/sh bin/sleep bin/true bin/cat bin/echo bin/hostname bin/dd bin/readlink usr/bin/id usr/bin/env usr/bin/tail ` +
	`$(ldd /bin/sh /bin/sleep /bin/hostname /usr/bin/id /bin/tail | grep -o '/lib[^ ]*' | sort -u | sed 's#^/##') 2>/dev/null | docker import -c 'ENV PATH=/bin:/usr/bin' - bb:1`

// ImportImage gives the engine of this host the image bb:1.
func ImportImage(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", importImage).CombinedOutput(); err != nil {
		t.Fatalf("making the image bb:1: %v\n%s", err, out)
	}
}

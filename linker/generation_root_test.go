//go:build root

package linker_test

import (
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"gearmesh.dev/linker"
)

// TestGenerationMovesWithEveryChange works in a namespace of the test's own thread.
func TestGenerationMovesWithEveryChange(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread and its namespace end with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		generation := func() uint32 {
			g, err := linker.Generation()
			if err != nil {
				t.Error(err)
			}
			return g
		}
		first := generation()
		if again := generation(); again != first {
			t.Errorf("it moved from %d to %d with no change", first, again)
		}
		if out, err := exec.Command("iptables-nft", "-N", "SOMEBODY").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		if after := generation(); after == first {
			t.Error("it did not move with a new chain")
		}
	}()
	<-done
}

func TestChosen(t *testing.T) {
	v, err := linker.Chosen(t.Context())
	if err != nil || v != linker.NFT && v != linker.Legacy {
		t.Errorf("%q, %v", v, err)
	}
}

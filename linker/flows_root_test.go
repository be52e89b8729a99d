//go:build root

package linker_test

import (
	"testing"
	"time"

	"gearmesh.dev/linker"
)

// A namespace says at once whether it has connections: one that waits for more of an answer than there is holds the agent up.
func TestFlowsAreCounted(t *testing.T) {
	w, s := linker.NewWriter(linker.HostChoice), newSpace(t)
	if err := w.Direct(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.run(t, "iptables", "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "NEW", "-j", "ACCEPT") // or nothing is tracked
	quickest := time.Hour
	quiet := func() bool {
		start := time.Now()
		is := w.Quiet(t.Context(), s.path)
		quickest = min(quickest, time.Since(start))
		return is
	}
	if !quiet() {
		t.Error("a new namespace has connections")
	}
	s.serve(t, "a", "127.0.0.1:8080")
	c, err := s.dial("tcp", "127.0.0.1:8080", patience)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 5 {
		if quiet() {
			t.Error("a connection is not counted")
		}
	}
	if quickest > 4*time.Second { // a lost answer is waited for for 5 s, each time
		t.Errorf("the quickest of six took %s", quickest)
	}
}

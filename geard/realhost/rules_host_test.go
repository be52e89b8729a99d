//go:build host

package realhost

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"gearmesh.dev/geard"
	"gearmesh.dev/geard/podstate"
)

// TestHostRulesAreWatched sees that a flush by somebody else is noticed at once, and the agent's own changes are not.
func TestHostRulesAreWatched(t *testing.T) {
	dirs := podstate.Host()
	if err := os.MkdirAll(dirs.State+"/agent", 0o700); err != nil {
		t.Fatal(err)
	}
	h := New(dirs, nil, nil, slog.New(slog.DiscardHandler))
	rules := geard.HostRules{Address: netip.MustParseAddr("192.0.2.1"), Members: []netip.Addr{netip.MustParseAddr("192.0.2.2")}}
	lay := func() {
		t.Helper()
		if err := h.HostRules(t.Context(), rules); err != nil {
			t.Fatal(err)
		}
	}
	lay()
	ctx, cancel := context.WithCancel(t.Context())
	touched, ended := make(chan struct{}, 1000), make(chan error, 1)
	go func() { ended <- h.WatchRules(ctx, func() { touched <- struct{}{} }) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	flush := func() {
		t.Helper()
		if out, err := exec.Command("iptables", "-t", "nat", "-F", "GEAR-PREROUTING").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	heard := func() bool {
		select {
		case <-touched:
			return true
		case <-time.After(time.Second):
			return false
		}
	}
	for flush(); !heard(); flush() { // it may not listen yet; the test's own time limit ends this
		lay()
	}
	lay()
	for len(touched) > 0 {
		<-touched
	}
	rules.Members = append(rules.Members, netip.MustParseAddr("192.0.2.3"))
	lay()
	if heard() && h.stands() {
		t.Error("the agent's own change woke it")
	}
}

//go:build host

package realhost

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
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
	// What the agent wrote is read once more, and then there is quiet. On a slow machine a word of it may come after a second of quiet.
	rules.Members = append(rules.Members, netip.MustParseAddr("192.0.2.3"))
	lay()
	for range 60 {
		if !heard() && h.stands(t.Context()) {
			break
		}
		lay()
	}
	if !h.stands(t.Context()) {
		t.Error("nobody has changed anything, and the rules do not count as right")
	}
}

// TestHostRulesThatWereFlushedAreRead flushes a table just before the agent changes another one: that must not be
// written without a look at what is there.
func TestHostRulesThatWereFlushedAreRead(t *testing.T) {
	dirs := podstate.Host()
	if err := os.MkdirAll(dirs.State+"/agent", 0o700); err != nil {
		t.Fatal(err)
	}
	h := New(dirs, nil, nil, slog.New(slog.DiscardHandler))
	rules := geard.HostRules{Address: netip.MustParseAddr("192.0.2.1"), Members: []netip.Addr{netip.MustParseAddr("192.0.2.2")}}
	raw := func() string {
		t.Helper()
		if err := h.HostRules(t.Context(), rules); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("iptables-save", "-t", "raw").Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	raw()
	want := raw()
	if !h.stands(t.Context()) || !strings.Contains(want, "-A GEAR-RAW -i lo -j RETURN") {
		t.Fatalf("laid twice, with nobody else about: %t\n%s", h.stands(t.Context()), want)
	}
	if out, err := exec.Command("iptables", "-t", "raw", "-F").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	rules.Members = append(rules.Members, netip.MustParseAddr("192.0.2.3"))
	if got := withoutCounters(raw()); got != withoutCounters(want) {
		t.Errorf("the table is\n%s\nand was\n%s", got, want)
	}
}

// withoutCounters leaves out what differs between two looks at the same rules: comments and counts of packets.
func withoutCounters(saved string) string {
	var b strings.Builder
	for line := range strings.Lines(saved) {
		if strings.HasPrefix(line, "-A ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

//go:build host

package journal

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestHostReadsWhatUnitsWrite writes through a real unit and reads it back, lines with control
// characters included, first from the past and then by following.
func TestHostReadsWhatUnitsWrite(t *testing.T) {
	write := func(text string) {
		t.Helper()
		out, err := exec.Command("systemd-run", "--wait", "--collect", "--property=LogExtraFields=GEAR_POD=journal-test", "/usr/bin/printf", text).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	write(`first\n\033[31mred\nforged\rline\n`)
	q := Query{Tail: All, Match: []string{"GEAR_POD=journal-test", "_TRANSPORT=stdout"}}
	var got []string
	for end := time.Now().Add(3 * time.Minute); len(got) < 3 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) { // journald takes a moment
		got = nil
		for e, err := range Read(t.Context(), q) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Text)
		}
	}
	if want := `first|\x1b[31mred|forged\x0dline`; strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	q.Follow, q.Tail = true, 1
	seen := 0
	for e, err := range Read(ctx, q) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen == 1 {
			write(`later\n`)
			continue
		}
		if e.Text != "later" {
			t.Errorf("followed %q", e.Text)
		}
		break
	}
	if seen != 2 {
		t.Errorf("followed %d entries, want 2", seen)
	}
}

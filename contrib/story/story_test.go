//go:build lab

package story

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gearmesh.dev/contrib/lab"
)

// TestLabStory tells the whole story in a lab of its own, then goes on with faults.
func TestLabStory(t *testing.T) { tell(t, "story", Boot(), Guestbook(), Faults(), End()) }

// TestNodeStory shows what a single host can do and bear: make test-node.
func TestNodeStory(t *testing.T) {
	begin := Guestbook()
	tell(t, "node", Boot(), begin[:5], Tools(), Neighbours(), Waiting(), Choosing(), Elsewhere(), Resolver(), Hosting(), End())
}

// TestLabFailover moves databases behind addresses that stay, with clients that hold their connections.
func TestLabFailover(t *testing.T) { tell(t, "failover", Boot(), Failover(), End()) }

// TestLabStateful shows pods with an identity.
func TestLabStateful(t *testing.T) { tell(t, "stateful", Boot(), Stateful(), End()) }

// TestLabMasters shows whom a cluster trusts, and three masters.
func TestLabMasters(t *testing.T) {
	tell(t, "masters", Boot(), Trust(), Guestbook()[:2], Masters(), End())
}

// tell goes through parts of the story in a lab of the test's own.
func tell(t *testing.T, name string, parts ...[]Step) { tellOn(t, name, nil, parts...) }

// tellOn does so on hosts with further Debian packages.
func tellOn(t *testing.T, name string, packages []string, parts ...[]Step) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	bin := func(name string) string { return filepath.Join(root, "bin", name) }
	l, err := lab.New(lab.Config{Name: labName(name), Packages: packages, Binaries: []string{bin("gear"), bin("geard"), bin("gear-run")},
		Progress: func(s lab.Step) { t.Logf("%s %s %.1f s", s.Host, s.What, s.Elapsed.Seconds()) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := l.Down(ctx); err != nil { // what a run that was killed left
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("KEEP_LAB") != "" {
			t.Logf("the lab is kept: bin/gear lab list --lab %s", labName(name))
			return
		}
		if err := l.Down(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	})
	w := &World{Lab: l, Root: root, Say: t.Logf}
	for _, s := range slices.Concat(parts...) {
		start := time.Now()
		if !t.Run(s.Name, func(t *testing.T) {
			if err := s.Do(ctx, w); err != nil {
				t.Fatal(err)
			}
		}) {
			w.Report(ctx, t.Logf)
			t.FailNow()
		}
		t.Logf("✔ %s %.1f s", s.Name, time.Since(start).Seconds())
	}
}

// labName gives the name of a test's lab. LAB_PREFIX (a few letters) lets two test runs share a machine.
func labName(name string) string { return os.Getenv("LAB_PREFIX") + name }

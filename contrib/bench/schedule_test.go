package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// TestSimulation lets a small cluster of P7 be placed: every decision keeps the constraints and is the one of the naive scan.
func TestSimulation(t *testing.T) {
	for seed := range uint64(3) {
		s := simulate(generated(seed, 60, 1500), seed)
		if s.broken != 0 || s.other != 0 || s.placed < 1000 || len(s.took) != 1500 || s.ended == 0 {
			t.Errorf("seed %d: %d placed, %d against a constraint, %d of %d otherwise than the naive scan, %d ended", seed, s.placed, s.broken, s.other, len(s.naive), s.ended)
		}
	}
}

// TestReferenceSeesWhatIsBroken: the figure of broken constraints can be other than 0.
func TestReferenceSeesWhatIsBroken(t *testing.T) {
	c := generated(1, 60, 1500)
	ref, broken := newReference(c), 0
	for i := range c.Pods {
		q := requestOf(&c.Pods[i], ref.services[keyOf(&c.Pods[i])])
		on := c.Hosts[i%len(c.Hosts)].Metadata.Name
		if !ref.fits(q, on) {
			broken++
		}
		ref.take(q, on)
	}
	if broken < 100 {
		t.Errorf("%d of %d pods are against a constraint when the constraints are not looked at", broken, len(c.Pods))
	}
}

func TestRecorded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cluster.json")
	text, err := json.Marshal(generated(1, 10, 50))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := recorded(file)
	if err != nil || len(c.Hosts) != 10 || len(c.Pods) != 50 {
		t.Fatalf("got %+v, %v", c, err)
	}
	if s := simulate(c, 1); s.placed == 0 || s.broken+s.other > 0 {
		t.Errorf("%d of a recorded cluster are placed, %d broken, %d otherwise", s.placed, s.broken, s.other)
	}
	if err := os.WriteFile(file, []byte(`{"hosts":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := recorded(file); err == nil {
		t.Error("an empty cluster is taken")
	}
}

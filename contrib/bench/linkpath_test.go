package main

import (
	"net/netip"
	"testing"
	"time"

	"gearmesh.dev/contrib/figures"
	"gearmesh.dev/linker"
)

// What a pod's rules are made of does not depend on how many services others have.
func TestPathClusters(t *testing.T) {
	pod := netip.MustParseAddr("10.127.1.1")
	few, err := linker.PodPlan(pod, clusterLinks(10))
	if err != nil {
		t.Fatal(err)
	}
	many, err := linker.PodPlan(pod, clusterLinks(10_000))
	if err != nil || !many.Equal(few) {
		t.Errorf("with 10,000 services in the cluster the rules are\n%s\nwith 10\n%s\n%v", many, few, err)
	}
	all := everyLink(10_000)
	if _, err := linker.PodPlan(pod, all); err != nil {
		t.Error(err)
	}
	if last := all[len(all)-1].Backends[0]; last != pathLink() {
		t.Errorf("the last of all links leads to %s, want %s", last, pathLink())
	}
}

func TestServeAndPour(t *testing.T) {
	at, err := serveAt(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if _, err := echo(at); err != nil {
			t.Fatal(err)
		}
	}
	for d := 20 * time.Millisecond; ; d *= 4 { // a slow machine needs more than that for a buffer
		n, _, err := pour(at, d)
		if err == nil && n >= buffer-1 {
			break
		}
		if err != nil || d > time.Minute {
			t.Fatalf("%d bytes in %v, %v", n, d, err)
		}
	}
	if _, err := echo(netip.MustParseAddrPort("127.0.0.1:1")); err == nil {
		t.Error("nobody listens, and it answers")
	}
}

// A ratio is that of the rounds, not of what the machine had to do meanwhile.
func TestAgainst(t *testing.T) {
	r := against(figures.Amounts("x", "", "MiB/s", []float64{98, 49, 980}), "direct", []float64{100, 50, 1000})
	if r.Value != 98 || r.Ratio != 0.98 || !*notLess(r).Met || !*notSlower(r).Met {
		t.Errorf("got %+v", r)
	}
	r = against(figures.Amounts("x", "", "µs", []float64{110, 55, 20}), "direct", []float64{100, 50, 20})
	if *notSlower(r).Met {
		t.Errorf("10 %% slower is not: %+v", r)
	}
	r = against(figures.Amounts("x", "", "MiB/s", []float64{95, 95, 100}), "direct", []float64{100, 100, 100})
	if *notLess(r).Met {
		t.Errorf("5 %% less is not: %+v", r)
	}
}

func TestPathRows(t *testing.T) {
	s := func(rate, connect float64, rules int) *pathSamples {
		return &pathSamples{Rate: []float64{rate}, Connect: []float64{connect}, CPU: []float64{1}, CPUEach: []float64{1}, Rules: rules}
	}
	r := pathResult{Ways: map[string]*pathSamples{byLink: s(99, 101, 0), byDirect: s(100, 100, 0), byProxy: s(30, 300, 0)}, All: s(90, 200, 9), Beside: s(100, 100, 9),
		Sizes: map[int]*pathSamples{10: s(99, 101, 5), 1_000: s(99, 101, 5), 10_000: s(99, 101, 6)}}
	missed := ""
	for _, row := range pathRows(r) {
		if row.Met != nil && !*row.Met {
			missed += row.ID + " "
		}
	}
	if missed != "P5.10000.rules " {
		t.Errorf("missed: %q; only the rule that is too much should be", missed)
	}
}

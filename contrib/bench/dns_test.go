package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadPerf(t *testing.T) {
	const good = "  Queries completed:    240 (99.17%)\n  Queries lost:         2 (0.83%)\n\n  Response codes:       NOERROR 240 (100.00%)\n  Queries per second:   120.5\n"
	completed, lost, qps, err := readPerf(good)
	if err != nil || completed != 240 || lost != 2 || qps != 120.5 {
		t.Errorf("%v %v %v %v", completed, lost, qps, err)
	}
	for _, bad := range []string{"", strings.Replace(good, "lost", "gone", 1), strings.Replace(good, "240 (100.00%)", "239 (99.58%), SERVFAIL 1 (0.42%)", 1),
		strings.Replace(good, "NOERROR", "NXDOMAIN", 1)} {
		if _, _, _, err := readPerf(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestLatency99(t *testing.T) {
	var text strings.Builder
	for i := range dnsNames {
		fmt.Fprintf(&text, "> NOERROR s%d.p1.gear.internal A 0.%06d\n", i, i)
	}
	if got, err := latency99(text.String() + "Statistics:\n"); err != nil || got != 9.9 {
		t.Errorf("%v, %v; want 9.9 ms", got, err)
	}
	for _, bad := range []string{"", "> NOERROR x A 0.1\n", strings.Replace(text.String(), "0.000007", "soon", 1)} {
		if _, err := latency99(bad); err == nil {
			t.Errorf("%.40q is taken", bad)
		}
	}
}

func TestNameRows(t *testing.T) {
	known := map[string][]dnsFigure{"knot": {{qps: 100}, {qps: 90}}, "dnsd": {{qps: 99}, {qps: 97, lost: 1}}, "unbound": {{qps: 50}}, "dnsmasq": {{qps: 50}}}
	rows := nameRows(known, known)
	if r := rows[0]; r.ID != "P6" || r.Value != 98 || r.Ratio <= 1 || !*r.Met {
		t.Errorf("%+v", r)
	}
	if r := rows[1]; r.ID != "P6.lost" || r.Value != 1 || *r.Met {
		t.Errorf("%+v", r)
	}
}

// Every name is asked for once, and every server has it.
func TestNamesOfTheServers(t *testing.T) {
	dir := t.TempDir()
	if err := writeQueries(dir); err != nil {
		t.Fatal(err)
	}
	if err := writeConfigs(dir); err != nil {
		t.Fatal(err)
	}
	read := func(file string) string {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	asked, zone, hosts, unbound := map[string]bool{}, read("gear.zone"), read("hosts"), read("unbound.conf")
	for line := range strings.Lines(read("names")) {
		asked[strings.TrimSuffix(line, " A\n")] = true
	}
	if len(asked) != dnsNames {
		t.Errorf("%d names are asked for", len(asked))
	}
	for _, i := range []int{0, 7, dnsNames - 1} {
		name, at := benchName(i, domain), benchAddress(i).String()
		if !asked[name] || !strings.Contains(zone, name+". 5 A "+at) || !strings.Contains(hosts, at+" "+name+"\n") || !strings.Contains(unbound, name+". 5 A "+at) {
			t.Errorf("%s is not everywhere", name)
		}
	}
}

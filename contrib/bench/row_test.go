package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		samples []float64
		want    float64
	}{{nil, 0}, {[]float64{7}, 7}, {[]float64{9, 1}, 5}, {[]float64{100, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := median(c.samples); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.samples, got, c.want)
		}
	}
}

func TestRowGoals(t *testing.T) {
	ms := func(n ...time.Duration) (out []time.Duration) {
		for _, d := range n {
			out = append(out, d*time.Millisecond)
		}
		return out
	}
	r := times("P1", "start", ms(330, 220, 900))
	if r.Value != 330 || r.Met != nil {
		t.Fatalf("%+v: want 330 ms and no goal", r)
	}
	if got := r.against("docker", 300).noMoreThan(1.1); !*got.Met || got.Ratio != 1.1 || got.Peer != "300 ms docker" {
		t.Errorf("%+v: want the goal met at a ratio of 1.1", got)
	}
	if got := r.against("docker", 299).noMoreThan(1.1); *got.Met {
		t.Errorf("%+v: want the goal missed", got)
	}
	if got := r.against("docker", 0).noMoreThan(1.1); *got.Met {
		t.Errorf("%+v: a peer that measured nothing meets no goal", got)
	}
	if got := r.slowest().atMost(899); *got.Met || got.Value != 900 {
		t.Errorf("%+v: want 900 ms, missed", got)
	}
}

func TestPick(t *testing.T) {
	ids := func(chosen []part) string {
		var s []string
		for _, p := range chosen {
			s = append(s, p.id)
		}
		return strings.Join(s, " ")
	}
	for only, want := range map[string]string{"": ids(parts()), "P3,P1": "P1 P3", "P11": "P11", "P1, P9": "P1 P9"} {
		if got, err := pick(parts(), only); err != nil || ids(got) != want {
			t.Errorf("pick(%q) = %s, %v; want %s", only, ids(got), err, want)
		}
	}
	if _, err := pick(parts(), "P1,P77"); err == nil || !strings.Contains(err.Error(), `"P77"`) {
		t.Errorf("an unknown id gives the error %v", err)
	}
}

func TestOutput(t *testing.T) {
	rows := []Row{
		amounts("P9", "agent", "MiB", []float64{31, 29, 33}).atMost(30),
		amounts("P9.cpu", "agent", "%", []float64{0.1}).atMost(0.3),
		amounts("P9.run", "gear-run", "MiB", []float64{2.125}),
	}
	var table bytes.Buffer
	if err := printTable(&table, rows); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(table.String(), "\n")
	for i, end := range []string{"met", "missed", " met", " -"} {
		if !strings.HasSuffix(lines[i], end) {
			t.Errorf("line %q does not end with %q", lines[i], end)
		}
	}
	file := filepath.Join(t.TempDir(), "bench.json")
	if err := saveJSON(file, rows); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var back []Row
	if err := json.Unmarshal(text, &back); err != nil || len(back) != 3 || *back[0].Met || back[0].Value != 31 || back[2].Met != nil {
		t.Errorf("%s: %v", text, err)
	}
}

func TestSpan(t *testing.T) {
	got, err := span("1763805600000000000 2025-11-22T10:00:00.25Z\n")
	if err != nil || got != 250*time.Millisecond {
		t.Errorf("span = %v, %v; want 250ms", got, err)
	}
	for _, bad := range []string{"", "x 2025-11-22T10:00:00Z", "1763805600000000000 soon"} {
		if _, err := span(bad); err == nil {
			t.Errorf("span(%q) gives no error", bad)
		}
	}
}

func TestReadProcesses(t *testing.T) {
	stat := "stat 7 (geard) S 1 7 7 0 -1 4194560 1 2 3 4 %s 6 4 20 0 9"
	text := "process gear-agent\n55 7ffd r--p 0 00:00 0 [rollup]\nRss:  40960 kB\nPss:  10240 kB\nPrivate_Clean: 1024 kB\nPrivate_Dirty: 4096 kB\n" +
		strings.Replace(stat, "%s", "100 50", 1) + "\n"
	got, err := readProcesses(text)
	if err != nil || len(got) != 1 || got[0] != (process{name: "gear-agent", pss: 10, private: 5, ticks: 160}) {
		t.Fatalf("readProcesses = %+v, %v", got, err)
	}
	later := got[0]
	later.ticks += 15
	var u usage
	u.add("gear-agent", got, []process{later, {name: "gear-run"}}, 30*time.Second)
	if u.count != 1 || u.cpu[0] != 0.5 || u.pss[0] != 10 {
		t.Errorf("usage = %+v, want 0.5 %% of a core", u)
	}
	for _, bad := range []string{"Pss: 1 kB", "process x\nPss:\n", "process x\nstat 1 2\n"} {
		if _, err := readProcesses(bad); err == nil {
			t.Errorf("readProcesses(%q) gives no error", bad)
		}
	}
}

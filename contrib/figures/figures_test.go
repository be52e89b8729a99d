package figures

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
		if got := Median(c.samples); got != c.want {
			t.Errorf("Median(%v) = %v, want %v", c.samples, got, c.want)
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
	r := Times("P1", "start", ms(330, 220, 900))
	if r.Value != 330 || r.Met != nil {
		t.Fatalf("%+v: want 330 ms and no goal", r)
	}
	if got := r.Against("docker", 300).NoMoreThan(1.1); !*got.Met || got.Ratio != 1.1 || got.Peer != "300 ms docker" {
		t.Errorf("%+v: want the goal met at a ratio of 1.1", got)
	}
	if got := r.Against("docker", 299).NoMoreThan(1.1); *got.Met {
		t.Errorf("%+v: want the goal missed", got)
	}
	if got := r.Against("docker", 0).NoMoreThan(1.1); *got.Met {
		t.Errorf("%+v: a peer that measured nothing meets no goal", got)
	}
	if got := r.Slowest().AtMost(899); *got.Met || got.Value != 900 {
		t.Errorf("%+v: want 900 ms, missed", got)
	}
}

func TestOutput(t *testing.T) {
	rows := []Row{
		Amounts("P9", "agent", "MiB", []float64{31, 29, 33}).AtMost(30),
		Amounts("P9.cpu", "agent", "%", []float64{0.1}).AtMost(0.3),
		Amounts("P9.run", "gear-run", "MiB", []float64{2.125}),
	}
	var table bytes.Buffer
	if err := Print(&table, rows); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(table.String(), "\n")
	for i, end := range []string{"met", "missed", " met", " -"} {
		if !strings.HasSuffix(lines[i], end) {
			t.Errorf("line %q does not end with %q", lines[i], end)
		}
	}
	file := filepath.Join(t.TempDir(), "bench.json")
	if err := Save(file, rows); err != nil {
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

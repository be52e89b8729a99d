package main

import (
	"io"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	o, err := parse([]string{"-only", "P3", "-lab", "mine", "-runs", "2"}, io.Discard)
	if err != nil || o.Only != "P3" || o.Lab != "mine" || o.runs != 2 || o.Bin != "bin" {
		t.Errorf("parse gives %+v, %v", o, err)
	}
	for _, bad := range [][]string{{"-runs", "0"}, {"-parallel", "-1"}, {"P1"}, {"-nonsense"}} {
		if _, err := parse(bad, io.Discard); err == nil {
			t.Errorf("%q is taken", bad)
		}
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

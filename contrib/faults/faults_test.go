package main

import (
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// whole is what lookScript prints on a host with one pod and nothing else.
const whole = `container c1c1c1c1c1c1c1c1 2026-01-01T00:00:00Z 77 aaaaaaaaaaaaaaaa web true
namespace aaaaaaaaaaaaaaaa
directory aaaaaaaaaaaaaaaa
runtime aaaaaaaaaaaaaaaa
record c1c1c1c1c1c1c1c1
unit aaaaaaaaaaaaaaaa
veth gvaaaaaaaaaaaa
port tcp 20001 10.127.0.5
port udp 20001 10.127.0.6
process agent 20480 30 9 40
process gear-guestbook-web-x.service 6000 9 8 0
mounts 30
`

func seen(t *testing.T, text string) view {
	t.Helper()
	s, err := readSight("h1", text)
	if err != nil {
		t.Fatal(err)
	}
	return view{"h1": s}
}

func TestResidueIsSeen(t *testing.T) {
	if err := seen(t, whole).residue(); err != nil {
		t.Errorf("a host as it should be has residue: %v", err)
	}
	for what, text := range map[string]string{
		"namespace":        whole + "namespace bbbbbbbbbbbbbbbb\n",
		"directory":        whole + "directory bbbbbbbbbbbbbbbb\n",
		"unit":             whole + "unit bbbbbbbbbbbbbbbb\n",
		"link":             whole + "veth gvbbbbbbbbbbbb\n",
		"record":           whole + "record dddddddddddddddd\n",
		"second copy":      whole + "container c2c2c2c2c2c2c2c2 2026-01-01T00:00:00Z 78 aaaaaaaaaaaaaaaa web true\n",
		"container not up": strings.Replace(whole, "directory aaaaaaaaaaaaaaaa\n", "", 1),
	} {
		if err := seen(t, text).residue(); err == nil {
			t.Errorf("%s: not seen", what)
		}
	}
}

func TestChangesAreSeen(t *testing.T) {
	r := &rig{mayChange: map[string]bool{}}
	before := seen(t, whole)
	if err := r.untouched(before, seen(t, whole)); err != nil {
		t.Error(err)
	}
	for _, change := range []string{"c1c1", "77", "00:00:00Z", "true"} {
		if r.untouched(before, seen(t, strings.ReplaceAll(whole, change, "9"))) == nil {
			t.Errorf("a container whose %q changed counts as untouched", change)
		}
	}
	r.mayChange["h1"] = true
	if err := r.untouched(before, seen(t, "")); err != nil {
		t.Errorf("a host that was rebooted may lose its containers: %v", err)
	}
}

func TestNewContainersAreCounted(t *testing.T) {
	before := seen(t, whole)
	if n := made(before, seen(t, strings.ReplaceAll(whole, "77", "78"))); n != 0 {
		t.Errorf("%d containers count as new, and there is only a change", n)
	}
	if n := made(before, seen(t, strings.ReplaceAll(whole, "c1c1", "c2c2"))); n != 1 {
		t.Errorf("%d containers count as new, want 1", n)
	}
}

func TestUnhealthyIsSeen(t *testing.T) {
	if units, ports := seen(t, whole).healthy(); units != nil || ports != nil {
		t.Errorf("%v, %v", units, ports)
	}
	units, ports := seen(t, whole+"failed gear-x.service\nport tcp 20001 10.127.0.9\n").healthy()
	if units == nil || ports == nil {
		t.Errorf("a failed unit gives %v, a port given twice %v", units, ports)
	}
	for _, bad := range []string{"container x\n", "alone\n", "nonsense 1\n", "process agent 1 2 x 1\n", "mounts x\n"} {
		if _, err := readSight("h1", bad); err == nil {
			t.Errorf("%q is taken for a fact", bad)
		}
	}
}

func TestLeaksAreSeen(t *testing.T) {
	first := seen(t, whole)
	if err := bounded(first, seen(t, strings.Replace(whole, "20480 30 9 40", "30000 35 12 50", 1))); err != nil {
		t.Errorf("what comes and goes: %v", err)
	}
	for what, change := range map[string][2]string{
		"memory":     {"20480 30 9 40", "90000 30 9 40"},
		"files":      {"20480 30 9 40", "20480 60 9 40"},
		"threads":    {"20480 30 9 40", "20480 30 59 40"},
		"goroutines": {"20480 30 9 40", "20480 30 9 90"},
		"gear-run":   {"6000 9 8 0", "6000 39 8 0"},
		"mounts":     {"mounts 30", "mounts 40"},
	} {
		if bounded(first, seen(t, strings.Replace(whole, change[0], change[1], 1))) == nil {
			t.Errorf("%s: not seen", what)
		}
	}
}

func TestParse(t *testing.T) {
	for _, bad := range [][]string{{"-scale", "0"}, {"-loss", "0s"}} {
		if _, err := parse(bad, io.Discard); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestFakeRegistry(t *testing.T) {
	if how, real := split("/v2/lie/web/blobs/sha256:1"); how != "lie" || real != "/v2/guestbook/web/blobs/sha256:1" {
		t.Errorf("split gives %q and %q", how, real)
	}
	if _, real := split("/v2/"); real != "/v2/" {
		t.Errorf("the registry's root becomes %q", real)
	}
	w := httptest.NewRecorder()
	pass(w, strings.NewReader("the bytes of a blob"), "lie", true)
	if got := w.Body.Bytes(); len(got) != 19 || slices.Equal(got, []byte("the bytes of a blob")) {
		t.Errorf("a lie is %q", got)
	}
	w = httptest.NewRecorder()
	pass(w, strings.NewReader("a manifest"), "lie", false)
	if w.Body.String() != "a manifest" {
		t.Errorf("a manifest becomes %q", w.Body)
	}
}

func TestOverlap(t *testing.T) {
	list := func(text string) []time.Time {
		out, err := readAlive(text)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	began := time.Unix(0, 100)
	for _, tc := range []struct {
		old, next string
		twice     bool
	}{
		{"90 150 200", "201 250", false},
		{"90 150 200", "20 30 201", false}, // it had been there before
		{"90 150 200", "200 250", true},
		{"90 150 300", "201 250", true},
		{"90", "", false},
	} {
		if got := overlap(list(tc.old), list(tc.next), began); (got > 0) != tc.twice {
			t.Errorf("%q and then %q overlap for %s", tc.old, tc.next, got)
		}
	}
	if _, err := readAlive("x"); err == nil {
		t.Error("x is taken for a time")
	}
}

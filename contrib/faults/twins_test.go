package main

import (
	"slices"
	"strings"
	"testing"
)

// TestTwinsAreSeen: a second effect, a lost one, and another answer would show.
func TestTwinsAreSeen(t *testing.T) {
	lives := map[string]string{}
	see := livesOf(lives)
	file := etcdFile(t, `project/twin-a {"metadata":{}}`, `service/x/twin-a {}`, `project/twin-a {"metadata":{"labels":{"value":"one"}}}`,
		`project/twin-a {"metadata":{"labels":{"value":"two"}}}`, `project/twin-a {"metadata":{"labels":{"value":"two"},"deleting":true}}`, `project/twin-a`,
		`project/twin-a {"metadata":{}}`, `project/twin-a {"metadata":{"deleting":true}}`, `project/twin-a`, `project/twin-b {"metadata":{}}`, `project/twin-b {"metadata":{}}`)
	if err := readStore(file, see); err != nil {
		t.Fatal(err)
	}
	w := &twins{sent: map[string]int{"twin-a": 1}, said: map[string]string{}, say: t.Logf}
	if n, err := w.strange(lives); n != 0 {
		t.Errorf("the life that was asked for is strange: %v", err)
	}
	w.sent["twin-b"], w.sent["twin-c"] = 1, 1
	if n, _ := w.strange(lives); n != 2 || lives["twin-b"] != "made, made" {
		t.Errorf("%d are strange: %q", n, lives)
	}
	w.compare("k", []string{"200 created {}", "200 created {}"})
	if w.others != 0 {
		t.Error("the same answers count as others")
	}
	w.compare("k", []string{"200 created {}", "409 {}"})
	w.compare("j", []string{"409 {}"})
	if w.others != 2 {
		t.Errorf("%d other answers, want 2", w.others)
	}
}

// TestTwinRequestsMakeTwinLife: each key has its effect once, in the order of the words.
func TestTwinRequestsMakeTwinLife(t *testing.T) {
	var words, keys []string
	for _, r := range twinRequests() {
		if r.again != slices.Contains(keys, r.key) {
			t.Errorf("%s again: %t", r.key, r.again)
		}
		keys = append(keys, r.key)
		switch {
		case r.again:
		case r.method == "POST":
			words = append(words, "made")
		case r.method == "PUT":
			words = append(words, "label "+r.label)
		default:
			words = append(words, "deleting", "gone")
		}
	}
	if got := strings.Join(words, ", "); got != twinLife {
		t.Errorf("the requests give %q", got)
	}
}

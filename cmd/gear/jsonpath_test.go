package main

import (
	"bytes"
	"testing"
)

// What a path finds stays one line, keeps its digits, and does not steer the terminal.
func TestValuesOfAPath(t *testing.T) {
	v := map[string]any{"message": "a\n\x1b[31mred\u202e", "big": int64(1)<<60 + 1, "list": []any{"x", nil, true, 1.5}, "deep": map[string]any{"b": 2, "a": "1"}}
	for path, want := range map[string]string{
		"$.message":       "a\uFFFD\uFFFD[31mred\uFFFD\n",
		"$.big":           "1152921504606846977\n",
		"$.list[*]":       "x\nnull\ntrue\n1.5\n",
		"$.list[::-1]":    "1.5\ntrue\nnull\nx\n",
		"$.deep.*":        "1\n2\n",
		"$.deep['b','a']": "2\n1\n",
		"$..a":            "1\n",
		"$.deep":          `{"a":"1","b":2}` + "\n",
		"$.nosuch[0].x":   "",
	} {
		var out bytes.Buffer
		a := &app{streams: streams{out: &out}}
		if err := a.printValue(v, jsonPathPrefix+path); err != nil || out.String() != want {
			t.Errorf("%s prints %q, %v; want %q", path, out.String(), err, want)
		}
	}
}

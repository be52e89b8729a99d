package main

import (
	"testing"

	"gearmesh.dev/api"
)

// Every field that somebody may write says what it means.
func TestEveryFieldIsExplained(t *testing.T) {
	for _, k := range api.Kinds() {
		f := kindField(k)
		if f.Doc == "" || len(f.Fields) < 3 {
			t.Errorf("%s: %q, %d fields", k, f.Doc, len(f.Fields))
		}
		for _, x := range f.Fields {
			explained(t, x)
		}
	}
}

func explained(t *testing.T, f field) {
	t.Helper()
	if f.Type == "" || f.Doc == "" && len(f.Fields) == 0 {
		t.Errorf("%s is %q and says nothing", f.Path, f.Type)
	}
	for _, x := range f.Fields {
		explained(t, x)
	}
}

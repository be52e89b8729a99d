package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"gearmesh.dev/api"
)

func TestYAMLToJSON(t *testing.T) {
	tests := map[string]struct{ yaml, want string }{
		"scalars":        {"a: 1\nb: x\nc: true\nd: null\ne: 1.5\nf: '1'\ng: ~", `{"a":1,"b":"x","c":true,"d":null,"e":1.5,"f":"1","g":null}`},
		"flow":           {"{a: [1, {b: 2}], c: []}", `{"a":[1,{"b":2}],"c":[]}`},
		"block text":     {"a: |\n  x\n  y\nb: >\n  p\n  q\n", `{"a":"x\ny\n","b":"p q\n"}`},
		"anchor":         {"a: &x {k: 1}\nb: *x", `{"a":{"k":1},"b":{"k":1}}`},
		"merge":          {"a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  k: 3", `{"a":{"k":1,"l":2},"b":{"k":3,"l":2}}`},
		"quoted key":     {`"a b": 1`, `{"a b":1}`},
		"control bytes":  {`a: "\u0001\n\e"`, "{\"a\":\"\\u0001\\n\\u001b\"}"},
		"json":           {`{"a": ["x", 1, null], "b": {"c": "\u00e9"}}`, `{"a":["x",1,null],"b":{"c":"é"}}`},
		"!!str":          {"a: !!str 1", `{"a":"1"}`},
		"a single entry": {"- a: 1", `[{"a":1}]`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			docs, err := parseYAML("f", []byte(tt.yaml))
			if err != nil || len(docs) != 1 {
				t.Fatalf("%d documents, %v", len(docs), err)
			}
			if got := string(docs[0].json); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestYAMLPlaces(t *testing.T) {
	docs, err := parseYAML("f", []byte("# first\nspec:\n  containers:\n    - image: a\n      env: {A: b}\n    - image: c\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]position{"": {2, 1}, "spec": {2, 1}, "spec.containers": {3, 3}, "spec.containers[0]": {4, 7}, "spec.containers[0].image": {4, 7},
		"spec.containers[0].env": {5, 7}, "spec.containers[0].env.A": {5, 13}, "spec.containers[1]": {6, 7}, "spec.containers[1].image": {6, 7}}
	if d := cmp.Diff(want, docs[0].at, cmp.AllowUnexported(position{})); d != "" {
		t.Error(d)
	}
}

// FuzzYAML compares our reading with the library's own: where both can read a text, they agree.
// Whatever the text, what we make of it is JSON, and reading a manifest ends with an answer.
func FuzzYAML(f *testing.F) {
	for _, s := range []string{"a: 1", "kind: Service\nmetadata: {name: web, project: shop}\nspec: {containers: [{image: \"web:1\"}]}", "a: &x [1]\nb: *x",
		"a: &x {b: 1}\nc: {<<: *x}", "- |\n x\n- >\n y", "? a\n: b", "a: !!binary aGk=", "{\"a\": 1}", "&a [*a]", "a: .inf", "%YAML 1.2\n---\na: 1", "\x00", "a: \"\\x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		docs, err := parseDocuments("f.yaml", []byte(text))
		if err != nil {
			if asProblem(err).code != exitUsage {
				t.Fatalf("%v", err)
			}
			return
		}
		for _, d := range docs {
			if !json.Valid(d.json) {
				t.Fatalf("no JSON: %s", d.json)
			}
			if _, err := d.read("shop"); err != nil && asProblem(err).code != exitUsage {
				t.Fatalf("%v", err)
			}
		}
		if strings.ContainsAny(text, "&*!<") || len(docs) != 1 {
			return // anchors, tags and merges are read in more ways than one
		}
		agree(t, text, docs[0].json)
	})
}

// agree compares with yaml.YAMLToJSON, as values.
func agree(t *testing.T, text string, ours []byte) {
	theirs, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return
	}
	var a, b any
	var once map[string]any
	if json.Unmarshal(ours, &a) != nil || json.Unmarshal(theirs, &b) != nil || api.Decode(ours, &once) != nil {
		return // a key given twice, which we leave to api.Decode
	}
	if words(a) && !cmp.Equal(a, b) {
		t.Errorf("we read %s\nthe library %s", ours, theirs)
	}
}

// words tells whether all keys and texts are plain words: the library writes numbers and
// characters of other kinds in its own way.
func words(v any) bool {
	switch v := v.(type) {
	case string:
		return word.MatchString(v)
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { return !words(e) })
	case map[string]any:
		for k, e := range v {
			if !word.MatchString(k) || k == "true" || k == "false" || k == "null" || !words(e) {
				return false
			}
		}
	}
	return true
}

var word = regexp.MustCompile(`^[A-Za-z]*$`)

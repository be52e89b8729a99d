package master

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	"gearmesh.dev/api"
)

// fieldChanges gives what people wrote otherwise in one resource than in another: labels and spec, by path, sorted.
func fieldChanges(old, next api.Resource) ([]api.FieldChange, error) {
	a, err := tree(old)
	if err != nil {
		return nil, err
	}
	b, err := tree(next)
	if err != nil {
		return nil, err
	}
	return differences(nil, "", a, b), nil
}

// tree gives the labels and the spec of a resource as JSON has them.
func tree(r api.Resource) (map[string]any, error) {
	text, err := encode(r)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var all map[string]any
	if err := dec.Decode(&all); err != nil {
		return nil, fmt.Errorf("comparing %s: %w", r.Head().Key(), err)
	}
	out := map[string]any{}
	if spec, ok := all["spec"]; ok {
		out["spec"] = spec
	}
	if meta, ok := all["metadata"].(map[string]any); ok && meta["labels"] != nil {
		out["metadata"] = map[string]any{"labels": meta["labels"]}
	}
	return out, nil
}

// differences walks two trees side by side. What only one has is one change, however much is below it; elements of
// lists are compared by their place.
func differences(out []api.FieldChange, at string, a, b any) []api.FieldChange {
	am, aIsMap := a.(map[string]any)
	bm, bIsMap := b.(map[string]any)
	if aIsMap && bIsMap {
		for _, k := range keysOfBoth(am, bm) {
			out = differences(out, below(at, k), am[k], bm[k])
		}
		return out
	}
	al, aIsList := a.([]any)
	bl, bIsList := b.([]any)
	if aIsList && bIsList {
		for i := range max(len(al), len(bl)) {
			out = differences(out, fmt.Sprintf("%s[%d]", at, i), element(al, i), element(bl, i))
		}
		return out
	}
	if reflect.DeepEqual(a, b) {
		return out
	}
	return append(out, api.FieldChange{Field: at, Old: a, New: b})
}

func below(at, key string) string {
	if at == "" {
		return key
	}
	return at + "." + key
}

func element(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return nil
}

func keysOfBoth(a, b map[string]any) []string {
	var out []string
	for k := range a {
		out = append(out, k)
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// withNamespace sets the path of the namespace of a kind in an OCI config.json. Every other value
// keeps its bytes, so fields and numbers this package knows nothing of stay as they were.
func withNamespace(config []byte, kind, file string) ([]byte, error) {
	var top, linux map[string]json.RawMessage
	if err := json.Unmarshal(config, &top); err != nil {
		return nil, fmt.Errorf("reading config.json: %w", err)
	}
	if err := json.Unmarshal(orEmpty(top["linux"], "{}"), &linux); err != nil {
		return nil, fmt.Errorf("reading linux in config.json: %w", err)
	}
	var all []map[string]json.RawMessage
	if err := json.Unmarshal(orEmpty(linux["namespaces"], "[]"), &all); err != nil {
		return nil, fmt.Errorf("reading linux.namespaces in config.json: %w", err)
	}
	var err error
	if linux["namespaces"], err = encode(withPath(all, kind, file)); err != nil {
		return nil, err
	}
	if top == nil {
		top = map[string]json.RawMessage{}
	}
	if top["linux"], err = encode(linux); err != nil {
		return nil, err
	}
	return encode(top)
}

// withPath replaces the entry of a kind of namespace, or adds one: the runtime takes a missing one
// for "the host's".
func withPath(all []map[string]json.RawMessage, want, file string) []map[string]json.RawMessage {
	out := all[:0:0]
	for _, ns := range all {
		var kind string
		if err := json.Unmarshal(ns["type"], &kind); err != nil || kind != want {
			out = append(out, ns)
		}
	}
	path, _ := json.Marshal(file)
	return append(out, map[string]json.RawMessage{"type": json.RawMessage(`"` + want + `"`), "path": path})
}

func orEmpty(raw json.RawMessage, empty string) []byte {
	if len(raw) == 0 || string(raw) == "null" {
		return []byte(empty)
	}
	return raw
}

func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("writing config.json: %w", err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

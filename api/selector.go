package api

import (
	"cmp"
	"fmt"
	"strings"
)

// Selector chooses resources by their labels: all of its terms must hold. The empty one takes everything.
type Selector []SelectorTerm

// SelectorTerm is a condition on one label.
type SelectorTerm struct {
	Label  string
	Value  string // compared unless Exists is set
	Exists bool   // the label must be there, whatever its value
	Not    bool   // the opposite must hold; a label that is missing has no value, so it also holds then
}

// maxTerms bounds the terms of a selector.
const maxTerms = 32

// ParseSelector reads a selector as people write it: terms parted by commas, each "tier=web", "tier!=web", "tier" or "!tier".
func ParseSelector(text string) (Selector, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	parts := strings.Split(text, ",")
	if len(parts) > maxTerms {
		return nil, fmt.Errorf("a selector has at most %d terms; this has %d", maxTerms, len(parts))
	}
	var out Selector
	for _, part := range parts {
		t, err := parseTerm(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

func parseTerm(text string) (SelectorTerm, error) {
	t := SelectorTerm{}
	label, value, compared := strings.Cut(text, "=")
	switch {
	case compared:
		label, t.Not = strings.CutSuffix(label, "!")
		t.Value = strings.TrimSpace(strings.TrimPrefix(value, "="))
	default:
		label, t.Not = strings.CutPrefix(label, "!")
		t.Exists = true
	}
	t.Label = strings.TrimSpace(label)
	if err := cmp.Or(labelKey(t.Label), labelValue(t.Value)); err != nil {
		return t, fmt.Errorf("selector term %q: %w; write LABEL=VALUE, LABEL!=VALUE, LABEL or !LABEL", text, err)
	}
	return t, nil
}

// Matches tells whether a resource has the labels that the selector asks for. Beside those that people gave it, a host has
// the label host (its name) and a pod the labels service and host, unless it has others of these names.
func (s Selector) Matches(r Resource) bool {
	for _, t := range s {
		value, ok := labelOf(r, t.Label)
		if (ok && (t.Exists || value == t.Value)) == t.Not {
			return false
		}
	}
	return true
}

// serviceLabel is a label that pods have without being given it.
const serviceLabel = "service"

func labelOf(r Resource, label string) (string, bool) {
	if value, ok := r.Head().Metadata.Labels[label]; ok {
		return value, true
	}
	switch r := r.(type) {
	case *Host:
		return string(r.Metadata.Name), label == HostLabel
	case *Pod:
		switch label {
		case HostLabel:
			return string(r.Spec.Host), r.Spec.Host != ""
		case serviceLabel:
			return string(r.Spec.Service), true
		}
	}
	return "", false
}

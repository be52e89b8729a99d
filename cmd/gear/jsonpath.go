package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/theory/jsonpath"
)

// jsonPathPrefix begins a format that picks values out of what -o json prints: jsonpath=PATH, by RFC 9535.
const jsonPathPrefix = "jsonpath="

// parseJSONPath reads the path of a format; nil when it is another format.
func parseJSONPath(format string) (*jsonpath.Path, error) {
	text, ok := strings.CutPrefix(format, jsonPathPrefix)
	if !ok {
		return nil, nil
	}
	const like = `write one like $.status.state, or $.items[*].metadata.name of a list (RFC 9535), in quotes`
	if !strings.HasPrefix(text, "$") {
		return nil, fmt.Errorf("the path %q does not begin with $; %s", text, like)
	}
	p, err := jsonpath.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w; %s", err, like)
	}
	return p, nil
}

// printPath prints what a path finds in a value as the API has it, one on a line: strings as they are, all else as JSON.
// Nothing is printed when it finds nothing. text is the path as it was given.
func (a *app) printPath(v any, p *jsonpath.Path, text string) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("printing the answer: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return fmt.Errorf("printing the answer: %w", err)
	}
	found := p.SelectLocated(tree)
	if strings.Contains(text, "..") || strings.Contains(text, ".*") {
		found.Sort() // objects that are gone through have no order of their own
	}
	for value := range found.Nodes() {
		if s, ok := value.(string); ok {
			fmt.Fprintln(a.out, printable(s))
			continue
		}
		if err := a.printLine(value); err != nil {
			return err
		}
	}
	return nil
}

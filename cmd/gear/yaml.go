package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"gearmesh.dev/api"
)

// maxNodes bounds what a YAML document may become: a few lines of nested aliases stand for
// billions of values.
const maxNodes = 500_000

// parseYAML turns the documents of a YAML text into JSON and notes where each field stands.
func parseYAML(name string, text []byte) ([]document, error) {
	lines := strings.Split(string(text), "\n")
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, syntaxError(name, lines, err)
	}
	var out []document
	for _, d := range file.Docs {
		if d.Body == nil || d.Body.Type() == ast.NullType || d.Body.Type() == ast.CommentType {
			continue // an empty document, as after a last ---
		}
		w := yamlWriter{anchors: map[string]ast.Node{}, at: map[string]position{}}
		if err := w.value(d.Body, "", 0); err != nil {
			return nil, syntaxError(name, lines, err)
		}
		start := positionOf(d.Body)
		out = append(out, document{json: w.buf.Bytes(), file: name, line: start.line, lines: lines, at: w.at})
	}
	return out, nil
}

// yamlError is a fault of a YAML text at a node.
type yamlError struct {
	at      position
	message string
}

// Error implements error.
func (e *yamlError) Error() string { return e.message }

func at(n ast.Node, format string, args ...any) error {
	return &yamlError{positionOf(n), fmt.Sprintf(format, args...)}
}

func syntaxError(name string, lines []string, err error) error {
	p := problem{what: name + " is not right", why: err.Error(), code: exitUsage}
	var ours *yamlError
	var theirs yaml.Error
	switch {
	case errors.As(err, &ours):
		p.why = caret(name, lines, ours.at, ours.message)
	case errors.As(err, &theirs) && theirs.GetToken() != nil && theirs.GetToken().Position != nil:
		where := theirs.GetToken().Position
		p.why = caret(name, lines, position{where.Line, where.Column}, syntaxWords(theirs.GetMessage()))
	}
	return p
}

// syntaxWords puts what the parser says of the usual mistakes of indentation into words that help.
func syntaxWords(message string) string {
	switch {
	case strings.Contains(message, "'\t'"):
		return "there is a tab; YAML is indented with spaces alone"
	case message == "value is not allowed in this context":
		return "this does not belong to the line above it; is it indented as its neighbours are?"
	}
	return message
}

func positionOf(n ast.Node) position {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 && !m.IsFlowStyle {
		return positionOf(m.Values[0])
	}
	if m, ok := n.(*ast.MappingValueNode); ok {
		return positionOf(m.Key)
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return position{t.Position.Line, t.Position.Column}
	}
	return position{1, 1}
}

// yamlWriter writes a YAML document as JSON. Keys stay in their order, and a key given twice is
// written twice, so that api.Decode is the one judge of what is right.
type yamlWriter struct {
	buf     bytes.Buffer
	anchors map[string]ast.Node
	at      map[string]position
	nodes   int
}

func (w *yamlWriter) value(n ast.Node, path string, depth int) error {
	if w.nodes++; w.nodes > maxNodes {
		return at(n, "the document stands for over %d values", maxNodes)
	}
	if depth > api.MaxDepth {
		return at(n, "%s nests deeper than %d levels", path, api.MaxDepth)
	}
	if _, ok := w.at[path]; !ok {
		w.at[path] = positionOf(n)
	}
	return w.write(n, path, depth)
}

func (w *yamlWriter) write(n ast.Node, path string, depth int) error {
	switch n := n.(type) {
	case *ast.MappingNode:
		return w.mapping(n.Values, path, depth)
	case *ast.MappingValueNode:
		return w.mapping([]*ast.MappingValueNode{n}, path, depth)
	case *ast.SequenceNode:
		return w.sequence(n, path, depth)
	case *ast.AnchorNode:
		w.anchors[n.Name.GetToken().Value] = n.Value
		return w.value(n.Value, path, depth)
	case *ast.AliasNode:
		target, err := w.target(n)
		if err != nil {
			return err
		}
		return w.value(target, path, depth+1)
	case *ast.TagNode:
		if n.Start.Value == "!!str" {
			return w.scalar(n.Value.GetToken().Value)
		}
		return at(n, "the tag %s has no meaning here; write the value without it", n.Start.Value)
	}
	return w.leaf(n)
}

// leaf writes a value without values of its own.
func (w *yamlWriter) leaf(n ast.Node) error {
	switch n := n.(type) {
	case *ast.StringNode:
		return w.scalar(n.Value)
	case *ast.LiteralNode:
		return w.scalar(n.Value.Value)
	case *ast.IntegerNode:
		return w.scalar(n.Value)
	case *ast.FloatNode:
		return w.scalar(n.Value)
	case *ast.BoolNode:
		return w.scalar(n.Value)
	case *ast.NullNode:
		w.buf.WriteString("null")
		return nil
	}
	return at(n, "a value of the kind %s has no meaning here", strings.ToLower(n.Type().String()))
}

func (w *yamlWriter) scalar(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("reading a value: %w", err)
	}
	w.buf.Write(text)
	return nil
}

func (w *yamlWriter) target(n *ast.AliasNode) (ast.Node, error) {
	name := n.Value.GetToken().Value
	target, ok := w.anchors[name]
	if !ok {
		return nil, at(n, "there is no anchor &%s before this", name)
	}
	return target, nil
}

func (w *yamlWriter) sequence(n *ast.SequenceNode, path string, depth int) error {
	w.buf.WriteByte('[')
	for i, v := range n.Values {
		if i > 0 {
			w.buf.WriteByte(',')
		}
		if err := w.value(v, fmt.Sprintf("%s[%d]", path, i), depth+1); err != nil {
			return err
		}
	}
	w.buf.WriteByte(']')
	return nil
}

// mapping writes an object. What a merge key (<<) brings comes after the object's own keys, which
// win over it.
func (w *yamlWriter) mapping(values []*ast.MappingValueNode, path string, depth int) error {
	merged, err := w.merged(values, depth)
	if err != nil {
		return err
	}
	w.buf.WriteByte('{')
	first := true
	for _, v := range merged {
		if !first {
			w.buf.WriteByte(',')
		}
		first = false
		key, err := keyOf(v.Key)
		if err != nil {
			return err
		}
		field := strings.TrimPrefix(path+"."+key, ".")
		if _, ok := w.at[field]; !ok {
			w.at[field] = positionOf(v.Key)
		}
		if err := w.scalar(key); err != nil {
			return err
		}
		w.buf.WriteByte(':')
		if err := w.value(v.Value, field, depth+1); err != nil {
			return err
		}
	}
	w.buf.WriteByte('}')
	return nil
}

// keyOf gives a key's text. Only plain and quoted words are keys here, not lists or objects.
func keyOf(n ast.Node) (string, error) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.MappingKeyNode:
		if n.Value == nil {
			return "", at(n, "a key is missing after ?")
		}
		return keyOf(n.Value)
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return n.GetToken().Value, nil
	}
	return "", at(n, "this is no key; a key is a word, in quotes if it has special characters")
}

// merged gives the entries of an object, those of its merge keys included.
func (w *yamlWriter) merged(values []*ast.MappingValueNode, depth int) ([]*ast.MappingValueNode, error) {
	var own, brought []*ast.MappingValueNode
	has := map[string]bool{}
	for _, v := range values {
		if v.Key.IsMergeKey() {
			more, err := w.broughtBy(v.Value, depth)
			if err != nil {
				return nil, err
			}
			brought = append(brought, more...)
			continue
		}
		key, err := keyOf(v.Key)
		if err != nil {
			return nil, err
		}
		own, has[key] = append(own, v), true
	}
	for _, v := range brought {
		key, err := keyOf(v.Key)
		if err != nil {
			return nil, err
		}
		if !has[key] {
			own, has[key] = append(own, v), true
		}
	}
	return own, nil
}

func (w *yamlWriter) broughtBy(n ast.Node, depth int) ([]*ast.MappingValueNode, error) {
	if w.nodes++; depth > api.MaxDepth || w.nodes > maxNodes {
		return nil, at(n, "merge keys nest too deep")
	}
	switch n := n.(type) {
	case *ast.AliasNode:
		target, err := w.target(n)
		if err != nil {
			return nil, err
		}
		return w.broughtBy(target, depth+1)
	case *ast.MappingNode:
		return w.merged(n.Values, depth+1)
	case *ast.MappingValueNode:
		return w.merged([]*ast.MappingValueNode{n}, depth+1)
	}
	return nil, at(n, "<< needs an alias of an object, such as *base")
}

package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// MaxDepth is how deep a document may nest.
const MaxDepth = 64

// Decode reads one JSON document into v, strictly: an unknown key, a key given twice, a key in
// another case, a wrong type, a document after the first, or nesting deeper than MaxDepth is an
// *Error that names the field. encoding/json alone lets all but the wrong type pass.
func Decode(data []byte, v any) error {
	w := walker{dec: json.NewDecoder(bytes.NewReader(data))}
	w.dec.UseNumber()
	if err := w.value("", reflect.TypeOf(v), 0); err != nil {
		return decodeError(err)
	}
	if _, err := w.dec.Token(); !errors.Is(err, io.EOF) {
		return Errorf(CodeBadRequest, "there is more after the end of the document; send one document")
	}
	return decodeError(json.Unmarshal(data, v))
}

func decodeError(err error) error {
	if err == nil {
		return nil
	}
	var typed *Error
	if errors.As(err, &typed) {
		return typed
	}
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return Invalid("the document", []Fault{{Field: wrongType.Field,
			Message: fmt.Sprintf("%s is given where %s is needed", wrongType.Value, typeName(wrongType.Type))}})
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return Errorf(CodeBadRequest, "the document ends too early")
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return Errorf(CodeBadRequest, "the document is no JSON: %v at byte %d", err, syntax.Offset)
	}
	return Errorf(CodeInvalid, "%v", err)
}

// walker goes through a document beside the type it will be decoded into.
type walker struct{ dec *json.Decoder }

func (w walker) value(path string, t reflect.Type, depth int) error {
	if depth > MaxDepth {
		return Errorf(CodeBadRequest, "%s nests deeper than %d levels", path, MaxDepth)
	}
	tok, err := w.dec.Token()
	if err != nil {
		return err
	}
	switch tok {
	case json.Delim('{'):
		return w.object(path, t, depth)
	case json.Delim('['):
		return w.array(path, t, depth)
	}
	return nil
}

func (w walker) array(path string, t reflect.Type, depth int) error {
	elem := elemOf(t, reflect.Slice, reflect.Array)
	for i := 0; w.dec.More(); i++ {
		if err := w.value(fmt.Sprintf("%s[%d]", path, i), elem, depth+1); err != nil {
			return err
		}
	}
	_, err := w.dec.Token()
	return err
}

func (w walker) object(path string, t reflect.Type, depth int) error {
	fields, elem := keysOf(t), elemOf(t, reflect.Map)
	seen := map[string]bool{}
	for w.dec.More() {
		tok, err := w.dec.Token()
		if err != nil {
			return err
		}
		key, _ := tok.(string)
		at := strings.TrimPrefix(path+"."+key, ".")
		if seen[key] {
			return Invalid("the document", []Fault{{Field: at, Message: "is given twice"}})
		}
		seen[key] = true
		kind := elem
		if fields != nil {
			var ok bool
			if kind, ok = fields[key]; !ok {
				return Invalid("the document", []Fault{{Field: at, Message: "is not a field" + suggest(key, fields)}})
			}
		}
		if err := w.value(at, kind, depth+1); err != nil {
			return err
		}
	}
	_, err := w.dec.Token()
	return err
}

// keysOf gives the JSON keys of a struct type and the type of each, or nil for another type and
// for one that decodes itself.
func keysOf(t reflect.Type) map[string]reflect.Type {
	t = deref(t)
	if t == nil || t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return nil
	}
	keys := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported() && !f.Anonymous:
		case name == "" && f.Anonymous:
			for k, kt := range keysOf(f.Type) {
				keys[k] = kt
			}
		case name == "":
			keys[f.Name] = f.Type
		default:
			keys[name] = f.Type
		}
	}
	return keys
}

func elemOf(t reflect.Type, kinds ...reflect.Kind) reflect.Type {
	t = deref(t)
	for _, k := range kinds {
		if t != nil && t.Kind() == k {
			return t.Elem()
		}
	}
	return nil
}

func deref(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice:
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ UnmarshalText([]byte) error }]()) {
		return "a quoted string"
	}
	return fmt.Sprintf("a number (%s)", t.Kind())
}

// suggest names the known key nearest to a wrong one.
func suggest(key string, fields map[string]reflect.Type) string {
	names := make([]string, 0, len(fields))
	for k := range fields {
		names = append(names, k)
	}
	if best := Nearest(key, names); best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return ""
}

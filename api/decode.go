package api

import (
	"bytes"
	"cmp"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
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
	if why := mismatch(tok, deref(t)); why != "" {
		return Invalid("the document", []Fault{{Field: cmp.Or(path, "(document)"), Message: why}})
	}
	switch tok {
	case json.Delim('{'):
		return w.object(path, t, depth)
	case json.Delim('['):
		return w.array(path, t, depth)
	}
	return nil
}

// mismatch tells why a value that starts with the token is not of type t, or "". encoding/json would
// find it too, but could not say where in a list it stands.
func mismatch(tok json.Token, t reflect.Type) string {
	if tok != nil && t == reflect.TypeFor[time.Time]() {
		return noTime(tok)
	}
	if t == nil || tok == nil || t.Kind() == reflect.Interface || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return ""
	}
	given, needed := tokenName(tok), typeName(t)
	if given != needed {
		return given + " is given where " + needed + " is needed" + hint(tok, t)
	}
	switch v := tok.(type) {
	case string:
		if t.Kind() == reflect.Slice {
			return noBase64(v)
		}
		if u, ok := reflect.New(t).Interface().(encoding.TextUnmarshaler); ok {
			if err := u.UnmarshalText([]byte(v)); err != nil {
				return err.Error()
			}
		}
	case json.Number:
		return outOfRange(v, t)
	}
	return ""
}

// noTime tells why a value is no time, or "".
func noTime(tok json.Token) string {
	text, isText := tok.(string)
	if _, err := time.Parse(time.RFC3339, text); isText && err == nil {
		return ""
	}
	if !isText {
		return tokenName(tok) + " is given where a time is needed, such as \"2026-01-02T15:04:05Z\""
	}
	return fmt.Sprintf("%q is no time; write it as 2026-01-02T15:04:05Z", text)
}

// noBase64 tells why a text does not stand for bytes, or "". It does not repeat it: bytes are secrets and keys.
func noBase64(text string) string {
	if _, err := base64.StdEncoding.DecodeString(text); err != nil {
		return "is no base64; the values of a secret may be written as they are, under text in place of data"
	}
	return ""
}

func outOfRange(n json.Number, t reflect.Type) string {
	var err error
	switch {
	case t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64:
		_, err = strconv.ParseFloat(n.String(), t.Bits())
	case t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uintptr:
		if _, err = strconv.ParseUint(n.String(), 10, t.Bits()); errors.Is(err, strconv.ErrRange) || err != nil && n[0] == '-' {
			return fmt.Sprintf("%s does not fit; 0 to %d are allowed", n, uint64(math.MaxUint64)>>(64-t.Bits()))
		}
	default:
		if _, err = strconv.ParseInt(n.String(), 10, t.Bits()); errors.Is(err, strconv.ErrRange) {
			return fmt.Sprintf("%s does not fit", n)
		}
	}
	if err != nil {
		return fmt.Sprintf("%s is no whole number", n)
	}
	return ""
}

// tokenName says what a value is, in the words of typeName where the two fit.
func tokenName(tok json.Token) string {
	switch v := tok.(type) {
	case json.Delim:
		if v == '{' {
			return anObject
		}
		return aList
	case string:
		return aString
	case bool:
		return aBool
	}
	return aNumber
}

// The words for the types of values.
const (
	anObject = "an object"
	aList    = "a list"
	aString  = "a string"
	aBool    = "true or false"
	aNumber  = "a number"
)

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
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return aString
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return anObject
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return aString // bytes are written in base64
		}
		return aList
	case reflect.Bool:
		return aBool
	case reflect.String:
		return aString
	}
	return aNumber
}

package main

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
)

// The command that says what the fields of a manifest mean, from the types and tags of package api.

func (a *app) explainCmd() *cobra.Command {
	var deep bool
	output := ""
	c := &cobra.Command{
		Use: "explain KIND[.FIELD...]", Short: "Say what the fields of a manifest mean, which values they take and what they default to",
		Example: `  gear explain service
  gear explain service.spec.links
  gear explain service.spec.links.waitFor
  gear explain project --all           # every field, as a list`,
		Args: between(1, 1, "a kind, or a field of one such as service.spec.links"), ValidArgsFunction: completeField,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(cmd, output, "json", "yaml"); err != nil {
				return err
			}
			f, err := findField(cmd, args[0])
			if err != nil {
				return err
			}
			if output != "" {
				return a.printValue(f, output)
			}
			a.explain(f, deep)
			return nil
		},
	}
	c.Flags().BoolVar(&deep, "all", false, "the fields of fields too")
	formatFlag(c, &output, "json", "yaml")
	return c
}

// field is a field of a manifest, as the API's types and their tags describe it: what the master checks and what OpenAPI says come
// from the same tags.
type field struct {
	Path     string   `json:"path"`
	Type     string   `json:"type"`
	Doc      string   `json:"doc,omitempty"`
	Values   []string `json:"values,omitempty"`
	Least    string   `json:"minimum,omitempty"`
	Most     string   `json:"maximum,omitempty"`
	Example  string   `json:"example,omitempty"`
	Required bool     `json:"required,omitempty"`
	Fields   []field  `json:"fields,omitempty"`
}

// kindField describes a kind: what a manifest of it may hold. Status is the master's and is left out.
func kindField(k api.Kind) field {
	one, _ := kindWords(k)
	f := fieldOf(one, reflect.TypeOf(api.New(k)).Elem(), "")
	f.Doc = kindDocs[k]
	f.Fields = slices.DeleteFunc(f.Fields, func(x field) bool { return x.Path == one+".status" })
	return f
}

var kindDocs = map[api.Kind]string{
	api.KindProject: "Services that belong together, with what they may do and share. Nothing of one project reaches another's without both agreeing.",
	api.KindHost:    "A machine that runs pods. gear up and gear join make hosts.",
	api.KindService: "Pods that are alike: how many, what runs in them, what they are linked to and where they may be.",
	api.KindPod:     "One copy of a service on one host. The master makes pods; write a service instead.",
	api.KindAlias:   "A host name by which the router answers for a service.",
	api.KindSecret:  "Values that only containers which name them get to see.",
}

// fieldOf describes a type; types that hold themselves do not occur in manifests.
func fieldOf(path string, t reflect.Type, tag reflect.StructTag) field {
	f := field{Path: path, Doc: tag.Get("doc"), Least: tag.Get("minimum"), Most: tag.Get("maximum"), Example: tag.Get("example")}
	if v := tag.Get("enum"); v != "" {
		f.Values = strings.Split(v, ",")
	}
	if f.Type = typeName(t); len(f.Values) > 0 && t.Kind() == reflect.String {
		f.Type = "word"
	}
	if inner := innerStruct(t); inner != nil {
		f.Fields = structFields(path, inner)
	}
	return f
}

func structFields(path string, t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		x := t.Field(i)
		name, options, _ := strings.Cut(x.Tag.Get("json"), ",")
		switch {
		case name == "-" || !x.IsExported():
		case x.Anonymous && name == "":
			out = append(out, structFields(path, x.Type)...)
		default:
			f := fieldOf(path+"."+name, x.Type, x.Tag)
			f.Required = !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero")
			out = append(out, f)
		}
	}
	return out
}

var textType = reflect.TypeFor[encoding.TextMarshaler]()

// isText tells whether values of a type are written as one word or number, whatever they are made of.
func isText(t reflect.Type) bool {
	return t.Implements(textType) || reflect.PointerTo(t).Implements(textType) ||
		hasMethod(t, "MarshalJSON")
}

func hasMethod(t reflect.Type, name string) bool {
	_, ok := reflect.PointerTo(t).MethodByName(name)
	return ok
}

// innerStruct gives the struct whose fields a value of the type has, or its members have.
func innerStruct(t reflect.Type) reflect.Type {
	switch {
	case isText(t):
		return nil
	case t.Kind() == reflect.Struct:
		return t
	case t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map:
		return innerStruct(t.Elem())
	}
	return nil
}

func typeName(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return typeName(t.Elem())
	case isText(t):
		return strings.ToLower(t.Name())
	}
	switch t.Kind() {
	case reflect.Slice:
		return "list of " + typeName(t.Elem())
	case reflect.Map:
		return "map of " + typeName(t.Elem())
	case reflect.Struct:
		return "object"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		if n := strings.ToLower(t.Name()); n != "string" {
			return n
		}
		return "text"
	case reflect.Float32, reflect.Float64:
		return "number"
	}
	return "whole number"
}

// findField finds what a word such as service.spec.links names. The kind may be written as everywhere else.
func findField(c *cobra.Command, word string) (field, error) {
	first, rest, _ := strings.Cut(word, ".")
	k, err := parseKind(c, first)
	if err != nil {
		return field{}, err
	}
	f := kindField(k)
	for _, name := range strings.FieldsFunc(rest, func(r rune) bool { return r == '.' }) {
		i := slices.IndexFunc(f.Fields, func(x field) bool { return x.Path == f.Path+"."+name })
		if i >= 0 {
			f = f.Fields[i]
			continue
		}
		var known []string
		for _, x := range f.Fields {
			known = append(known, strings.TrimPrefix(x.Path, f.Path+"."))
		}
		if len(known) == 0 {
			return field{}, usageError(c, "%s is %s and has no fields", f.Path, f.Type)
		}
		return field{}, usageError(c, "%s has no field %q%s; it has %s", f.Path, name, didYouMean(name, known), strings.Join(known, ", "))
	}
	return f, nil
}

// nearestField gives the word by which gear explain knows a field of a fault, such as spec.links[0].port, or the nearest one around it.
func nearestField(k api.Kind, path string) string {
	f := kindField(k)
	for _, name := range strings.Split(path, ".") {
		name, _, _ = strings.Cut(name, "[")
		i := slices.IndexFunc(f.Fields, func(x field) bool { return x.Path == f.Path+"."+name })
		if i < 0 {
			break
		}
		f = f.Fields[i]
	}
	return f.Path
}

func (a *app) explain(f field, deep bool) {
	fmt.Fprintf(a.out, "%s  %s\n", a.outPaint.bold(f.Path), f.Type)
	for _, line := range f.about() {
		fmt.Fprintln(a.out, "  "+line)
	}
	if len(f.Fields) == 0 {
		return
	}
	fmt.Fprintln(a.out, "\nfields:")
	writeTable(a.out, a.outPaint, nil, fieldRows(f.Path, f.Fields, deep))
}

// about says what the tags say, a line each.
func (f field) about() []string {
	var out []string
	add := func(what, value string) {
		if value != "" {
			out = append(out, what+value)
		}
	}
	add("", f.Doc)
	add("one of: ", strings.Join(f.Values, ", "))
	add("at least: ", f.Least)
	add("at most: ", f.Most)
	add("such as: ", f.Example)
	return out
}

func fieldRows(base string, fields []field, deep bool) [][]string {
	var rows [][]string
	for _, f := range fields {
		doc := f.Doc
		if len(f.Values) > 0 {
			doc = strings.TrimSpace(strings.Join(f.Values, "|") + "  " + doc)
		}
		rows = append(rows, []string{"  " + strings.TrimPrefix(f.Path, base+"."), f.Type, doc})
		if deep {
			rows = append(rows, fieldRows(base, f.Fields, deep)...)
		}
	}
	return rows
}

// completeField completes kinds, then the fields of what is there already.
func completeField(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	base, _, dotted := cutLast(word)
	if !dotted {
		for _, k := range api.Kinds() {
			one, _ := kindWords(k)
			out = append(out, one)
		}
		return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	f, err := findField(c, base)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, x := range f.Fields {
		out = append(out, base+strings.TrimPrefix(x.Path, f.Path))
	}
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// cutLast cuts at the last dot.
func cutLast(word string) (before, after string, found bool) {
	i := strings.LastIndex(word, ".")
	if i < 0 {
		return "", word, false
	}
	return word[:i], word[i+1:], true
}

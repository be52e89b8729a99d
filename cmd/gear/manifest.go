package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
)

// maxManifest bounds a manifest, in bytes.
const maxManifest = 16 << 20

// manifest is one document of a file, read and checked.
type manifest struct {
	resource api.Resource
	file     string
	line     int
}

// document is one document as JSON, with the way back to its text.
type document struct {
	json  []byte
	file  string
	line  int // where it begins, from 1
	lines []string
	at    map[string]position // of the fields that are known, by path such as spec.containers[0].image
}

// position is a line and a column, both from 1.
type position struct{ line, column int }

// readManifests reads files, directories (their .yaml, .yml and .json files, sorted) and, for "-",
// the standard input. Nothing is returned unless all of it is right.
func (a *app) readManifests(cmd *cobra.Command, names []string) ([]manifest, error) {
	files, err := manifestFiles(names)
	if err != nil {
		return nil, err
	}
	var out []manifest
	for _, name := range files {
		text, err := a.readFile(name)
		if err != nil {
			return nil, err
		}
		docs, err := parseDocuments(name, text)
		if err != nil {
			return nil, err
		}
		for _, d := range docs {
			m, err := d.read(api.Name(a.project))
			if err != nil {
				return nil, err
			}
			out = append(out, m)
		}
	}
	if len(out) == 0 {
		return nil, usageError(cmd, "there is no document in %s", strings.Join(names, ", "))
	}
	order := api.Kinds()
	slices.SortStableFunc(out, func(x, y manifest) int {
		return slices.Index(order, x.resource.Head().Kind) - slices.Index(order, y.resource.Head().Kind)
	})
	return out, unique(out)
}

// unique refuses a resource that is given twice: the second would silently win.
func unique(list []manifest) error {
	seen := map[api.Key]manifest{}
	for _, m := range list {
		key := m.resource.Head().Key()
		if first, ok := seen[key]; ok {
			return problem{what: fmt.Sprintf("%s is given twice", key), why: fmt.Sprintf("%s:%d and %s:%d", first.file, first.line, m.file, m.line), code: exitUsage}
		}
		seen[key] = m
	}
	return nil
}

// manifestFiles replaces directories by their manifests.
func manifestFiles(names []string) ([]string, error) {
	var out []string
	for _, name := range names {
		info, err := os.Stat(name)
		switch {
		case name == "-" || err == nil && !info.IsDir():
			out = append(out, name)
			continue
		case errors.Is(err, fs.ErrNotExist):
			return nil, problem{what: fmt.Sprintf("there is no file %q", name), code: exitUsage}
		case err != nil:
			return nil, fmt.Errorf("reading manifests: %w", err)
		}
		entries, err := os.ReadDir(name)
		if err != nil {
			return nil, fmt.Errorf("reading manifests: %w", err)
		}
		for _, e := range entries {
			if ext := filepath.Ext(e.Name()); !e.IsDir() && (ext == ".yaml" || ext == ".yml" || ext == ".json") {
				out = append(out, filepath.Join(name, e.Name()))
			}
		}
	}
	return out, nil
}

func (a *app) readFile(name string) ([]byte, error) {
	in := a.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("reading a manifest: %w", err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxManifest+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading a manifest: %w", err)
	case len(text) > maxManifest:
		return nil, problem{what: fmt.Sprintf("%s is over %d MiB", name, maxManifest>>20), code: exitUsage}
	case !utf8.Valid(text):
		return nil, problem{what: fmt.Sprintf("%s is not UTF-8 text", name), code: exitUsage}
	}
	return text, nil
}

// parseDocuments splits a file into documents: JSON, one or several after each other, or YAML.
func parseDocuments(name string, text []byte) ([]document, error) {
	if strings.HasSuffix(name, ".json") || bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		if docs, err := parseJSON(name, text); err == nil || strings.HasSuffix(name, ".json") {
			return docs, err
		}
	}
	return parseYAML(name, text)
}

func parseJSON(name string, text []byte) ([]document, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	var out []document
	for {
		var raw json.RawMessage
		line := 1 + bytes.Count(text[:dec.InputOffset()], []byte("\n"))
		err := dec.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, problem{what: fmt.Sprintf("%s:%d is no JSON", name, 1+bytes.Count(text[:dec.InputOffset()], []byte("\n"))), why: err.Error(), code: exitUsage}
		}
		out = append(out, document{json: raw, file: name, line: line})
	}
}

// read decodes a document and checks it as the master will, so that what is wrong is shown where
// it stands. What is sent is what the document says: defaults are the master's.
func (d document) read(project api.Name) (manifest, error) {
	var head struct {
		Kind api.Kind `json:"kind"`
	}
	if err := json.Unmarshal(d.json, &head); err != nil {
		return manifest{}, d.wrong("", "this is no resource; it begins with kind and metadata")
	}
	r, checked := api.New(head.Kind), api.New(head.Kind)
	switch {
	case head.Kind == "":
		return manifest{}, d.wrong("kind", "kind is missing"+knownKinds())
	case r == nil:
		return manifest{}, d.wrong("kind", fmt.Sprintf("there is no kind %q%s", head.Kind, cmp.Or(didYouMean(string(head.Kind), writtenKinds()), knownKinds())))
	case head.Kind == api.KindPod:
		return manifest{}, d.wrong("kind", "pods are made by the master, as a service says; write a Service")
	}
	for _, v := range []api.Resource{r, checked} {
		if err := api.Decode(d.json, v); err != nil {
			return manifest{}, d.refused(head.Kind, err)
		}
		if m := &v.Head().Metadata; head.Kind.InProject() && m.Project == "" {
			m.Project = project
		}
	}
	if head.Kind.InProject() && r.Head().Metadata.Project == "" {
		return manifest{}, d.wrong("metadata", "metadata.project is missing; write it, or give -p PROJECT")
	}
	checked.Default()
	if faults := checked.Validate(); len(faults) > 0 {
		return manifest{}, d.refused(head.Kind, api.Invalid("the document", faults))
	}
	return manifest{resource: r, file: d.file, line: d.line}, nil
}

// writtenKinds gives the kinds that people write.
func writtenKinds() []string {
	var out []string
	for _, k := range api.Kinds() {
		if k != api.KindPod {
			out = append(out, string(k))
		}
	}
	return out
}

func knownKinds() string { return "; there are " + strings.Join(writtenKinds(), ", ") }

// refused shows each fault where it stands.
func (d document) refused(k api.Kind, err error) error {
	var e *api.Error
	if !errors.As(err, &e) || len(e.Faults) == 0 {
		return d.wrong("", err.Error())
	}
	if k == api.KindSecret {
		d.lines = nil // a line may hold a value, and errors end up in logs
	}
	var why []string
	for _, f := range e.Faults {
		why = append(why, d.show(f.Field, f.String()))
	}
	what := fmt.Sprintf("%s is not right", d.file)
	if len(why) > 1 {
		what = fmt.Sprintf("%s has %d faults", d.file, len(why))
	}
	return problem{what: what, why: strings.Join(why, "\n"), try: "gear explain " + nearestField(k, e.Faults[0].Field), code: exitUsage}
}

func (d document) wrong(field, message string) error {
	return problem{what: fmt.Sprintf("%s is not right", d.file), why: d.show(field, message), code: exitUsage}
}

// show gives "file:line:column: message", and below it the line with a caret.
func (d document) show(field, message string) string {
	p, ok := d.find(field)
	if !ok {
		return fmt.Sprintf("%s:%d: %s", d.file, d.line, message)
	}
	return caret(d.file, d.lines, p, message)
}

// find gives where a field stands, or the nearest one around it.
func (d document) find(field string) (position, bool) {
	for {
		if p, ok := d.at[field]; ok {
			return p, true
		}
		i := strings.LastIndexAny(field, ".[")
		if i < 0 {
			p, ok := d.at[""]
			return p, ok
		}
		field = field[:i]
	}
}

// caret shows a place in a text.
func caret(file string, lines []string, p position, message string) string {
	at := fmt.Sprintf("%s:%d:%d: %s", file, p.line, p.column, message)
	if p.line < 1 || p.line > len(lines) {
		return at
	}
	line := strings.ReplaceAll(printable(lines[p.line-1]), "\t", " ")
	number := fmt.Sprintf("%4d | ", p.line)
	return fmt.Sprintf("%s\n%s%s\n%s^", at, number, line, strings.Repeat(" ", len(number)+max(0, p.column-1)))
}

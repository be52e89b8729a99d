// Package archtest holds the house rules that a compiler does not: which way imports run, that
// each heavy dependency stays behind one wall, no init functions, and a doc comment on every
// package and exported name.
//
// It parses the source in-process: a test that shells out to go list goes stale in the test cache.
package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Module is the path of this module.
const Module = "gearmesh.dev"

// Rules says what may import what. Folders are relative to the module's root.
type Rules struct {
	// May gives for a top-level folder the folders of this module that it may import besides itself.
	// "*" allows all. A folder without an entry may import nothing of the module.
	May map[string][]string
	// Walls gives for an import path (and all below it) the only folders that may import it.
	Walls map[string][]string
	// Nobody lists folders that nothing else may import.
	Nobody []string
}

// House gives the rules of this project; docs/architecture.md explains them.
func House() Rules {
	return Rules{
		May: map[string][]string{
			"api":      {},
			"client":   {"api"},
			"unitgen":  {"api"},
			"linker":   {"api", "internal"},
			"dnsd":     {"api"},
			"router":   {"api", "internal"},
			"mesh":     {"api"},
			"geard":    {"api", "client", "internal", "unitgen", "linker"},
			"master":   {"api", "internal"},
			"internal": {"api"},
			"cmd":      {"*"},
			"contrib":  {"*"},
		},
		Walls: map[string][]string{
			"go.etcd.io/etcd":                       {"master/store"},
			"github.com/hashicorp/serf":             {"mesh"},
			"filippo.io/age":                        {"internal/backup"},
			"github.com/miekg/dns":                  {"dnsd"},
			"github.com/godbus/dbus":                {"internal/systemd"},
			"github.com/docker/docker":              {"geard/engine"},
			"github.com/danielgtaylor":              {"master"},
			"github.com/coder/websocket":            {"client/session", "master"},
			"github.com/spf13/cobra":                {"cmd/gear", "cmd/geard"},
			"github.com/coreos/go-systemd/v22/dbus": {"internal/systemd"},
		},
		Nobody: []string{"cmd"},
	}
}

// Check gives every breach of the rules in the Go files of a tree, sorted. Test files are held to
// the walls of their package but may import anything else.
func Check(tree fs.FS, r Rules) ([]string, error) {
	var breaches []string
	documented := map[string]bool{}
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if base := d.Name(); base == "testdata" || base == "out" || base == "bin" || strings.HasPrefix(base, ".") && base != "." {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments)
		if err != nil {
			return err
		}
		dir := path.Dir(name)
		documented[dir] = documented[dir] || file.Doc != nil
		breaches = append(breaches, r.file(name, file)...)
		return nil
	})
	for dir, ok := range documented {
		if !ok {
			breaches = append(breaches, dir+": the package has no doc comment")
		}
	}
	slices.Sort(breaches)
	return breaches, err
}

func (r Rules) file(name string, f *ast.File) []string {
	var out []string
	dir, test := path.Dir(name), strings.HasSuffix(name, "_test.go")
	for _, spec := range f.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		if why := r.forbids(dir, imported, test); why != "" {
			out = append(out, fmt.Sprintf("%s: imports %s: %s", name, imported, why))
		}
	}
	if test {
		return out
	}
	for _, d := range f.Decls {
		out = append(out, declaration(name, d)...)
	}
	return out
}

// forbids tells why a folder may not import a path, or "".
func (r Rules) forbids(dir, imported string, test bool) string {
	for wall, inside := range r.Walls {
		if (imported == wall || strings.HasPrefix(imported, wall+"/")) && !slices.ContainsFunc(inside, func(d string) bool { return within(dir, d) }) {
			return "only " + strings.Join(inside, ", ") + " may"
		}
	}
	ours, ok := strings.CutPrefix(imported, Module+"/")
	if !ok || test {
		return ""
	}
	from, to := top(dir), top(ours)
	if from != to && slices.Contains(r.Nobody, to) {
		return "nothing imports " + to
	}
	may := r.May[from]
	if from == to || slices.Contains(may, to) || slices.Contains(may, "*") {
		return ""
	}
	return fmt.Sprintf("%s may import %v only", from, may)
}

func within(dir, folder string) bool { return dir == folder || strings.HasPrefix(dir, folder+"/") }

func top(dir string) string { first, _, _ := strings.Cut(dir, "/"); return first }

// declaration finds init functions and exported names without a comment.
func declaration(file string, d ast.Decl) []string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil && d.Name.Name == "init" {
			return []string{file + ": has an init function"}
		}
		if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
			return []string{file + ": " + d.Name.Name + " has no doc comment"}
		}
	case *ast.GenDecl:
		return undocumented(file, d)
	}
	return nil
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	t := d.Recv.List[0].Type
	if s, ok := t.(*ast.StarExpr); ok {
		t = s.X
	}
	id, ok := t.(*ast.Ident)
	return ok && id.IsExported() && d.Name.Name != "String" && d.Name.Name != "Error" && d.Name.Name != "Unwrap"
}

func undocumented(file string, d *ast.GenDecl) []string {
	var out []string
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
				out = append(out, file+": "+s.Name.Name+" has no doc comment")
			}
		case *ast.ValueSpec:
			if s.Names[0].IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
				out = append(out, file+": "+s.Names[0].Name+" has no doc comment")
			}
		}
	}
	return out
}

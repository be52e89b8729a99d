package failpoint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// declared reads the constants of names.go, so that no list of them can go stale.
func declared(t *testing.T) (idents []string, names []Name) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "names.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			if typ, ok := v.Type.(*ast.Ident); !ok || typ.Name != "Name" {
				continue
			}
			text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			idents, names = append(idents, v.Names[0].Name), append(names, Name(text))
		}
	}
	return idents, names
}

func TestListsAreComplete(t *testing.T) {
	_, names := declared(t)
	listed := slices.Concat(Master(), Host(), Removal())
	slices.Sort(listed)
	slices.Sort(names)
	if !slices.Equal(listed, names) {
		t.Errorf("the lists have\n%q, the constants are\n%q", listed, names)
	}
}

func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../docs/debugging.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## Failpoints")
	section, _, _ = strings.Cut(section, "\n## ")
	var documented []Name
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(section, -1) {
		documented = append(documented, Name(m[1]))
	}
	if _, names := declared(t); !slices.Equal(documented, names) {
		t.Errorf("docs/debugging.md has the points\n%q, and the constants in their order are\n%q", documented, names)
	}
}

func TestEachPointIsPassed(t *testing.T) {
	var code strings.Builder
	for _, dir := range []string{"../../geard", "../../master"} {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			code.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	idents, _ := declared(t)
	for _, ident := range idents {
		if n := len(regexp.MustCompile(`failpoint\.Hit\(failpoint\.`+ident+`\)`).FindAllString(code.String(), -1)); n != 1 {
			t.Errorf("failpoint.%s is hit at %d places, want one", ident, n)
		}
	}
}

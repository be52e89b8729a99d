package archtest

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestHouse(t *testing.T) {
	breaches, err := Check(os.DirFS("../.."), House())
	if err != nil {
		t.Fatal(err)
	}
	if len(breaches) > 0 {
		t.Errorf("the house rules are broken:\n%s", strings.Join(breaches, "\n"))
	}
}

// TestBreaches shows that each rule can fail.
func TestBreaches(t *testing.T) {
	tree := fstest.MapFS{
		"api/a.go":           {Data: []byte("// Package api.\npackage api\n\nimport _ \"gearmesh.dev/client\"\n")},
		"linker/l.go":        {Data: []byte("// Package linker.\npackage linker\n\nimport (\n_ \"gearmesh.dev/api\"\n_ \"gearmesh.dev/mesh\"\n_ \"github.com/miekg/dns\"\n)\n")},
		"linker/l_test.go":   {Data: []byte("package linker\n\nimport (\n_ \"gearmesh.dev/mesh\"\n_ \"go.etcd.io/etcd/client/v3\"\n)\n")},
		"contrib/x/x.go":     {Data: []byte("// Package x.\npackage x\n\nimport _ \"gearmesh.dev/cmd/gear\"\n")},
		"mesh/m.go":          {Data: []byte("package mesh\n\nfunc init() {}\n\nfunc Exported() {}\n\ntype T struct{}\n\nconst C = 1\n")},
		"mesh/testdata/t.go": {Data: []byte("not go")},
	}
	got, err := Check(tree, House())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"api/a.go: imports gearmesh.dev/client: api may import [] only",
		"contrib/x/x.go: imports gearmesh.dev/cmd/gear: nothing imports cmd",
		"linker/l.go: imports gearmesh.dev/mesh: linker may import [api internal] only",
		"linker/l.go: imports github.com/miekg/dns: only dnsd may",
		"linker/l_test.go: imports go.etcd.io/etcd/client/v3: only master/store may",
		"mesh/m.go: C has no doc comment",
		"mesh/m.go: Exported has no doc comment",
		"mesh/m.go: T has no doc comment",
		"mesh/m.go: has an init function",
		"mesh: the package has no doc comment",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Package golden compares what a test made with a file under testdata/.
//
// make golden (which sets UPDATE_GOLDEN=1) rewrites the files; read the diff before committing it.
package golden

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Equal fails the test when got differs from testdata/name.
func Equal(t testing.TB, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (make golden writes it)", err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s differs (make golden rewrites it):\n%s", path, cmp.Diff(string(want), string(got)))
	}
}

package clientconfig_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gearmesh.dev/internal/clientconfig"
)

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "config.json")
	if f, err := clientconfig.Load(path); err != nil || len(f.Contexts) != 0 {
		t.Fatalf("a missing file is %+v, %v", f, err)
	}
	first := clientconfig.Context{Name: "lab", Server: "https://10.0.0.1:7443", CA: "pem", Token: "t1"}
	second := clientconfig.Context{Name: "prod", Server: "https://10.0.0.2:7443", CA: "pem", Token: "t2"}
	f := clientconfig.File{}.Set(first).Set(second).Set(first)
	if err := f.Save(path); err != nil {
		t.Fatal(err)
	}
	loaded, err := clientconfig.Load(path)
	if err != nil || !cmp.Equal(f, loaded) || len(loaded.Contexts) != 2 {
		t.Fatalf("got %+v, %v", loaded, err)
	}
	if info, _ := os.Stat(path); info.Mode() != 0o600 {
		t.Errorf("the file has mode %v", info.Mode())
	}
	if c, err := loaded.Context(""); err != nil || !cmp.Equal(c, first) {
		t.Errorf("current is %+v, %v", c, err)
	}
	if c, err := loaded.Context("prod"); err != nil || !cmp.Equal(c, second) {
		t.Errorf("prod is %+v, %v", c, err)
	}
	if _, err := loaded.Context("x"); err == nil || !strings.Contains(err.Error(), "known are lab, prod") {
		t.Errorf("got %v", err)
	}
	if _, err := (clientconfig.File{}).Context(""); err == nil || !strings.Contains(err.Error(), "gear up") {
		t.Errorf("got %v", err)
	}
}

func TestLoadRefusesWhatItDoesNotKnow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(`{"curent": "lab"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := clientconfig.Load(path); err == nil || !strings.Contains(err.Error(), `"current"`) {
		t.Errorf("got %v", err)
	}
}

func TestPath(t *testing.T) {
	t.Setenv("GEAR_CONFIG", "")
	t.Setenv("XDG_CONFIG_HOME", "/x")
	if p, err := clientconfig.Path(); p != "/x/gear/config.json" || err != nil {
		t.Errorf("got %q, %v", p, err)
	}
	t.Setenv("GEAR_CONFIG", "/y")
	if p, err := clientconfig.Path(); p != "/y" || err != nil {
		t.Errorf("got %q, %v", p, err)
	}
}

func TestUseMergeRemove(t *testing.T) {
	lab := clientconfig.Context{Name: "lab", Server: "https://10.0.0.1:7443"}
	prod := clientconfig.Context{Name: "prod", Server: "https://10.0.0.2:7443"}
	f, err := (clientconfig.File{}).Merge(clientconfig.File{Current: "prod", Contexts: []clientconfig.Context{lab, prod}})
	if err != nil || f.Current != "lab" || len(f.Contexts) != 2 {
		t.Fatalf("%+v, %v", f, err)
	}
	if same, err := f.Merge(f); err != nil || !cmp.Equal(same, f) {
		t.Errorf("merged with itself: %+v, %v", same, err)
	}
	other := lab
	other.Token = "t"
	if got, err := f.Merge(clientconfig.File{Contexts: []clientconfig.Context{other}}); err == nil || !cmp.Equal(got, f) {
		t.Errorf("another one of the same name: %+v, %v", got, err)
	}
	if _, err := f.Merge(clientconfig.File{Contexts: []clientconfig.Context{{Name: "x"}}}); err == nil {
		t.Error("a context without a server was taken")
	}
	if used, err := f.Use("prod"); err != nil || used.Current != "prod" {
		t.Errorf("%+v, %v", used, err)
	}
	if _, err := f.Use("x"); err == nil {
		t.Error("an unknown context is used")
	}
	less, err := f.Remove("lab")
	if err != nil || less.Current != "" || len(less.Contexts) != 1 || len(f.Contexts) != 2 {
		t.Errorf("%+v, %v", less, err)
	}
	if _, err := less.Context(""); err == nil || !strings.Contains(err.Error(), "gear context use") {
		t.Errorf("without a current one: %v", err)
	}
	if _, err := less.Remove("lab"); err == nil {
		t.Error("removed twice")
	}
}

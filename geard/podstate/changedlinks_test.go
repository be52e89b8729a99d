package podstate

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"gearmesh.dev/api"
)

// What changed for many pods counts before a pod's own file, until that has it too.
func TestChangedLinks(t *testing.T) {
	dir := t.TempDir()
	d := Dirs{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}
	p, n, links := sample()
	if err := d.Save(p, n, links); err != nil {
		t.Fatal(err)
	}
	is := func(want []api.LinkTarget) {
		t.Helper()
		if got, err := d.LoadLinks(uid); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
	is(links)
	if err := d.SaveChangedLinks(ChangedLinks{uid: links[:1], "bbbbbbbbbbbbbbbb": links}); err != nil {
		t.Fatal(err)
	}
	is(links[:1])
	if own, err := d.LoadOwnLinks(uid); err != nil || !reflect.DeepEqual(own, links) {
		t.Errorf("its own file has %v, %v", own, err)
	}
	if err := d.SaveChangedLinks(ChangedLinks{"bbbbbbbbbbbbbbbb": nil}); err != nil {
		t.Fatal(err)
	}
	is(links)
	if err := os.WriteFile(d.changedLinks(), []byte(`{"aaaaaaaaaaaaaaaa":[`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.LoadLinks(uid); !Damaged(err) {
		t.Errorf("a damaged file gives %v: it is not known whose links it had", err)
	}
	for range 2 {
		if err := d.SaveChangedLinks(nil); err != nil {
			t.Fatal(err)
		}
	}
	is(links)
}

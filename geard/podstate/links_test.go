package podstate

import (
	"os"
	"testing"
)

// Any user may pass the directory of the socket, also when it was made under the umask of a native unit.
func TestMakeLinks(t *testing.T) {
	d := Dirs{Run: t.TempDir()}
	if err := os.MkdirAll(d.Links("aaaaaaaaaaaaaaaa"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := d.MakeLinks("aaaaaaaaaaaaaaaa"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(d.Links("aaaaaaaaaaaaaaaa")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
}

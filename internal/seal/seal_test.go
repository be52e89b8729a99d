package seal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSeal(t *testing.T) {
	k := NewKey()
	for _, plain := range []string{"", "x", strings.Repeat("long ", 1000)} {
		box := k.Seal([]byte(plain), "shop/db")
		if plain != "" && len(plain) > 1 && bytes.Contains(box, []byte(plain)) {
			t.Error("the value stands in the box")
		}
		got, err := k.Open(box, "shop/db")
		if err != nil || string(got) != plain {
			t.Errorf("got %q, %v", got, err)
		}
		if _, err := k.Open(box, "shop/other"); !errors.Is(err, ErrOpen) {
			t.Errorf("opened under another name: %v", err)
		}
		if _, err := NewKey().Open(box, "shop/db"); !errors.Is(err, ErrOpen) {
			t.Errorf("opened with another key: %v", err)
		}
	}
	if bytes.Equal(k.Seal([]byte("x"), "c"), k.Seal([]byte("x"), "c")) {
		t.Error("the same box twice")
	}
	if s := fmt.Sprintf("%v %+v %#v %s", k, k, k, k); s != "(key) (key) (key) (key)" {
		t.Errorf("a key prints as %s", s)
	}
}

// Whatever is changed in a box, it does not open.
func FuzzOpen(f *testing.F) {
	k := NewKey()
	box := k.Seal([]byte("secret"), "c")
	f.Add(3, byte(1))
	f.Add(0, byte(2))
	f.Fuzz(func(t *testing.T, at int, by byte) {
		if by == 0 || at < 0 {
			return
		}
		changed := bytes.Clone(box)
		changed[at%len(box)] ^= by
		if _, err := k.Open(changed, "c"); err == nil {
			t.Errorf("opens with byte %d changed", at%len(box))
		}
		_, _ = k.Open(box[:at%len(box)], "c")
	})
}

func TestHash(t *testing.T) {
	k := NewKey()
	first, again := k.Hash([]byte("a"), "c"), k.Hash([]byte("a"), "c")
	if first != again || first == k.Hash([]byte("b"), "c") || first == k.Hash([]byte("a"), "d") || first == NewKey().Hash([]byte("a"), "c") {
		t.Error("hashes tell too much or too little")
	}
}

func TestKeyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "below", "secret.key")
	k, err := EnsureKey(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("the key's mode: %v, %v", info.Mode(), err)
	}
	if again, err := EnsureKey(file); err != nil || again != k {
		t.Errorf("the key was made anew: %v", err)
	}
	if err := os.Chmod(file, 0o440); err != nil {
		t.Fatal(err)
	}
	if _, err := EnsureKey(file); err == nil || !strings.Contains(err.Error(), "chmod 400") {
		t.Errorf("a key that others can read: %v", err)
	}
	for _, bad := range []string{"", "zz", strings.Repeat("0", 66), strings.Repeat("0", 62)} {
		file := filepath.Join(t.TempDir(), "k")
		if err := os.WriteFile(file, []byte(bad), 0o400); err != nil {
			t.Fatal(err)
		}
		if _, err := EnsureKey(file); err == nil {
			t.Errorf("%q is a key", bad)
		}
	}
}

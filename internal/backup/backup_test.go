package backup_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/backup"
)

func made(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, backup.Header{Revision: 7, Kit: api.MasterKit{CAKey: "very secret"}})
	if err == nil {
		err = w.Add(backup.Item{Key: "a", Value: []byte{0, 255}})
	}
	if err == nil {
		err = w.Add(backup.Item{Key: "b"})
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func read(r io.Reader) (h backup.Header, items []backup.Item, err error) {
	in, err := backup.NewReader(r)
	if err != nil {
		return h, nil, err
	}
	for {
		it, err := in.Next()
		if errors.Is(err, io.EOF) {
			return in.Header, items, nil
		}
		if err != nil {
			return in.Header, items, err
		}
		items = append(items, it)
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	h, items, err := read(bytes.NewReader(made(t)))
	if err != nil || h.Revision != 7 || h.Kit.CAKey != "very secret" || len(items) != 2 || string(items[0].Value) != "\x00\xff" {
		t.Errorf("got %+v %+v, %v", h, items, err)
	}
}

// TestNoPartIsTakenForAll: a backup that is cut anywhere is refused.
func TestNoPartIsTakenForAll(t *testing.T) {
	whole := made(t)
	for n := range len(whole) - 1 { // but for the last line's end
		if _, _, err := read(bytes.NewReader(whole[:n])); err == nil {
			t.Errorf("the first %d of %d bytes pass", n, len(whole))
		}
	}
	if _, _, err := read(bytes.NewReader(append(whole, whole...))); err == nil {
		t.Error("two in a row pass")
	}
	if _, _, err := read(strings.NewReader("{}\n")); err == nil || !strings.Contains(err.Error(), "no backup") {
		t.Errorf("got %v", err)
	}
}

func TestOnlyItsKeyOpensIt(t *testing.T) {
	identity, recipient, err := backup.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := backup.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	sealed := seal(t, func(w io.Writer) (io.WriteCloser, error) { return backup.Seal(w, recipient) })
	if bytes.Contains(sealed, []byte("secret")) {
		t.Error("it can be read")
	}
	if plain, err := backup.Open(bytes.NewReader(sealed), strings.NewReader(identity)); err != nil {
		t.Error(err)
	} else if _, _, err := read(plain); err != nil {
		t.Error(err)
	}
	if _, err := backup.Open(bytes.NewReader(sealed), strings.NewReader(other)); err == nil || !strings.Contains(err.Error(), "does not open") {
		t.Errorf("another key: %v", err)
	}
	if _, err := backup.Seal(io.Discard, "age1x"); err == nil {
		t.Error("a wrong recipient passes")
	}
	short, err := backup.Open(bytes.NewReader(sealed[:len(sealed)-1]), strings.NewReader(identity))
	if err == nil {
		_, _, err = read(short)
	}
	if err == nil {
		t.Error("a cut one passes")
	}
}

func TestAPassphraseOpensIt(t *testing.T) {
	sealed := seal(t, func(w io.Writer) (io.WriteCloser, error) { return backup.SealWith(w, "correct horse") })
	if plain, err := backup.OpenWith(bytes.NewReader(sealed), "correct horse"); err != nil {
		t.Error(err)
	} else if _, items, err := read(plain); err != nil || len(items) != 2 {
		t.Errorf("%v, %v", items, err)
	}
	if _, err := backup.OpenWith(bytes.NewReader(sealed), "wrong horse"); err == nil || !strings.Contains(err.Error(), "does not open") {
		t.Errorf("a wrong one: %v", err)
	}
}

func seal(t *testing.T, with func(io.Writer) (io.WriteCloser, error)) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := with(&out)
	if err == nil {
		_, err = w.Write(made(t))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

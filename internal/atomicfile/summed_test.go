package atomicfile_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gearmesh.dev/internal/atomicfile"
)

type thing struct {
	Name  string   `json:"name"`
	Count int      `json:"count"`
	List  []string `json:"list"`
}

// Whatever happens to a file, what is read is what was written, or an error that says damaged.
func TestSummedGivesWhatWasWrittenOrAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.json")
	want := thing{"web", 3, []string{"a", "b"}}
	if err := atomicfile.WriteSummed(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(data), "\n{\"crc32c\":\"") {
		t.Fatalf("the file is %q, %v", data, err)
	}
	seed := rand.Uint64()
	r, damaged := rand.New(rand.NewPCG(seed, 0)), 0
	for range 2000 {
		bad := append([]byte(nil), data...)
		if r.IntN(2) == 0 {
			bad = bad[:r.IntN(len(bad))]
		} else {
			bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		var got thing
		err := atomicfile.ReadSummed(path, 1<<20, &got)
		if errors.Is(err, atomicfile.ErrDamaged) {
			damaged++
		} else if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: %q is read as %+v, %v", seed, bad, got, err)
		}
	}
	if damaged < 1900 {
		t.Errorf("only %d of 2000 damages were seen", damaged)
	}
}

func TestSummedReadsWhatOlderVersionsWrote(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.json")
	if err := atomicfile.WriteJSON(path, thing{Name: "old"}, 0o600); err != nil {
		t.Fatal(err)
	}
	var got thing
	if err := atomicfile.ReadSummed(path, 1<<20, &got); err != nil || got.Name != "old" {
		t.Errorf("got %+v, %v", got, err)
	}
	if err := atomicfile.ReadSummed(path, 10, &got); !errors.Is(err, atomicfile.ErrDamaged) || !strings.Contains(err.Error(), "more than 10 bytes") {
		t.Errorf("one that is too long: %v", err)
	}
	if err := atomicfile.ReadSummed(path+".none", 10, &got); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("one that is not there: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.ReadSummed(path, 10, &got); !errors.Is(err, atomicfile.ErrDamaged) || !strings.Contains(err.Error(), "empty") {
		t.Errorf("an empty one: %v", err)
	}
}

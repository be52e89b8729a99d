package figures

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func someParts(fail string) []Part[int] {
	var all []Part[int]
	for _, id := range []string{"P1", "P3", "P11"} {
		all = append(all, Part[int]{ID: id, Do: func(_ context.Context, n int) ([]Row, error) {
			rows := []Row{{ID: id, What: "a part", Value: float64(n), Unit: "s"}}
			if id == fail {
				return rows, errors.New("no luck")
			}
			return rows, nil
		}})
	}
	return all
}

func TestPick(t *testing.T) {
	for only, want := range map[string]string{"": "P1 P3 P11", "P3,P1": "P1 P3", "P11": "P11", "P1, P11": "P1 P11"} {
		all := someParts("")
		got, err := Pick(all, only)
		var ids []string
		for _, p := range got {
			ids = append(ids, p.ID)
		}
		if err != nil || strings.Join(ids, " ") != want || all[2].ID != "P11" {
			t.Errorf("Pick(%q) = %s, %v; want %s", only, ids, err, want)
		}
	}
	if _, err := Pick(someParts(""), "P1,P77"); err == nil || !strings.Contains(err.Error(), `"P77"; there are P1, P3, P11`) {
		t.Errorf("an unknown id gives the error %v", err)
	}
}

// TestEachKeepsWhatWasMeasured: a part that fails costs the others nothing.
func TestEachKeepsWhatWasMeasured(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rows.json")
	var out strings.Builder
	do := func(ctx context.Context, p Part[int]) ([]Row, error) { return p.Do(ctx, 7) }
	err := Each(t.Context(), someParts("P3"), do, "make it ONLY=", file, &out)
	if err == nil || !strings.Contains(err.Error(), "P3: no luck") {
		t.Errorf("the error is %v", err)
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Count(string(text), `"value":7`) != 3 || !strings.Contains(string(text), `"command":"make it ONLY=P11"`) {
		t.Errorf("%v, kept: %s", err, text)
	}
	if strings.Count(out.String(), "a part") != 3 {
		t.Errorf("printed:\n%s", out.String())
	}
}

func TestFlags(t *testing.T) {
	o := Options{Bin: "bin", Lab: "bench"}
	if err := o.Flags("bench", io.Discard).Parse([]string{"-only", "P1", "-out", "x.json", "-keep"}); err != nil {
		t.Fatal(err)
	}
	if want := (Options{Only: "P1", Out: "x.json", Bin: "bin", Lab: "bench", Keep: true}); o != want {
		t.Errorf("got %+v, want %+v", o, want)
	}
}

package images

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gearmesh.dev/geard/engine"
)

func now() time.Time { return time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC) }

func TestDecide(t *testing.T) {
	p := Default()
	image := func(id string, unused time.Duration, size int64) Image {
		return Image{ID: id, Refs: []string{id}, Bytes: size, Last: now().Add(-unused)}
	}
	const day = 24 * time.Hour
	inUse := image("used", 30*day, 50)
	inUse.InUse = true
	list := []Image{image("young", time.Hour, 50), image("b", 3*day, 5), image("c", 2*day, 20), inUse, image("a", 9*day, 6), image("edge", day, 50)}
	for name, tc := range map[string]struct {
		disk Disk
		want string
	}{
		"below":                       {Disk{100, 79}, "[]"},
		"at the bound":                {Disk{100, 80}, "[]"},
		"above, oldest first, enough": {Disk{100, 81}, "[a b]"},
		"fuller":                      {Disk{100, 90}, "[a b c]"},
		"never enough":                {Disk{1000, 999}, "[a b c edge]"},
		"no size":                     {Disk{}, "[]"},
	} {
		var got []string
		for _, i := range Decide(p, tc.disk, list, now()) {
			got = append(got, i.ID)
		}
		if fmt.Sprint(got) != tc.want {
			t.Errorf("%s: got %v, want %s", name, got, tc.want)
		}
	}
}

// fake is an engine in memory: references by image, and images that containers have.
type fake struct {
	refs map[string]string // to ids
	used map[string]bool
	down bool
}

func (f *fake) Images(context.Context) ([]engine.HostImage, error) {
	byID := map[string][]string{}
	for ref, id := range f.refs {
		byID[id] = append(byID[id], ref)
	}
	var out []engine.HostImage
	for id, refs := range byID {
		out = append(out, engine.HostImage{ID: id, Refs: refs, Bytes: 10})
	}
	return out, nil
}

func (f *fake) ImageID(_ context.Context, ref string) (string, error) {
	if id, ok := f.refs[ref]; ok {
		return id, nil
	}
	return "", engine.ErrNoImage
}

func (f *fake) UsedImages(context.Context) (map[string]bool, error) {
	if f.down {
		return nil, engine.ErrDown
	}
	return maps.Clone(f.used), nil
}

func (f *fake) RemoveImage(_ context.Context, ref string) error {
	if f.used[f.refs[ref]] {
		return errors.New("a container has it")
	}
	delete(f.refs, ref)
	return nil
}

func (f *fake) Root(context.Context) (string, error) { return "/images", nil }

func newCollector(t *testing.T) (*Collector, *fake) {
	f := &fake{refs: map[string]string{"web:1": "1", "web:one": "1", "web:2": "2", "db:1": "3", "wanted:1": "4", "theirs:1": "5"}, used: map[string]bool{"3": true}}
	c := &Collector{Policy: Default(), Engine: f, Record: NewRecord(filepath.Join(t.TempDir(), "images.json")), Log: slog.New(slog.DiscardHandler),
		Needed: func() ([]string, error) { return []string{"wanted:1", "elsewhere:1"}, nil }, DiskOf: func(string) (Disk, error) { return Disk{100, 95}, nil }}
	for i, ref := range []string{"web:1", "web:one", "web:2", "db:1", "wanted:1", "gone:1"} {
		if err := c.Record.Pulled(ref, now().Add(-time.Duration(100-i)*24*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	return c, f
}

// The pass removes what the agent pulled and nobody uses, and nothing else; of one image all references at once.
func TestPass(t *testing.T) {
	c, f := newCollector(t)
	gone, err := c.Pass(t.Context(), now())
	if slices.Sort(gone); err != nil || fmt.Sprint(gone) != "[web:1 web:2 web:one]" {
		t.Errorf("removed %v, %v", gone, err)
	}
	if left := slices.Sorted(maps.Keys(f.refs)); fmt.Sprint(left) != "[db:1 theirs:1 wanted:1]" {
		t.Errorf("left %v", left)
	}
	again := NewRecord(c.Record.path) // as after a restart
	if got := again.All(); len(got) != 2 || !got["db:1"].Equal(now()) || !got["wanted:1"].Equal(now()) {
		t.Errorf("the record is %v", got)
	}
	// What was in use a moment ago stays for a day.
	f.used = map[string]bool{}
	if gone, err := c.Pass(t.Context(), now().Add(23*time.Hour)); err != nil || len(gone) > 0 {
		t.Errorf("removed %v, %v", gone, err)
	}
	if gone, err := c.Pass(t.Context(), now().Add(25*time.Hour)); err != nil || fmt.Sprint(gone) != "[db:1]" {
		t.Errorf("removed %v, %v", gone, err)
	}
}

func TestPassLeavesAllWhileItCannotTell(t *testing.T) {
	c, f := newCollector(t)
	f.down = true
	_, err := c.Pass(t.Context(), now())
	f.down, c.Needed = false, func() ([]string, error) { return nil, errors.New("a pod on disk cannot be read") }
	_, err2 := c.Pass(t.Context(), now())
	if err == nil || err2 == nil || len(f.refs) != 6 {
		t.Errorf("%v, %v, left %v", err, err2, f.refs)
	}
}

func TestPassOfAllImages(t *testing.T) {
	c, f := newCollector(t)
	c.Policy.All = true
	if _, err := c.Pass(t.Context(), now()); err != nil || f.refs["theirs:1"] == "" {
		t.Errorf("%v, left %v", err, f.refs) // it is seen for the first time
	}
	if _, err := c.Pass(t.Context(), now().Add(48*time.Hour)); err != nil || f.refs["theirs:1"] != "" {
		t.Errorf("%v, left %v", err, f.refs)
	}
}

// A record that is damaged means that nothing is ours to remove.
func TestDamagedRecord(t *testing.T) {
	c, f := newCollector(t)
	if err := os.WriteFile(c.Record.path, []byte(`{"web:1": `), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Record = NewRecord(c.Record.path)
	if gone, err := c.Pass(t.Context(), now()); err != nil || len(gone) > 0 || len(f.refs) != 6 {
		t.Errorf("removed %v, %v", gone, err)
	}
}

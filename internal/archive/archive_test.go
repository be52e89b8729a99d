package archive_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/internal/archive"
)

// entry is one of a hostile archive.
type entry struct {
	name, link string
	kind       byte
	mode       int64
	text       string
}

func build(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.text)), ModTime: time.Unix(1e9, 0)}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tree prints a directory: names, kinds, modes and contents.
func tree(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, at)
		switch {
		case name == ".":
		case d.Type() == fs.ModeSymlink:
			target, _ := os.Readlink(at)
			fmt.Fprintf(&b, "%s -> %s\n", name, target)
		case d.IsDir():
			fmt.Fprintf(&b, "%s/ %o\n", name, info.Mode().Perm())
		default:
			text, _ := os.ReadFile(at)
			fmt.Fprintf(&b, "%s %v %q\n", name, info.Mode(), text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestExtract(t *testing.T) {
	dir := entry{name: "top/", kind: tar.TypeDir}
	file := func(name string) entry { return entry{name: name, kind: tar.TypeReg, text: "x", mode: 0o644} }
	link := func(name, to string) entry { return entry{name: name, link: to, kind: tar.TypeSymlink} }
	for name, tc := range map[string]struct {
		entries          []entry
		want, left, fail string
	}{
		"a file":                {entries: []entry{{name: "f", kind: tar.TypeReg, text: "hello", mode: 0o640}}, want: "out -rw-r----- \"hello\"\n"},
		"a directory":           {entries: []entry{dir, {name: "top/d/", kind: tar.TypeDir, mode: 0o500}, file("top/d/f"), link("top/l", "d/f")}, want: "out/ 755\nout/d/ 500\nout/d/f -rw-r--r-- \"x\"\nout/l -> d/f\n"},
		"set-user-id":           {entries: []entry{{name: "f", kind: tar.TypeReg, mode: 0o6755}}, want: "out -rwxr-xr-x \"\"\n"},
		"a hard link":           {entries: []entry{dir, file("top/f"), {name: "top/g", link: "top/f", kind: tar.TypeLink}}, want: "out/ 755\nout/f -rw-r--r-- \"x\"\nout/g -rw-r--r-- \"x\"\n"},
		"devices and pipes":     {entries: []entry{dir, {name: "top/null", kind: tar.TypeChar}, {name: "top/sda", kind: tar.TypeBlock}, {name: "top/p", kind: tar.TypeFifo}}, want: "out/ 755\n", left: "top/null: it is a device\ntop/sda: it is a device\ntop/p: it is a pipe\n"},
		"links out":             {entries: []entry{dir, link("top/a", "/etc/passwd"), link("top/b", "../secret"), link("top/c", "x/../../../secret")}, want: "out/ 755\n", left: "top/a: it is a link to \"/etc/passwd\", out of what is copied\ntop/b: it is a link to \"../secret\", out of what is copied\ntop/c: it is a link to \"x/../../../secret\", out of what is copied\n"},
		"a hard link out":       {entries: []entry{dir, {name: "top/g", link: "../secret", kind: tar.TypeLink}, {name: "top/h", link: "secret", kind: tar.TypeLink}}, want: "out/ 755\n", left: "top/g: it is a link to \"../secret\", out of what is copied\ntop/h: it is a link to \"secret\", out of what is copied\n"},
		"a name out":            {entries: []entry{dir, file("top/../../secret")}, fail: "leads out of it"},
		"an absolute name":      {entries: []entry{file("/etc/secret")}, fail: "leads out of it"},
		"a neighbour":           {entries: []entry{dir, file("secret")}, fail: `it is not in "top"`},
		"two files":             {entries: []entry{file("f"), file("g")}, fail: `it is not in "f"`},
		"through a link":        {entries: []entry{dir, link("top/l", "."), file("top/l/f")}, fail: `"l" is no directory`},
		"a link through a link": {entries: []entry{dir, {name: "top/d/", kind: tar.TypeDir}, link("top/d/up", ".."), link("top/d/up/evil", "../../secret")}, fail: `"d/up" is no directory`},
		"a moved link":          {entries: []entry{dir, {name: "top/d/", kind: tar.TypeDir}, link("top/d/l", "../secret"), {name: "top/m", link: "top/d/l", kind: tar.TypeLink}}, fail: "which is no file"},
		"a link alone":          {entries: []entry{link("top", "top")}, fail: "neither a file nor a directory"},
		"too deep":              {entries: []entry{dir, file("top/1/2/3/4/5/6")}, fail: "6 directories deep"},
		"too many":              {entries: []entry{dir, dir, dir, dir, dir, dir, dir, dir, dir}, fail: "more than 8 entries"},
		"too large":             {entries: []entry{dir, {name: "top/f", kind: tar.TypeReg, text: strings.Repeat("x", 60)}, {name: "top/g", kind: tar.TypeReg, text: strings.Repeat("x", 60)}}, fail: "more than 100 bytes"},
		"nothing":               {fail: "the archive is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			outer := t.TempDir()
			home := filepath.Join(outer, "home")
			if err := os.Mkdir(home, 0o755); err != nil {
				t.Fatal(err)
			}
			var left strings.Builder
			err := archive.Extract(filepath.Join(home, "out"), bytes.NewReader(build(t, tc.entries...)), archive.Limits{Bytes: 100, Entries: 8, Depth: 4},
				func(name, why string) { fmt.Fprintf(&left, "%s: %s\n", name, why) })
			switch {
			case tc.fail != "" && (err == nil || !strings.Contains(err.Error(), tc.fail)):
				t.Errorf("got %v, want %q", err, tc.fail)
			case tc.fail == "" && err != nil:
				t.Error(err)
			case tc.fail == "" && tree(t, home) != tc.want:
				t.Errorf("got\n%swant\n%s", tree(t, home), tc.want)
			}
			if left.String() != tc.left {
				t.Errorf("left out\n%swant\n%s", left.String(), tc.left)
			}
			if beside, _ := os.ReadDir(outer); len(beside) != 1 {
				t.Errorf("something stands beside: %v", beside)
			}
		})
	}
}

// A link that stands where a file goes is replaced, and not written through.
func TestExtractReplacesLinks(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	text := build(t, entry{name: "f", kind: tar.TypeReg, text: "new", mode: 0o644})
	if err := archive.Extract(filepath.Join(dir, "out"), bytes.NewReader(text), archive.Default(), nil); err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, dir), "out -rw-r--r-- \"new\"\nsecret -rw------- \"kept\"\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(from, "a/b"), 0o755),
		os.WriteFile(filepath.Join(from, "a/b/f"), []byte("binary\x00\n"), 0o640),
		os.Symlink("b/f", filepath.Join(from, "a/l")),
		os.Symlink("/etc", filepath.Join(from, "a/out")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var packed, filtered bytes.Buffer
	var left []string
	note := func(name, why string) { left = append(left, name) }
	if err := archive.Pack(&packed, filepath.Join(from, "a"), "new", note); err != nil {
		t.Fatal(err)
	}
	if err := archive.Filter(&filtered, &packed, archive.Default(), note); err != nil {
		t.Fatal(err)
	}
	if err := archive.Extract(filepath.Join(to, "c"), &filtered, archive.Default(), note); err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, to), "c/ 755\nc/b/ 755\nc/b/f -rw-r----- \"binary\\x00\\n\"\nc/l -> b/f\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if fmt.Sprint(left) != "[new/out]" {
		t.Errorf("left out %v", left)
	}
}

// FuzzExtract holds whatever a stranger's bytes do to the directory that they are unpacked in.
func FuzzExtract(f *testing.F) {
	f.Add(build(f, entry{name: "top/", kind: tar.TypeDir}, entry{name: "top/f", kind: tar.TypeReg, text: "x"}, entry{name: "top/l", link: "../x", kind: tar.TypeSymlink}))
	f.Add(build(f, entry{name: "top/", kind: tar.TypeDir}, entry{name: "top/l", link: ".", kind: tar.TypeSymlink}, entry{name: "top/l/l", link: "..", kind: tar.TypeSymlink}))
	f.Fuzz(func(t *testing.T, text []byte) {
		outer := t.TempDir()
		_ = archive.Extract(filepath.Join(outer, "out"), bytes.NewReader(text), archive.Limits{Bytes: 1 << 20, Entries: 50, Depth: 8}, func(string, string) {})
		beside, err := os.ReadDir(outer)
		if err != nil || len(beside) > 1 || len(beside) == 1 && beside[0].Name() != "out" {
			t.Fatalf("%v stand in the directory, %v", beside, err)
		}
		root := filepath.Join(outer, "out")
		_ = filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
			if err != nil {
				return fs.SkipDir // what was not unpacked, or may not be read
			}
			if d.Type()&^(fs.ModeDir|fs.ModeSymlink) != 0 {
				t.Errorf("%s is %v", at, d.Type())
			}
			if target, err := os.Readlink(at); err == nil {
				if to := filepath.Join(filepath.Dir(at), target); filepath.IsAbs(target) || to != root && !strings.HasPrefix(to, root+"/") {
					t.Errorf("%s leads out, to %s", at, target)
				}
			}
			return nil
		})
	})
}

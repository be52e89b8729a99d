package volumes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

func sample(t *testing.T, list ...api.Volume) (podstate.Dirs, api.Pod) {
	t.Helper()
	dir := t.TempDir()
	p := *api.New(api.KindPod).(*api.Pod)
	p.Metadata = api.Metadata{Name: "db-aaaaa", Project: "shop", UID: "aaaaaaaaaaaaaaaa"}
	p.Spec.Service, p.Spec.Template.Volumes = "db", list
	return podstate.Dirs{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}, p
}

func TestParseClasses(t *testing.T) {
	c, err := ParseClasses("fast=/mnt/fast,bulk=/mnt/bulk")
	if err != nil || len(c) != 2 || c["bulk"] != "/mnt/bulk" {
		t.Errorf("got %v, %v", c, err)
	}
	for _, bad := range []string{"fast", "fast=", "Fast=/a", "fast=mnt", "fast=/a/../b", "fast=/", "=/a"} {
		if c, err := ParseClasses(bad); err == nil {
			t.Errorf("%q is %v", bad, c)
		}
	}
}

func TestClassesArePlacedOnce(t *testing.T) {
	dirs, p := sample(t, api.Volume{Name: "data"}, api.Volume{Name: "wal", Class: "fast"}, api.Volume{Name: "tmp", Tmpfs: true})
	fast := t.TempDir()
	if err := (Classes{}).Save(dirs, p); err == nil || !strings.Contains(err.Error(), "--volume-class fast=") {
		t.Errorf("a class that is not there: %v", err)
	}
	if err := (Classes{"fast": fast + "/none"}).Save(dirs, p); err == nil || !strings.Contains(err.Error(), "mounted") {
		t.Errorf("a disk that is not there: %v", err)
	}
	if err := (Classes{"fast": fast}).Save(dirs, p); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[api.Name]string{
		"data": dirs.Volumes("shop", "db") + "/data", "wal": filepath.Join(fast, "shop/db/wal"), "tmp": filepath.Join(dirs.Run, "volumes/aaaaaaaaaaaaaaaa/tmp"),
	} {
		dir, made, err := Ensure(dirs, p, name)
		if dir != want || !made || err != nil {
			t.Errorf("%s is at %s (made: %v), %v; want %s", name, dir, made, err, want)
		}
		if _, made, err := Ensure(dirs, p, name); made || err != nil {
			t.Errorf("%s was made again, %v", name, err)
		}
	}
	if err := os.Rename(fast, fast+".away"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Ensure(dirs, p, "wal"); err == nil || !strings.Contains(err.Error(), "mounted") {
		t.Errorf("a volume was made beneath its disk: %v", err)
	}
	if _, err := Of(dirs, p, "other"); err == nil {
		t.Error("a volume that the pod does not have was found")
	}
}

// TestIdentitiesHaveVolumesOfTheirOwn: no two have one, nor does one have that of the service.
func TestIdentitiesHaveVolumesOfTheirOwn(t *testing.T) {
	dirs, p := sample(t, api.Volume{Name: "data"}, api.Volume{Name: "wal", Class: "fast"})
	fast := t.TempDir()
	seen := map[string]bool{}
	for _, ordinal := range []int{-1, 0, 1, 12} {
		own := p
		own.Metadata.UID = api.UID(fmt.Sprintf("aaaaaaaaaaaaaa%02d", ordinal))
		want := ""
		if ordinal >= 0 {
			own.Spec.Ordinal, want = &ordinal, fmt.Sprint(".", ordinal)
		}
		if err := (Classes{"fast": fast}).Save(dirs, own); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[api.Name]string{"data": dirs.Volumes("shop", "db") + "/data" + want, "wal": fast + "/shop/db/wal" + want} {
			dir, made, err := Ensure(dirs, own, name)
			if dir != want || !made || seen[dir] || err != nil {
				t.Errorf("%s of %d is at %s (made: %v, seen: %v), %v; want %s", name, ordinal, dir, made, seen[dir], err, want)
			}
			seen[dir] = true
		}
		if Shared(p, own) != (ordinal < 0) || !Shared(own, own) {
			t.Errorf("%d shares with the service's: %v, with itself: %v", ordinal, Shared(p, own), Shared(own, own))
		}
	}
}

func TestDelete(t *testing.T) {
	dirs, p := sample(t, api.Volume{Name: "keep"}, api.Volume{Name: "drop", OnDelete: api.VolumeDelete})
	for _, name := range []api.Name{"keep", "drop"} {
		dir, _, err := Ensure(dirs, p, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Delete(dirs, p); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dirs.Volumes("shop", "db") + "/keep/file"); err != nil {
		t.Errorf("what should be kept: %v", err)
	}
	if _, err := os.Stat(dirs.Volumes("shop", "db") + "/drop"); err == nil {
		t.Error("what should be deleted is there")
	}
}

func TestCountsProjects(t *testing.T) {
	mounts := `25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 25 8:2 / /mnt/fast rw - xfs /dev/sdb rw,attr2,prjquota
31 25 8:3 / /mnt/a\040b rw - ext4 /dev/sdc rw,prjquota
32 25 8:4 / /mnt/fast/plain rw - xfs /dev/sdd rw,noquota
broken
`
	for path, want := range map[string]string{
		"/var/lib/gear/volumes": "ext4 false", "/mnt/fast/shop": "xfs true", "/mnt/fast": "xfs true", "/mnt/faster": "ext4 false",
		"/mnt/a b/x": "ext4 true", "/mnt/fast/plain/x": "xfs false",
	} {
		kind, ok := countsProjects(mounts, path)
		if got := kind + map[bool]string{true: " true", false: " false"}[ok]; got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestUnbounded(t *testing.T) {
	dirs, p := sample(t, api.Volume{Name: "data", Size: 1 << 30}, api.Volume{Name: "free"}, api.Volume{Name: "tmp", Tmpfs: true, Size: 1})
	got := Unbounded(dirs, []api.Pod{p, p})
	if len(got) != 1 || !strings.Contains(got[0], "volume data of shop/db may grow beyond its 1Gi") {
		t.Errorf("got %q", got)
	}
	dir, _, err := Ensure(dirs, p, "data")
	if err == nil {
		err = Bound(dir, 1<<30)
	}
	if err != nil {
		t.Errorf("a file system without quotas is no error: %v", err)
	}
}

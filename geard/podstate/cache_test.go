package podstate_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

// aged waits until a cache may keep what it reads of a file.
func aged(t *testing.T) {
	t.Helper()
	time.Sleep(60 * time.Millisecond)
}

func TestCacheSeesEveryChange(t *testing.T) {
	dirs := podstate.Dirs{State: t.TempDir(), Run: t.TempDir()}
	c := podstate.NewCache(dirs)
	uid := api.UID("abcdefghijkl2345")
	want := func(state api.RunState) {
		t.Helper()
		for range 2 { // as read, and as remembered
			if s, err := c.LoadRun(uid, "main"); err != nil || s.State != state {
				t.Fatalf("got %q, %v; want %q", s.State, err, state)
			}
		}
	}
	want("")
	for _, state := range []api.RunState{api.RunWaiting, api.RunRunning, api.RunStopped} {
		if err := dirs.SaveRun(uid, "main", api.ContainerStatus{State: state}); err != nil {
			t.Fatal(err)
		}
		want(state)
		aged(t)
		want(state)
	}
	path := filepath.Join(dirs.RunPod(uid), "main.json")
	if err := os.WriteFile(path, []byte(`{"state":"running"}`), 0o644); err != nil { // in place
		t.Fatal(err)
	}
	want(api.RunRunning)
	aged(t)
	want(api.RunRunning)
	if err := os.WriteFile(path, []byte("damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	if s, err := c.LoadRun(uid, "main"); err == nil {
		t.Errorf("a damaged file gives %+v", s)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	want("")
}

// A file with the same time, size and inode is not read again: that is the point.
func TestCacheRemembers(t *testing.T) {
	dirs := podstate.Dirs{State: t.TempDir(), Run: t.TempDir()}
	c := podstate.NewCache(dirs)
	uid := api.UID("abcdefghijkl2345")
	if err := os.MkdirAll(dirs.Pod(uid), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := dirs.Save(api.Pod{Header: api.Header{Metadata: api.Metadata{Name: "a", UID: uid}}}, podstate.Net{Address: netip.MustParseAddr("10.127.0.2"), Domain: "x"}, nil); err != nil {
		t.Fatal(err)
	}
	aged(t)
	for range 2 {
		if _, err := c.LoadPod(uid); err != nil {
			t.Fatal(err)
		}
		if n, err := c.LoadNet(uid); err != nil || n.Domain != "x" {
			t.Fatal(n, err)
		}
	}
	allocated := testing.AllocsPerRun(10, func() { _, _ = c.LoadPod(uid) })
	decoded := testing.AllocsPerRun(10, func() { _, _ = dirs.LoadPod(uid) })
	if allocated >= decoded {
		t.Errorf("%v allocations for a pod that is known, %v for one that is decoded", allocated, decoded)
	}
	if err := dirs.Remove(uid); err != nil {
		t.Fatal(err)
	}
	if uids, err := c.Pods(); err != nil || len(uids) != 0 {
		t.Error(uids, err)
	}
	if _, err := c.LoadPod(uid); !podstate.Missing(err) {
		t.Errorf("a pod that is gone gives %v", err)
	}
}

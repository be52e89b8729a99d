package geard

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
)

// linksTo gives the links of a pod to one backend.
func linksTo(port uint16) []api.LinkTarget {
	return []api.LinkTarget{{Service: "db", Local: netip.MustParseAddr("127.1.0.1"), Port: 5432, Protocol: api.TCP,
		Backends: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("192.0.2.2"), port)}}}
}

// manyPods puts pods on disk, with their links.
func manyPods(t *testing.T, n int) (podstate.Dirs, []api.UID) {
	d := podstate.Dirs{State: t.TempDir(), Run: t.TempDir()}
	var uids []api.UID
	for i := range n {
		uid := api.UID(fmt.Sprintf("aaaaaaaaaaaaaa%c%c", 'a'+i/26, 'a'+i%26))
		if err := os.MkdirAll(d.Pod(uid), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := d.SaveLinks(uid, linksTo(1)); err != nil {
			t.Fatal(err)
		}
		uids = append(uids, uid)
	}
	return d, uids
}

func newFiles(d podstate.Dirs) *linkFiles { return newLinkFiles(d, slog.New(slog.DiscardHandler)) }

func changeAll(uids []api.UID, port uint16) podstate.ChangedLinks {
	c := podstate.ChangedLinks{}
	for _, uid := range uids {
		c[uid] = linksTo(port)
	}
	return c
}

// wantLinks looks at what everybody else reads from disk.
func wantLinks(t *testing.T, d podstate.Dirs, uids []api.UID, port uint16) {
	t.Helper()
	for _, uid := range uids {
		if got, err := d.LoadLinks(uid); err != nil || !reflect.DeepEqual(got, linksTo(port)) {
			t.Fatalf("pod %s: %v, %v; want a link to port %d", uid, got, err, port)
		}
	}
}

func ownFile(t *testing.T, d podstate.Dirs, uid api.UID, port uint16) {
	t.Helper()
	if got, err := d.LoadOwnLinks(uid); err != nil || !reflect.DeepEqual(got, linksTo(port)) {
		t.Errorf("its own file has %v, %v; want a link to port %d", got, err, port)
	}
}

// Links of many pods are on disk for everybody as soon as they are saved, and stay there through all that can come between: a next
// change, a stop in the middle of settling, a pod that is gone.
func TestLinksOfManyPods(t *testing.T) {
	d, uids := manyPods(t, 60)
	f := newFiles(d)
	if failed := f.save(changeAll(uids, 2)); len(failed) > 0 {
		t.Fatal(failed)
	}
	wantLinks(t, d, uids, 2)
	ownFile(t, d, uids[0], 1)
	once := 1
	if err := f.settle(func() bool { once--; return once >= 0 }); err != nil {
		t.Fatal(err)
	}
	wantLinks(t, d, uids, 2)
	if failed := f.save(changeAll(uids[:1], 3)); len(failed) > 0 { // one pod alone, after its own file may have been settled
		t.Fatal(failed)
	}
	wantLinks(t, d, uids[:1], 3)
	wantLinks(t, d, uids[1:], 2)

	f = newFiles(d) // the agent is started anew
	if got, err := f.load(uids[0]); err != nil || !reflect.DeepEqual(got, linksTo(3)) {
		t.Errorf("after a start: %v, %v", got, err)
	}
	if err := os.RemoveAll(d.Pod(uids[59])); err != nil {
		t.Fatal(err)
	}
	if err := f.settle(func() bool { return true }); err != nil {
		t.Fatal(err)
	}
	wantLinks(t, d, uids[:1], 3)
	wantLinks(t, d, uids[1:59], 2)
	ownFile(t, d, uids[0], 3)
	ownFile(t, d, uids[58], 2)
	if c, err := d.LoadChangedLinks(); err != nil || c != nil {
		t.Errorf("%d pods are not settled, %v", len(c), err)
	}
	if _, err := os.Stat(d.Pod(uids[59])); err == nil {
		t.Error("settling brings back the directory of a pod that is gone")
	}
}

// One pod whose file cannot be written does not keep the others from theirs.
func TestLinksOfFewPods(t *testing.T) {
	d, uids := manyPods(t, 3)
	if err := os.RemoveAll(d.Pod(uids[1])); err != nil {
		t.Fatal(err)
	}
	f := newFiles(d)
	if failed := f.save(changeAll(uids, 2)); len(failed) != 1 || failed[uids[1]] == nil {
		t.Errorf("failed: %v", failed)
	}
	ownFile(t, d, uids[0], 2)
	ownFile(t, d, uids[2], 2)
}

// A file of changes that cannot be read is forgotten: who reads links then has each pod's own.
func TestChangedLinksDamaged(t *testing.T) {
	d, uids := manyPods(t, 6)
	if failed := newFiles(d).save(changeAll(uids, 2)); len(failed) > 0 {
		t.Fatal(failed)
	}
	if err := os.WriteFile(filepath.Join(d.State, "links", "changed.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	newFiles(d)
	wantLinks(t, d, uids, 1)
}

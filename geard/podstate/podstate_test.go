package podstate

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/golden"
)

const uid = api.UID("aaaaaaaaaaaaaaaa")

func sample() (api.Pod, Net, []api.LinkTarget) {
	p := *api.New(api.KindPod).(*api.Pod)
	p.Metadata = api.Metadata{Name: "web-aaaaa", Project: "shop", UID: uid}
	addr := netip.MustParseAddr
	return p, Net{Address: addr("10.127.3.4"), HostAddress: addr("192.0.2.1"), Domain: "gear.internal"},
		[]api.LinkTarget{{Service: "db", Local: addr("127.1.0.1"), Port: 5432}, {Service: "db", Local: addr("127.1.0.1"), Port: 5433},
			{Service: "cache", Local: addr("127.1.0.2"), Port: 6379}}
}

func TestMountedFiles(t *testing.T) {
	p, n, links := sample()
	for name, text := range mounted(p, n, links) {
		golden.Equal(t, name, []byte(text))
	}
}

func TestSaveLoadRemove(t *testing.T) {
	dir := t.TempDir()
	d := Dirs{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}
	p, n, links := sample()
	if err := d.Save(p, n, links); err != nil {
		t.Fatal(err)
	}
	gotPod, err1 := d.LoadPod(uid)
	gotNet, err2 := d.LoadNet(uid)
	gotLinks, err3 := d.LoadLinks(uid)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	equalAddr := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if s := cmp.Diff(p, gotPod, equalAddr) + cmp.Diff(n, gotNet, equalAddr) + cmp.Diff(links, gotLinks, equalAddr, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); s != "" {
		t.Error(s)
	}
	if err := os.WriteFile(filepath.Join(d.Pod(uid), "net.json"), []byte(`{"address": "10.1`), 0o644); err != nil {
		t.Fatal(err)
	}
	if kept, err := d.LoadNet(uid); err != nil || kept.Address != n.Address {
		t.Errorf("with a damaged net.json the place is %v, %v", kept, err)
	}
	if s, err := d.LoadRun(uid, "main"); err != nil || s.State != "" {
		t.Errorf("a container that never ran has state %+v, %v", s, err)
	}
	if err := d.SaveRun(uid, "main", api.ContainerStatus{Name: "main", State: api.RunRunning}); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(uid); err != nil {
		t.Fatal(err)
	}
	if left, err := d.Pods(); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := os.Stat(d.RunPod(uid)); err == nil {
		t.Error("the runtime state was left")
	}
	if _, err := d.LoadPod(uid); !Missing(err) {
		t.Errorf("loading what is gone: %v", err)
	}
}

func TestRemoveRefusesPaths(t *testing.T) {
	for _, bad := range []api.UID{"", "..", "../../etc/passwd0", "aaaaaaaa/aaaaaaa"} {
		if err := (Dirs{State: t.TempDir()}).Remove(bad); err == nil {
			t.Errorf("%q was removed", bad)
		}
	}
}

// A pod's links that are resolved again have the ports that the rules and the balancer have.
func TestLinkPorts(t *testing.T) {
	d := Dirs{State: t.TempDir()}
	if _, err := d.LoadLinkPorts(); !Missing(err) {
		t.Errorf("got %v", err)
	}
	balanced := api.LinkTarget{Service: "db", PortName: "sql", Mode: api.LinkBalanced}
	near, direct, unknown, other := balanced, balanced, balanced, balanced
	near.Nearest, direct.Mode, unknown.PortName, other.Project = true, api.LinkDirect, "", "bank"
	if err := d.SaveLinkPorts(LinkPorts{LinkKey("shop", balanced): 30000, LinkKey("shop", near): 30001, LinkKey("bank", balanced): 30002}); err != nil {
		t.Fatal(err)
	}
	ports, err := d.LoadLinkPorts()
	if err != nil {
		t.Fatal(err)
	}
	links := []api.LinkTarget{balanced, direct, near, unknown, other}
	ports.Fill("shop", links)
	if got := Balanced(links); !reflect.DeepEqual(got, []uint16{30000, 30001, 30002}) {
		t.Errorf("got %v", got)
	}
}

// TestLoadVolumes: what is read of a pod in part is what is read of it in full.
func TestLoadVolumes(t *testing.T) {
	d := Dirs{State: t.TempDir(), Run: t.TempDir()}
	p, n, links := sample()
	p.Spec.Template.Volumes = []api.Volume{{Name: "data", Class: "ssd"}, {Name: "cache", Tmpfs: true, Size: 1 << 20}}
	if err := d.Save(p, n, links); err != nil {
		t.Fatal(err)
	}
	got, err := d.LoadVolumes(uid)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.Spec.Template.Volumes, got.Spec.Template.Volumes); diff != "" || got.Metadata.UID != uid {
		t.Errorf("of %q: %s", got.Metadata.UID, diff)
	}
	p.Metadata.UID = "bbbbbbbbbbbbbbbb"
	if err := os.Rename(d.Pod(uid), d.Pod(p.Metadata.UID)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.LoadVolumes(p.Metadata.UID); !Damaged(err) {
		t.Errorf("another pod's file: %v", err)
	}
	if _, err := d.LoadVolumes(uid); !Missing(err) {
		t.Errorf("no file: %v", err)
	}
}

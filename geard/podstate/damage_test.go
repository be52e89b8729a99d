package podstate

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/atomicfile"
	"gearmesh.dev/internal/damage"
	"gearmesh.dev/linker"
)

// mutations is how many damages each kind of file gets.
const mutations = 500

// spoil spoils a file again and again. check is told how, and whether the text is still sound JSON without its checksum, as an older
// version wrote it: then it may say something else.
func spoil(t *testing.T, file string, check func(what string, sound bool)) {
	t.Helper()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for range mutations {
		what, bad := damage.Text(r, good)
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		check(filepath.Base(file)+", "+what, !strings.Contains(string(bad), `"crc32c"`))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Whatever happens to a file of a pod: it is what was written, or it is damaged; it is never missing, which would mean that there
// is no pod, and never another pod's.
func TestDamageIsFoundOut(t *testing.T) {
	d := Dirs{State: t.TempDir(), Run: t.TempDir()}
	p, n, links := sample()
	p.Spec.Template.Containers = []api.Container{{Name: "main", Image: "web:1", Env: map[string]string{"A": "b"}}}
	if err := d.Save(p, n, links); err != nil {
		t.Fatal(err)
	}
	saveDesired(t, d, api.Directory{})
	p, _ = d.LoadPod(uid)
	place, _ := d.LoadNet(uid)
	links, _ = d.LoadLinks(uid)
	file := func(name string) string { return filepath.Join(d.Pod(uid), name) }
	spoil(t, file("pod.json"), func(what string, sound bool) {
		got, err := d.LoadPod(uid)
		switch {
		case err != nil && !Damaged(err):
			t.Errorf("%s: %v", what, err)
		case err == nil && got.Metadata.UID != uid:
			t.Errorf("%s: it is pod %q", what, got.Metadata.UID)
		case err == nil && !sound && !reflect.DeepEqual(got, p):
			t.Errorf("%s: it was not found out: %+v", what, got)
		}
	})
	spoil(t, file("links.json"), func(what string, sound bool) {
		got, err := d.LoadLinks(uid)
		if err != nil && !Damaged(err) || err == nil && !sound && !reflect.DeepEqual(got, links) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
		if again, err := d.FindLinks(uid); err != nil || len(again) != 0 {
			t.Errorf("%s: links found again are %+v, %v", what, again, err) // the pod's template has none
		}
	})
	drains := []linker.Drain{{Local: netip.MustParseAddr("127.1.0.1"), Port: 5432, Protocol: api.TCP, Backend: netip.MustParseAddrPort("192.0.2.1:20001"), Until: time.Unix(1e9, 0).UTC()}}
	if err := d.SaveDrains(uid, drains); err != nil {
		t.Fatal(err)
	}
	spoil(t, file("drains.json"), func(what string, sound bool) {
		got, err := d.LoadDrains(uid)
		if err != nil && !Damaged(err) || err == nil && !sound && !reflect.DeepEqual(got, drains) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	})
	spare, err := os.ReadFile(file(netCopy))
	if err != nil {
		t.Fatal(err)
	}
	times := 0
	spoil(t, file("net.json"), func(what string, sound bool) {
		got, err := d.LoadNet(uid)
		if err != nil || !got.Address.Is4() || !sound && !reflect.DeepEqual(got, place) {
			t.Errorf("%s: %+v, %v although there is a copy", what, got, err)
		}
		if times++; times%10 > 0 {
			return // it waits for the disk, several times
		}
		if _, err := d.MendNet(uid); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		for _, name := range []string{"net.json", netCopy} {
			if got, err := loadNet(file(name)); err != nil || !got.Address.Is4() {
				t.Errorf("%s: %s is not mended: %+v, %v", what, name, got, err)
			}
		}
		if err := os.WriteFile(file(netCopy), spare, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	if pods, err := d.Pods(); err != nil || len(pods) != 1 {
		t.Errorf("pods are %v, %v", pods, err)
	}
}

// saveDesired writes down what the master last said.
func saveDesired(t *testing.T, d Dirs, known api.Directory) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(d.Desired()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.WriteSummed(d.Desired(), api.Desired{Directory: known}, 0o600); err != nil {
		t.Fatal(err)
	}
}

// The links of a pod are found again, those of its template and those that its project gives.
func TestFindLinks(t *testing.T) {
	d := Dirs{State: t.TempDir(), Run: t.TempDir()}
	p, n, _ := sample()
	p.Spec.Template.Links = []api.Link{{Service: "db", LocalPort: 6379, Protocol: api.TCP}}
	if err := d.Save(p, n, nil); err != nil {
		t.Fatal(err)
	}
	if links, err := d.FindLinks(uid); err == nil || len(links) != 1 || len(links[0].Backends) != 0 {
		t.Errorf("without the word of the master: %+v, %v; want the link of the template, and nobody behind it", links, err)
	}
	entry := func(name api.Name) api.ServiceEntry {
		return api.ServiceEntry{Project: "shop", Name: name, Linked: true, Ports: []api.Port{{Name: "main", Port: 5432, Protocol: api.TCP}}}
	}
	at := netip.MustParseAddrPort("192.0.2.2:20001")
	saveDesired(t, d, api.Directory{Services: []api.ServiceEntry{entry("db"), entry("queue")},
		Hosts: []api.HostEntry{{Name: "h2", Address: at.Addr()}},
		Endpoints: []api.HostEndpoints{{Host: "h2", Seq: 1, Endpoints: []api.Endpoint{
			{Project: "shop", Service: "queue", Pod: "queue-aaaaa", Port: "main", Protocol: api.TCP, Address: at, Ready: true}}}}})
	for _, template := range [][]api.Link{p.Spec.Template.Links, nil} {
		p.Spec.Template.Links = template
		if err := d.SavePod(p); err != nil {
			t.Fatal(err)
		}
		var found []string
		links, err := d.FindLinks(uid)
		for _, l := range links {
			found = append(found, fmt.Sprintf("%s:%d %v", l.Service, l.Port, l.Backends))
		}
		slices.Sort(found)
		want := []string{"db:5432 []", "queue:5432 [192.0.2.2:20001]"}
		if len(template) > 0 {
			want[0] = "db:6379 []"
		}
		if err != nil || !slices.Equal(found, want) {
			t.Errorf("found %q, %v; want %q", found, err, want)
		}
	}
}

func TestDamagedRunStateIsNoPanic(t *testing.T) {
	d := Dirs{State: t.TempDir(), Run: t.TempDir()}
	if err := d.SaveRun(uid, "main", api.ContainerStatus{Name: "main", State: api.RunRunning, Ready: true, Restarts: 3}); err != nil {
		t.Fatal(err)
	}
	spoil(t, d.run(uid, "main"), func(what string, _ bool) {
		if s, err := d.LoadRun(uid, "main"); err != nil && s != (api.ContainerStatus{}) {
			t.Errorf("%s: a state comes with the error %v: %+v", what, err, s)
		}
	})
}

func TestAnotherPodsFileIsDamaged(t *testing.T) {
	d := Dirs{State: t.TempDir(), Run: t.TempDir()}
	p, n, links := sample()
	if err := d.Save(p, n, links); err != nil {
		t.Fatal(err)
	}
	other := p
	other.Metadata.UID = "bbbbbbbbbbbbbbbb"
	if err := d.Save(other, n, links); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(d.Pod(other.Metadata.UID), "pod.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.Pod(uid), "pod.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.LoadPod(uid); !Damaged(err) || !strings.Contains(err.Error(), `it is of pod "bbbbbbbbbbbbbbbb"`) {
		t.Errorf("got %v", err)
	}
}

// A pod of an older version has its place once; both copies lost, it is found in what else the host has.
func TestThePlaceIsKeptTwice(t *testing.T) {
	d := Dirs{State: t.TempDir(), Run: t.TempDir()}
	p, n, links := sample()
	p.Spec.Template.Ports = []api.Port{{Name: "http", Port: 80, Protocol: api.TCP, Public: true}}
	n.Ports = []api.HostPort{{Name: "http", Port: 80, Protocol: api.TCP, HostPort: 20007, Public: true}}
	if err := d.Save(p, n, links); err != nil {
		t.Fatal(err)
	}
	spare := filepath.Join(d.Pod(uid), netCopy)
	if err := os.Remove(spare); err != nil {
		t.Fatal(err)
	}
	if did, err := d.MendNet(uid); err != nil || !strings.Contains(did, spare) {
		t.Errorf("did %q, %v", did, err)
	}
	if did, err := d.MendNet(uid); err != nil || did != "" {
		t.Errorf("once more: did %q, %v", did, err)
	}
	for _, name := range []string{"net.json", netCopy} {
		if err := os.WriteFile(filepath.Join(d.Pod(uid), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.LoadNet(uid); !Damaged(err) {
		t.Errorf("without either copy: %v", err)
	}
	port := api.Endpoint{Project: "shop", Service: "web", Pod: "web-aaaaa", Port: "http", Protocol: api.TCP}
	port.Address = netip.AddrPortFrom(n.HostAddress, 20007)
	known := api.Directory{Endpoints: []api.HostEndpoints{{Host: "h2", Endpoints: []api.Endpoint{port}}}}
	if _, ok := d.FindNet(p, "h1", known); ok {
		t.Error("another host's ports were taken for this one's")
	}
	known.Endpoints[0].Host = "h1"
	got, ok := d.FindNet(p, "h1", known)
	if got.Domain = n.Domain; !ok || !reflect.DeepEqual(got, n) {
		t.Errorf("found %+v, %t; want %+v", got, ok, n)
	}
}

package realhost

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/geard/runner"
	"gearmesh.dev/unitgen"
)

func one[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func randomLinks(r *rand.Rand) []api.Link {
	links := make([]api.Link, r.IntN(3))
	for i := range links {
		links[i] = api.Link{Service: one[api.Name](r, "db", "db2"), Name: one[api.Name](r, "", "", "db"), Project: one[api.Name](r, "", "", "data"),
			LocalPort: one[uint16](r, 5432, 5433), WaitFor: one[api.LinkWait](r, "", "", "", api.WaitReady), Mode: one[api.LinkMode](r, "", "", api.LinkBalanced), Nearest: r.IntN(2) == 0}
	}
	return links
}

func livePod(links []api.Link, weight int) api.Pod {
	p := api.Pod{Header: api.Header{Kind: api.KindPod, Metadata: api.Metadata{Name: "web-7f3k2", Project: "shop", UID: "k3v7qxw2m5n4a6bz"}}}
	p.Spec = api.PodSpec{Service: "web", Hash: "1", Template: api.PodTemplate{Containers: []api.Container{{Name: "main", Image: "web:1"}}, Links: links, Weight: weight}}
	p.Spec.Template.Default()
	return p
}

// hostsFile gives what a pod's containers see at /etc/hosts.
func hostsFile(t *testing.T, p api.Pod) string {
	dirs := podstate.Dirs{State: t.TempDir(), Run: t.TempDir()}
	links := (api.Directory{}).Resolver("").Targets(p.Metadata.Project, p.Metadata.Name, p.Spec.Template.Links)
	if err := dirs.Save(p, podstate.Net{Address: netip.MustParseAddr("10.127.0.2"), Domain: "gear.internal"}, links); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dirs.Pod(p.Metadata.UID), "hosts"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What api.LiveChange lets change under containers that run, nothing of theirs is made of: neither units, nor the container itself, nor its
// files.
func TestLiveChangesTouchNoContainer(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	dirs := podstate.Dirs{State: t.TempDir(), Run: t.TempDir()}
	live := 0
	for range 3000 {
		from, to := livePod(randomLinks(r), r.IntN(3)), livePod(randomLinks(r), r.IntN(3))
		if reflect.DeepEqual(from, to) || !api.LiveChange(from.Spec.Template, to.Spec.Template) {
			continue
		}
		live++
		was, err := unitgen.Render(from)
		is, err2 := unitgen.Render(to)
		if err != nil || err2 != nil || !reflect.DeepEqual(was, is) {
			t.Errorf("units differ (%v, %v): links %+v and %+v", err, err2, from.Spec.Template.Links, to.Spec.Template.Links)
		}
		if c := from.Spec.Template.Containers[0]; !reflect.DeepEqual(runner.MakeSpec(dirs, from, c, "s"), runner.MakeSpec(dirs, to, c, "s")) {
			t.Errorf("containers differ: links %+v and %+v", from.Spec.Template.Links, to.Spec.Template.Links)
		}
		if a, b := hostsFile(t, from), hostsFile(t, to); a != b {
			t.Errorf("hosts files differ:\n%s\n%s", a, b)
		}
	}
	if live < 50 {
		t.Errorf("only %d pairs were live changes", live)
	}
}

package podnet

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/internal/atomicfile"
)

// A pod's network comes up although its links cannot be read, with no agent: with those of the last word of the master,
// and without any word with links that refuse.
func TestUpWithDamagedLinks(t *testing.T) {
	dirs := testDirs(t)
	addr, port := netip.MustParseAddr, netip.MustParseAddrPort
	pod := api.Pod{Header: api.Header{Metadata: api.Metadata{Name: "web", Project: "shop", UID: uidA}}}
	pod.Spec.Template.Links = []api.Link{{Service: "db", Port: "sql", LocalPort: 5432, Protocol: api.TCP}}
	known := api.Desired{Directory: api.Directory{
		Services: []api.ServiceEntry{{Project: "shop", Name: "db", Ports: []api.Port{{Name: "sql", Port: 5432, Protocol: api.TCP}}}},
		Hosts:    []api.HostEntry{{Name: "h1", Address: addr("192.0.2.1")}},
		Endpoints: []api.HostEndpoints{{Host: "h1", Seq: 1, Endpoints: []api.Endpoint{{Project: "shop", Service: "db", Pod: "db-1", Port: "sql",
			Protocol: api.TCP, Address: port("192.0.2.1:20007"), Ready: true}}}},
	}}
	good := known.Directory.Resolver("").Targets("shop", pod.Metadata.Name, pod.Spec.Template.Links)
	if len(good[0].Backends) != 1 {
		t.Fatalf("the test's links are %+v", good)
	}
	if err := dirs.Save(pod, podstate.Net{Address: addr("10.127.0.2"), HostAddress: addr("192.0.2.1")}, good); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(dirs.Desired()), 0o700); err != nil {
		t.Fatal(err)
	}
	refused := api.Directory{}.Resolver("").Targets("shop", pod.Metadata.Name, pod.Spec.Template.Links)
	for _, tc := range []struct {
		what, text string
		known      bool
		want       []api.LinkTarget
	}{
		{"empty", "", true, good},
		{"another type", `{"a": 1}`, true, good},
		{"cut short", `[{"service": "d`, true, good},
		{"and nothing known", "\x00", false, refused},
	} {
		t.Run(tc.what, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(dirs.Pod(uidA), "links.json"), []byte(tc.text), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(dirs.Desired(), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
			if tc.known {
				if err := atomicfile.WriteSummed(dirs.Desired(), known, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var laid []api.LinkTarget
			var said []string
			hooks := Hooks{Host: func(context.Context) (bool, error) { return false, nil }, Say: func(text string) { said = append(said, text) },
				Links: func(_ context.Context, _ string, _ bool, _ netip.Addr, links []api.LinkTarget) error {
					laid = links
					return nil
				}}
			if err := Up(t.Context(), dirs, uidA, hooks); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(laid, tc.want) {
				t.Errorf("laid %+v, want %+v", laid, tc.want)
			}
			if len(said) == 0 || !strings.Contains(said[0], "links of pod "+string(uidA)+" cannot be read") {
				t.Errorf("said %q", said)
			}
			if after, err := dirs.LoadLinks(uidA); err != nil || !reflect.DeepEqual(after, tc.want) {
				t.Errorf("on disk are %+v, %v", after, err)
			}
			if err := Down(dirs, uidA); err != nil {
				t.Error(err)
			}
		})
	}
}

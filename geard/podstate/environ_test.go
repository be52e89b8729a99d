package podstate

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gearmesh.dev/api"
)

func TestLinkEnv(t *testing.T) {
	link := func(service api.Name, port uint16, protocol api.Protocol) api.Link {
		return api.Link{Service: service, LocalPort: port, Protocol: protocol}
	}
	tests := map[string]struct {
		links []api.Link
		want  map[string]string
	}{
		"no links": {nil, map[string]string{}},
		"two with one port": {[]api.Link{link("db", 5432, api.TCP), link("old-db", 5432, api.TCP)}, map[string]string{
			"DB_HOST": "127.0.0.1", "DB_PORT": "5432", "DB_ADDR": "127.0.0.1:5432",
			"DB_5432_HOST": "127.0.0.1", "DB_5432_PORT": "5432", "DB_5432_ADDR": "127.0.0.1:5432",
			"OLD_DB_HOST": "127.1.0.2", "OLD_DB_PORT": "5432", "OLD_DB_ADDR": "127.1.0.2:5432",
			"OLD_DB_5432_HOST": "127.1.0.2", "OLD_DB_5432_PORT": "5432", "OLD_DB_5432_ADDR": "127.1.0.2:5432"}},
		"two ports of one, a digit first": {[]api.Link{link("3d", 80, api.TCP), link("3d", 81, api.UDP)}, map[string]string{
			"_3D_HOST": "127.0.0.1", "_3D_PORT": "80", "_3D_ADDR": "127.0.0.1:80",
			"_3D_80_HOST": "127.0.0.1", "_3D_80_PORT": "80", "_3D_80_ADDR": "127.0.0.1:80",
			"_3D_81_HOST": "127.0.0.1", "_3D_81_PORT": "81", "_3D_81_ADDR": "127.0.0.1:81"}},
	}
	for name, test := range tests {
		p, _, _ := sample()
		p.Spec.Template.Links = test.links
		if d := cmp.Diff(test.want, linkEnv(p)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// What people wrote wins; without it, the link's value is back. The pod itself is left alone.
func TestEnviron(t *testing.T) {
	p, _, _ := sample()
	p.Spec.Template.Links = []api.Link{{Service: "db", LocalPort: 5432, Protocol: api.TCP}}
	p.Spec.Template.Env = map[string]string{"DB_HOST": "pod", "DB_PORT": "pod"}
	c := api.Container{Env: map[string]string{"DB_HOST": "own"}}
	env := Environ(p, c)
	if env["DB_HOST"] != "own" || env["DB_PORT"] != "pod" || env["DB_ADDR"] != "127.0.0.1:5432" {
		t.Errorf("the environment is %v", env)
	}
	p.Spec.Fence, c.Env[FencingToken] = 1234, "1"
	if got := Environ(p, c)[FencingToken]; got != "1234" {
		t.Errorf("the fencing token is %q", got)
	}
	if got := Environ(p, c)[OrdinalVariable]; got != "" {
		t.Errorf("a pod without identity is told that it is number %q", got)
	}
	n := 7
	p.Spec.Ordinal, p.Spec.Service, c.Env[OrdinalVariable], p.Metadata.Name = &n, "web", "1", "web-7-renamed"
	if got := Environ(p, c); got[OrdinalVariable] != "7" || got[PodVariable] != "web-7" {
		t.Errorf("it is told that it is %q, number %q", got[PodVariable], got[OrdinalVariable])
	}
	p.Spec.Ordinal = nil
	p.Spec.Fence = 0
	p.Spec.Template.Env, c.Env = nil, nil
	if env := Environ(p, c); env["DB_HOST"] != "127.0.0.1" || env["DB_PORT"] != "5432" || p.Spec.Template.Env != nil {
		t.Errorf("without their own values the environment is %v, the pod's %v", env, p.Spec.Template.Env)
	}
}

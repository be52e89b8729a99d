package install_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/install"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/unitgen"
)

// withPod puts a pod on a fake host, as its agent would.
func (h *fakeHost) withPod() api.Pod {
	h.t.Helper()
	p := *api.New(api.KindPod).(*api.Pod)
	p.Metadata = api.Metadata{Name: "web-7f3k2", Project: "shop", UID: "aaaaaaaaaaaaaaaa"}
	p.Spec.Service = "web"
	p.Spec.Template = api.PodTemplate{Containers: []api.Container{{Image: "web:1"}}, Links: []api.Link{{Service: "db", LocalPort: 5432, Mode: api.LinkBalanced}}}
	p.Spec.Template.Default()
	dirs := podstate.Dirs{State: filepath.Join(h.root, "var/lib/gear"), Run: filepath.Join(h.root, "run/gear")}
	h.must(dirs.Save(p, podstate.Net{Address: netip.MustParseAddr("10.127.0.2"), Domain: "gear.internal"}, nil))
	files, err := unitgen.Render(p)
	h.must(err)
	for _, f := range files {
		h.write("etc/systemd/system/"+f.Name, f.Text, 0o644)
	}
	return p
}

const podUnit = "gear-shop-web-7f3k2.service"

func TestEjectLeavesWhatRuns(t *testing.T) {
	h := newHost(t)
	up(t, h)
	h.withPod()
	h.write("var/lib/gear/agent/hostrules.json", "{}", 0o600)
	h.must(os.MkdirAll(filepath.Join(h.root, "etc/systemd/system/gear.target.wants"), 0o755))
	h.must(os.Symlink("../gear-router.service", filepath.Join(h.root, "etc/systemd/system/gear.target.wants/gear-router.service")))
	o := install.EjectOptions{Options: h.options()}

	plan, err := install.PlanEject(o)
	if err != nil || plan.Host != "h1" || !slices.Equal(plan.Goes, []string{"gear-agent.service", "gear-router.service"}) {
		t.Fatalf("%+v, %v", plan, err)
	}
	for _, want := range []string{"pod shop/web-7f3k2: " + podUnit, "gear-haproxy.service, with", "gear-links.service, with", "gear-master.service (--master"} {
		if !strings.Contains(strings.Join(plan.Stays, "\n"), want) {
			t.Errorf("what stays lacks %q: %q", want, plan.Stays)
		}
	}
	h.commands = nil
	if _, err := install.Eject(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	want := []string{"POST /v1/detach", "disable gear-agent.service", "stop gear-agent.service", "disable gear-router.service", "stop gear-router.service", "daemon-reload"}
	if !slices.Equal(h.commands, want) {
		t.Errorf("ran %q, want %q", h.commands, want)
	}
	for path, there := range map[string]bool{
		"gear-agent.service": false, "gear-router.service": false, "gear.target.wants/gear-router.service": false,
		"gear-master.service": true, "gear-haproxy.service": true, "gear-links.service": true, "gear.target.wants/gear-haproxy.service": true, "gear.target": true, podUnit: true,
		"gear.target.wants/" + podUnit: true, "gear-shop-web-7f3k2-net.service": true, "../../../var/lib/gear/agent/identity.json": true,
	} {
		if _, err := os.Lstat(filepath.Join(h.root, "etc/systemd/system", path)); errors.Is(err, fs.ErrNotExist) == there {
			t.Errorf("%s: there is %v, want %v", path, !there, there)
		}
	}
	// Again it does nothing, and gear up brings the daemons back.
	h.commands, h.active["gear-agent.service"] = nil, false
	if r, err := install.Eject(t.Context(), o); err != nil || r.Changed() {
		t.Errorf("a second time: %+v, %v", r, err)
	}
	h.active["gear-agent.service"] = true // its fake socket is there already
	if r := up(t, h); !r.Changed() || len(h.joined) != 1 {
		t.Errorf("coming back: %+v, joined %d times", r, len(h.joined))
	}
}

func TestEjectRefusesWhatWouldNotBoot(t *testing.T) {
	h := newHost(t)
	if _, err := install.PlanEject(install.EjectOptions{Options: h.options()}); err == nil || !strings.Contains(err.Error(), "has not joined a cluster") {
		t.Errorf("without an identity: %v", err)
	}
	up(t, h)
	h.withPod()
	h.commands = nil
	refused := func(says string) {
		t.Helper()
		if _, err := install.Eject(t.Context(), install.EjectOptions{Options: h.options()}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
		if len(h.commands) > 0 {
			t.Errorf("and ran %q", h.commands)
		}
	}
	refused("the host's rules are not on disk")
	h.write("var/lib/gear/agent/hostrules.json", "{}", 0o600)
	h.must(os.Remove(filepath.Join(h.root, "etc/systemd/system", podUnit)))
	refused("lacks its unit " + podUnit)
}

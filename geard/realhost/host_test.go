//go:build host

package realhost

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard"
	"gearmesh.dev/geard/engine"
	"gearmesh.dev/geard/engine/enginetest"
	"gearmesh.dev/geard/podstate"
	"gearmesh.dev/internal/systemd"
)

const uid = api.UID("realhostrealhost")

func testPod() api.Pod {
	p := *api.New(api.KindPod).(*api.Pod)
	p.Metadata = api.Metadata{Name: "web-realh", Project: "my-shop", UID: uid}
	p.Spec.Service = "web"
	p.Spec.Template = api.PodTemplate{Containers: []api.Container{{Image: "bb:1", Command: []string{"/bin/sh", "-c", "sleep 1000"}}},
		Ports: []api.Port{{Name: "http", Port: 80}}, Links: []api.Link{{Service: "db", LocalPort: 5432}}}
	p.Spec.Template.Default()
	p.Spec.Template.Containers[0].StopGrace = api.Duration(time.Second)
	return p
}

// TestHostLifeOfAPod runs the machine's contract on the real one: each call twice, for each is idempotent.
func TestHostLifeOfAPod(t *testing.T) {
	enginetest.ImportImage(t)
	eng, err := engine.New(engine.Socket)
	if err != nil {
		t.Fatal(err)
	}
	dirs := podstate.Host()
	h := New(dirs, systemd.New(), eng, slog.New(slog.DiscardHandler))
	p, ctx := testPod(), t.Context()
	addr := netip.MustParseAddr("10.127.5.6")
	links := []api.LinkTarget{{Service: "db", Local: netip.MustParseAddr("127.1.0.1"), Port: 5432, Protocol: api.TCP, Localhost: true, Retarget: api.Drain}}
	n := podstate.Net{Address: addr, HostAddress: netip.MustParseAddr("192.0.2.1"), Domain: "gear.internal",
		Ports: []api.HostPort{{Name: "http", Protocol: api.TCP, Port: 80, HostPort: 20080}}}
	if err := os.MkdirAll(dirs.State+"/agent", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := dirs.Save(p, n, links); err != nil {
		t.Fatal(err)
	}
	rules := geard.HostRules{Address: netip.MustParseAddr("192.0.2.1"), Members: []netip.Addr{netip.MustParseAddr("192.0.2.2")}, Pods: []podstate.Net{n}}
	twice := func(what string, f func() error) {
		t.Helper()
		for range 2 {
			if err := f(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	twice("install", func() error { return h.Install(ctx, p) })
	twice("pull", func() error { return h.Pull(ctx, p) })
	twice("rules", func() error { return h.HostRules(ctx, rules) })
	twice("start", func() error { return h.Start(ctx, p) })
	state := func() geard.UnitsState {
		t.Helper()
		all, err := h.Pods(ctx, []api.Pod{p})
		if err != nil {
			t.Fatal(err)
		}
		return all[uid]
	}
	if s := state(); !s.Installed || !s.Up || s.Stopped {
		t.Errorf("after the start: %+v", s)
	}
	relink := geard.PodLinks{UID: uid, Address: addr, Old: links, New: links, Down: func(netip.Addr) bool { return false }}
	relink.New = []api.LinkTarget{links[0]}
	relink.New[0].Backends = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:20001")}
	twice("relink", func() error { return h.Relink(ctx, relink) })
	units, found, err := h.Explain(ctx, p)
	if err != nil || len(units) < 4 || !strings.Contains(found[0].Text, "192.0.2.2:20001") || !strings.Contains(found[1].Text, "10.127.5.6:80") {
		t.Errorf("explained: %v %v %v", units, found, err)
	}
	known := relink // what was last laid is known: only what differs is written, and nothing is read
	known.Known, known.Old, known.New = true, relink.New, slices.Clone(relink.New)
	known.New[0].Backends = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:20001"), netip.MustParseAddrPort("192.0.2.3:20001")}
	known.New[0].Weights = []int{1, 3}
	twice("relink, known", func() error { return h.Relink(ctx, known) })
	if _, found, err := h.Explain(ctx, p); err != nil || !strings.Contains(found[0].Text, "--probability 0.25000000000") {
		t.Errorf("after the second relink: %v %v", found, err)
	}
	if err := h.links.Direct(ctx); err != nil {
		t.Errorf("the links were not written over netlink: %v", err)
	}
	waitFor(t, func() bool { r, _ := dirs.LoadRun(uid, "main"); return r.State == api.RunRunning })

	// What an operator does is seen, a power cut's empty unit is mended.
	run(t, "systemctl", "stop", "gear-my-shop-web-realh.service")
	if s := state(); s.Up || !s.Stopped {
		t.Errorf("after systemctl stop: %+v", s)
	}
	unit := systemd.UnitDir + "/gear-my-shop-web-realh.service"
	if err := os.Truncate(unit, 0); err != nil {
		t.Fatal(err)
	}
	if s := state(); s.Installed {
		t.Error("an empty unit file counts as installed")
	}
	twice("install", func() error { return h.Install(ctx, p) })
	twice("start", func() error { return h.Start(ctx, p) })
	if s := state(); !s.Up || s.Stopped {
		t.Errorf("after the second start: %+v", s)
	}

	twice("remove", func() error { return h.Remove(ctx, p) })
	rules.Pods = nil
	twice("rules", func() error { return h.HostRules(ctx, rules) })
	left := run(t, "sh", "-c", `ls /etc/systemd/system /etc/systemd/system/gear.target.wants | grep my; docker ps -aq -f label=dev.gearmesh.uid=`+string(uid)+
		`; ls /run/netns | grep `+string(uid)+`; systemctl list-units --all --no-legend 'gear-my*'; iptables-save | grep 10.127.5.6; true`)
	if left != "" {
		t.Errorf("left behind:\n%s", left)
	}
	if err := h.Relink(ctx, relink); !errors.Is(err, geard.ErrNoNamespace) {
		t.Errorf("relinking a pod that is gone: %v", err)
	}
	if err := dirs.Remove(uid); err != nil {
		t.Error(err)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for range 1800 {
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("it did not come")
}

func run(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

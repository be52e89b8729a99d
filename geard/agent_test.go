package geard_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard"
	"gearmesh.dev/geard/fakehost"
	"gearmesh.dev/geard/podstate"
)

// master is a master that says what a test makes it say.
type master struct {
	patches chan api.Patch
	mu      sync.Mutex
	last    api.HostReport
	leases  []api.UID // that it gives
	cut     bool      // it does not answer
	slow    time.Duration
	every   time.Duration // how long it lets the host wait
	reports int
}

func (m *master) Desired(ctx context.Context, _ api.Name) iter.Seq2[api.Patch, error] {
	return func(yield func(api.Patch, error) bool) {
		for {
			select {
			case <-ctx.Done():
				return
			case p, ok := <-m.patches:
				if !ok {
					yield(api.Patch{}, errors.New("the test's master is gone"))
					return
				}
				if !yield(p, nil) {
					return
				}
			}
		}
	}
}

func (m *master) Report(_ context.Context, r api.HostReport) (api.ReportAnswer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reports++
	if m.slow > 0 {
		m.mu.Unlock()
		time.Sleep(m.slow)
		m.mu.Lock()
	}
	if m.cut {
		return api.ReportAnswer{}, errors.New("the master cannot be reached")
	}
	m.last = r
	return api.ReportAnswer{Leases: m.leases, Every: api.Duration(m.every)}, nil
}

func (m *master) report() api.HostReport {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

type mesh struct {
	mu    sync.Mutex
	down  map[api.Name]bool
	hints map[api.Name]int64
	kick  chan struct{}
	keys  [][]byte
	keep  error // what SetKeys gives
}

func (m *mesh) SetKeys(keys [][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.keep == nil {
		m.keys = keys
	}
	return m.keep
}

func (m *mesh) Down(h api.Name) bool     { m.mu.Lock(); defer m.mu.Unlock(); return m.down[h] }
func (m *mesh) Changed() <-chan struct{} { return m.kick }
func (m *mesh) Alive() int               { return 1 }
func (m *mesh) HintEndpoints(int64)      {}
func (m *mesh) Join([]netip.Addr)        {}
func (m *mesh) Hints() map[api.Name]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.hints)
}

func (m *mesh) set(f func()) {
	m.mu.Lock()
	f()
	m.mu.Unlock()
	m.kick <- struct{}{}
}

type peers map[netip.Addr]api.HostEndpoints

func (p peers) Endpoints(_ context.Context, a netip.Addr) (api.HostEndpoints, error) {
	if e, ok := p[a]; ok {
		return e, nil
	}
	return api.HostEndpoints{}, errors.New("no such peer")
}

// rig is an agent on a fake host, with a master and a mesh of the test's.
type rig struct {
	t      *testing.T
	host   *fakehost.Host
	master *master
	mesh   *mesh
	peers  peers
	dirs   podstate.Dirs
	inside geard.Inside
	log    slog.Handler // nil for nobody
	ipv6   func() api.HostIPv6
	agent  *geard.Agent
	stop   func()
}

func newRig(t *testing.T) *rig {
	dir := t.TempDir()
	dirs := podstate.Dirs{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}
	r := &rig{t: t, dirs: dirs, host: &fakehost.Host{Dirs: dirs}, master: &master{patches: make(chan api.Patch)},
		mesh: &mesh{down: map[api.Name]bool{}, hints: map[api.Name]int64{}, kick: make(chan struct{}, 1)}, peers: peers{}}
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

// start starts an agent on what is on disk, as after a kill or a reboot.
func (r *rig) start() {
	if r.log == nil {
		r.log = slog.DiscardHandler
	}
	a, err := geard.New(geard.Config{Name: "h1", Address: netip.MustParseAddr("10.0.0.1"), Domain: "gear.internal", Version: "test",
		Dirs: r.dirs, Master: r.master, Mesh: r.mesh, Machine: r.host, Peers: r.peers, Inside: r.inside, IPv6: r.ipv6, Inspect: r.host, Log: slog.New(r.log)})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	r.agent, r.stop = a, func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("the agent ended with %v", err)
		}
		r.stop = func() {}
	}
}

// until waits for a condition; the time is a bound for a hang, not a measurement.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("still waiting for %s; the host:\n%s\nreport: %+v\ncalls: %q", what, r.host, r.agent.Report(), r.host.Calls())
		}
	}
}

func (r *rig) untilHost(want string) {
	r.t.Helper()
	r.until(fmt.Sprintf("the host to be %q", want), func() bool { return r.host.String() == want })
}

func (r *rig) status(uid api.UID) api.PodStatus {
	for _, p := range r.agent.Report().Pods {
		if p.UID == uid {
			return p.Status
		}
	}
	return api.PodStatus{}
}

const uidA, uidB = api.UID("aaaaaaaaaaaaaaaa"), api.UID("bbbbbbbbbbbbbbbb")

func pod(uid api.UID, links ...api.Link) api.Pod {
	p := *api.New(api.KindPod).(*api.Pod)
	p.Metadata.UID, p.Metadata.Name, p.Metadata.Project = uid, api.Name("web-"+uid[:5]), "shop"
	p.Spec.Service, p.Spec.Host = "web", "h1"
	p.Spec.Template = api.PodTemplate{Containers: []api.Container{{Image: "web:1"}}, Ports: []api.Port{{Name: "http", Port: 80}}, Links: links}
	p.Spec.Template.Default()
	return p
}

func deleting(p api.Pod) api.Pod { p.Metadata.Deleting = true; return p }

func TestAgentRunsAndRemovesAPod(t *testing.T) {
	r := newRig(t)
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA)}}
	r.until("the pod to be ready", func() bool { return r.status(uidA).Ready })
	r.until("its endpoint", func() bool { e := r.agent.Endpoints().Endpoints; return len(e) == 1 && e[0].Ready })
	r.until("the master to know", func() bool { return len(r.master.report().Endpoints.Endpoints) == 1 })

	r.master.patches <- api.Patch{Term: 1, Pods: []api.Pod{deleting(pod(uidA))}}
	r.until("the pod to be gone", func() bool { return r.status(uidA).Phase == api.PhaseGone })
	r.until("its endpoint to be gone", func() bool { return len(r.agent.Endpoints().Endpoints) == 0 })
	r.untilHost("")
	if left, _ := r.dirs.Pods(); len(left) > 0 {
		t.Errorf("left on disk: %q", left)
	}
}

// TestEmptyDesiredStateDeletesNothing is the first promise: a master that forgot everything, or a
// disk that did, stops no pod.
func TestEmptyDesiredStateDeletesNothing(t *testing.T) {
	r := newRig(t)
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA)}}
	r.untilHost("web-aaaaa up started=1\n")
	r.master.patches <- api.Patch{Full: true, Term: 2}
	r.master.patches <- api.Patch{Term: 2, Removed: []string{"pod/" + string(uidA)}, Pods: []api.Pod{pod(uidB)}}
	r.untilHost("web-aaaaa up started=1\nweb-bbbbb up started=1\n")

	r.stop()
	file := filepath.Join(r.dirs.State, "agent", "desired.json")
	if err := os.WriteFile(file, []byte(`{"pods": [`), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.until("the pods to be reported", func() bool { return r.status(uidA).Ready && r.status(uidB).Ready })
	r.untilHost("web-aaaaa up started=1\nweb-bbbbb up started=1\n")
	if _, err := os.Stat(file + ".corrupt"); err != nil {
		t.Errorf("the unreadable file was not kept: %v", err)
	}
}

func TestStaleTermIsRefused(t *testing.T) {
	r := newRig(t)
	r.master.patches <- api.Patch{Full: true, Term: 5, Pods: []api.Pod{pod(uidA)}}
	r.untilHost("web-aaaaa up started=1\n")
	r.master.patches <- api.Patch{Full: true, Term: 4, Pods: []api.Pod{deleting(pod(uidA))}}
	r.until("the refusal", func() bool { return len(r.agent.Report().Conditions) == 1 })
	r.untilHost("web-aaaaa up started=1\n")
}

// TestCrashAnywhere ends the agent in the middle of each operation; the next one finishes the work.
func TestCrashAnywhere(t *testing.T) {
	for _, op := range []string{"install", "pull", "start"} {
		t.Run(op, func(t *testing.T) {
			r := newRig(t)
			r.host.Crash = op
			r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA)}}
			r.until("the crash", func() bool { return slices.Contains(r.host.Calls(), op+" web-aaaaa") })
			r.stop()
			r.start()
			r.untilHost("web-aaaaa up started=1\n")
			r.until("the pod to be ready", func() bool { return r.status(uidA).Ready })
		})
	}
	t.Run("remove", func(t *testing.T) {
		r := newRig(t)
		r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA)}}
		r.untilHost("web-aaaaa up started=1\n")
		r.host.Crash = "remove"
		r.master.patches <- api.Patch{Term: 1, Pods: []api.Pod{deleting(pod(uidA))}}
		r.until("the crash", func() bool { return slices.Contains(r.host.Calls(), "remove web-aaaaa") })
		r.stop()
		r.start()
		r.untilHost("")
		r.until("the pod to be gone", func() bool { return r.status(uidA).Phase == api.PhaseGone })
	})
}

func TestRebootKeepsAddressesAndPorts(t *testing.T) {
	r := newRig(t)
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA)}}
	r.until("the endpoint", func() bool { e := r.agent.Endpoints().Endpoints; return len(e) == 1 && e[0].Ready })
	before := r.agent.Endpoints().Endpoints
	r.stop()
	r.host.Reboot()
	r.start() // no master answers
	r.until("the endpoint again", func() bool { return slices.Equal(r.agent.Endpoints().Endpoints, before) })
	r.untilHost("web-aaaaa up started=2\n")
}

func TestMissingImageSaysSoAndIsTriedAgain(t *testing.T) {
	r := newRig(t)
	r.host.Missing = map[string]bool{"web:1": true}
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA)}}
	r.until("the reason", func() bool { return r.status(uidA).Reason == api.ReasonImagePull })
	if m := r.status(uidA).Message; !strings.Contains(m, `image "web:1": not found`) {
		t.Errorf("the message is %q", m)
	}
	r.until("a second try", func() bool {
		return len(slices.DeleteFunc(r.host.Calls(), func(c string) bool { return c != "pull web-aaaaa" })) > 1
	})
}

func TestOperatorsStopIsRespected(t *testing.T) {
	r := newRig(t)
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA)}}
	r.untilHost("web-aaaaa up started=1\n")
	r.host.Stop(uidA)
	r.master.patches <- api.Patch{Term: 1, Hosts: []api.HostEntry{{Name: "h1", Router: true}}, Pods: []api.Pod{pod(uidB)}}
	r.untilHost("web-aaaaa down started=1\nweb-bbbbb up started=1\nrouter\n")
	r.until("the reason", func() bool { return r.status(uidA).Phase == api.PhaseStopped })
}

// TestLinksFollow shows the three ways in which a link learns of a change: the master, the mesh,
// and the endpoint's own host.
func TestLinksFollow(t *testing.T) {
	r := newRig(t)
	link := api.Link{Service: "db", LocalPort: 6379}
	h2 := netip.MustParseAddr("10.0.0.2")
	db := func(seq int64, port uint16) api.HostEndpoints {
		return api.HostEndpoints{Host: "h2", Seq: seq, Endpoints: []api.Endpoint{{Project: "shop", Service: "db", Port: "sql", Protocol: api.TCP,
			Address: netip.AddrPortFrom(h2, port), Ready: true}}}
	}
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA, link)},
		Hosts:    []api.HostEntry{{Name: "h1", Address: netip.MustParseAddr("10.0.0.1")}, {Name: "h2", Address: h2}},
		Services: []api.ServiceEntry{{Project: "shop", Name: "db", Ports: []api.Port{{Name: "sql", Port: 1}}}}}
	r.untilHost("web-aaaaa up started=1 db:6379→[]\n")
	r.master.patches <- api.Patch{Term: 1, Endpoints: []api.HostEndpoints{db(10, 20001)}}
	r.untilHost("web-aaaaa up started=1 db:6379→[10.0.0.2:20001]\n")
	r.mesh.set(func() { r.mesh.down["h2"] = true })
	r.untilHost("web-aaaaa up started=1 db:6379→[]\n")
	r.peers[h2] = db(11, 20002)
	r.mesh.set(func() { r.mesh.down["h2"] = false; r.mesh.hints["h2"] = 11 })
	r.untilHost("web-aaaaa up started=1 db:6379→[10.0.0.2:20002]\n")
	links, err := r.dirs.LoadLinks(uidA)
	if err != nil || len(links) != 1 || len(links[0].Backends) != 1 {
		t.Errorf("on disk: %+v, %v", links, err)
	}
}

// A link with maxDrain: connections to a backend that is gone end when the time is over, also when that is while no agent
// runs; never those to one that is back.
func TestDrainIsBounded(t *testing.T) {
	r := newRig(t)
	link := api.Link{Service: "db", LocalPort: 6379, MaxDrain: api.Duration(time.Hour)}
	h2 := netip.MustParseAddr("10.0.0.2")
	seq := int64(10)
	db := func(ports ...uint16) {
		e := api.HostEndpoints{Host: "h2", Seq: seq}
		for _, p := range ports {
			e.Endpoints = append(e.Endpoints, api.Endpoint{Project: "shop", Service: "db", Port: "sql", Protocol: api.TCP, Address: netip.AddrPortFrom(h2, p), Ready: true})
		}
		seq++
		r.master.patches <- api.Patch{Term: 1, Endpoints: []api.HostEndpoints{e}}
	}
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA, link)},
		Hosts:    []api.HostEntry{{Name: "h1", Address: netip.MustParseAddr("10.0.0.1")}, {Name: "h2", Address: h2}},
		Services: []api.ServiceEntry{{Project: "shop", Name: "db", Ports: []api.Port{{Name: "sql", Port: 1}}}}}
	db(20001, 20002, 20003)
	r.untilHost("web-aaaaa up started=1 db:6379→[10.0.0.2:20001 10.0.0.2:20002 10.0.0.2:20003]\n")
	db(20003)
	r.untilHost("web-aaaaa up started=1 db:6379→[10.0.0.2:20003]\n")
	db(20002, 20003)
	r.untilHost("web-aaaaa up started=1 db:6379→[10.0.0.2:20002 10.0.0.2:20003]\n")
	drains, err := r.dirs.LoadDrains(uidA)
	if err != nil || len(drains) != 1 || drains[0].Backend.Port() != 20001 {
		t.Fatalf("on disk: %+v, %v; want the one backend that is gone", drains, err)
	}

	r.stop()
	r.start()
	db(20002, 20003, 20004)
	r.untilHost("web-aaaaa up started=1 db:6379→[10.0.0.2:20002 10.0.0.2:20003 10.0.0.2:20004]\n")
	if again, err := r.dirs.LoadDrains(uidA); err != nil || len(again) != 1 || !again[0].Until.Equal(drains[0].Until) {
		t.Errorf("a restart of the agent makes %+v of %+v, %v", again, drains, err)
	}
	r.stop()
	drains[0].Until = time.Now().Add(-time.Minute)
	if err := r.dirs.SaveDrains(uidA, drains); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.until("the connections to end", func() bool { return slices.Contains(r.host.Calls(), "drained 10.0.0.2:20001") })
	r.until("the file to be empty", func() bool { d, err := r.dirs.LoadDrains(uidA); return err == nil && len(d) == 0 })
}

// The agent itself wakes when the time is over.
func TestDrainEndsInTime(t *testing.T) {
	r := newRig(t)
	h2 := netip.MustParseAddr("10.0.0.2")
	end := api.Endpoint{Project: "shop", Service: "db", Port: "sql", Protocol: api.TCP, Address: netip.AddrPortFrom(h2, 20001), Ready: true}
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA, api.Link{Service: "db", LocalPort: 6379, MaxDrain: api.Duration(50 * time.Millisecond)})},
		Hosts:     []api.HostEntry{{Name: "h1", Address: netip.MustParseAddr("10.0.0.1")}, {Name: "h2", Address: h2}},
		Services:  []api.ServiceEntry{{Project: "shop", Name: "db", Ports: []api.Port{{Name: "sql", Port: 1}}}},
		Endpoints: []api.HostEndpoints{{Host: "h2", Seq: 1, Endpoints: []api.Endpoint{end}}}}
	r.untilHost("web-aaaaa up started=1 db:6379→[10.0.0.2:20001]\n")
	r.master.patches <- api.Patch{Term: 1, Endpoints: []api.HostEndpoints{{Host: "h2", Seq: 2}}}
	r.until("the connections to end", func() bool { return slices.Contains(r.host.Calls(), "drained 10.0.0.2:20001") })
}

func TestSecrets(t *testing.T) {
	r := newRig(t)
	p := pod(uidA)
	c := &p.Spec.Template.Containers[0]
	c.SecretEnv = map[string]api.SecretKey{"PASSWORD": {Secret: "db", Key: "password"}}
	sent := func(value string) []api.SecretValue {
		return []api.SecretValue{{Project: "shop", Name: "db", Data: map[string][]byte{"password": []byte(value)}}}
	}
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{p}}
	r.until("the secret to be missed", func() bool { return r.status(uidA).Reason == api.ReasonSecret })
	r.master.patches <- api.Patch{Term: 1, Secrets: sent("canary-1")}
	r.until("the pod to be ready", func() bool { return r.status(uidA).Ready })
	first := r.laid(uidA)
	if data, err := os.ReadFile(filepath.Join(r.dirs.State, "agent", "desired.json")); err != nil || strings.Contains(string(data), "canary") || first == "" {
		t.Errorf("desired.json: %s, %v; laid %q", data, err, first)
	}
	r.stop()
	r.start() // no master answers: nothing is taken away
	r.until("the pod to be ready again", func() bool { return r.status(uidA).Ready })
	if r.laid(uidA) != first {
		t.Error("the secret was changed by nobody")
	}
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{p}, Secrets: sent("canary-2")}
	r.until("the restart", func() bool { return slices.Contains(r.host.Calls(), "renew main web-aaaaa") })
	r.until("the new secret", func() bool { l := r.laid(uidA); return l != "" && l != first })
	r.master.patches <- api.Patch{Term: 1, Pods: []api.Pod{deleting(p)}}
	r.until("the pod to be gone", func() bool { return r.status(uidA).Phase == api.PhaseGone })
	if left, _ := os.ReadDir(filepath.Join(r.dirs.Run, "secrets")); len(left) > 0 || r.laid(uidA) != "" {
		t.Errorf("left: %v", left)
	}
}

// laid gives the fingerprint of what a pod's only container was given.
func (r *rig) laid(uid api.UID) string {
	data, _ := os.ReadFile(filepath.Join(r.dirs.Run, "secrets", string(uid), "main.state"))
	return string(data)
}

// The master is told what the operator allows, also when nothing was said: then that is the least.
func TestReportSaysWhatTheHostOffers(t *testing.T) {
	if got := newRig(t).agent.Report().HostOffer; got.MaxPolicy != api.PolicyRestricted || len(got.VolumeClasses) != 0 {
		t.Errorf("it offers %+v", got)
	}
}

// A balanced link's port stays the same when the agent starts anew, and its balancer ends with its last pod.
func TestBalancedLinkKeepsItsPort(t *testing.T) {
	r := newRig(t)
	h2 := netip.MustParseAddr("10.0.0.2")
	links := []api.Link{{Service: "db", LocalPort: 6379, Mode: api.LinkBalanced}, {Service: "db", LocalPort: 6380, Mode: api.LinkBalanced}}
	full := api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA, links...)},
		Hosts:    []api.HostEntry{{Name: "h1", Address: netip.MustParseAddr("10.0.0.1")}, {Name: "h2", Address: h2}},
		Services: []api.ServiceEntry{{Project: "shop", Name: "db", Ports: []api.Port{{Name: "sql", Port: 1}}}},
		Endpoints: []api.HostEndpoints{{Host: "h2", Seq: 1, Endpoints: []api.Endpoint{{Project: "shop", Service: "db", Port: "sql", Protocol: api.TCP,
			Address: netip.AddrPortFrom(h2, 20001), Ready: true}}}}}
	r.master.patches <- full
	const runs = "web-aaaaa up started=1 db:6379→[10.0.0.2:20001] db:6380→[10.0.0.2:20001]\nbalancer shop/db/sql:30000→[10.0.0.2:20001]\n"
	r.untilHost(runs)
	r.stop()
	r.start()
	r.untilHost(runs)
	kept, err := r.dirs.LoadLinks(uidA)
	if err != nil || len(kept) != 2 || kept[0].Via != netip.MustParseAddrPort("10.127.0.1:30000") || kept[1].Via != kept[0].Via {
		t.Errorf("on disk: %+v, %v", kept, err)
	}
	full.Pods[0] = deleting(full.Pods[0])
	r.master.patches <- full
	r.untilHost("")
}

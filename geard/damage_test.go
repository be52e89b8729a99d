package geard_test

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
	"gearmesh.dev/internal/damage"
	"gearmesh.dev/linker"
)

// TestDamagedFilesAreMadeAnew damages each file of a pod in turn: it runs on where it is, and the file is right again.
func TestDamagedFilesAreMadeAnew(t *testing.T) {
	for _, name := range []string{"pod.json", "net.json"} {
		for what, text := range map[string]string{"cut short": `{"kind": "P`, "empty": "", "zeros": "\x00\x00\x00\x00", "another type": `["x"]`} {
			t.Run(name+" "+what, func(t *testing.T) {
				r := newRig(t)
				r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA)}}
				r.untilHost("web-aaaaa up started=1\n")
				before, err := r.dirs.LoadNet(uidA)
				if err != nil {
					t.Fatal(err)
				}
				r.stop()
				if err := os.WriteFile(filepath.Join(r.dirs.Pod(uidA), name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				r.start()
				r.until("the pod to be ready", func() bool { return r.status(uidA).Ready })
				r.untilHost("web-aaaaa up started=1\n")
				r.until("the file to be made anew", func() bool { _, err := r.dirs.LoadPod(uidA); return err == nil })
				if after, err := r.dirs.LoadNet(uidA); err != nil || after.Address != before.Address || after.Ports[0] != before.Ports[0] {
					t.Errorf("the pod's place was %+v and is %+v, %v", before, after, err)
				}
			})
		}
	}
}

// TestAnyDamageLeavesPodsAlone spoils a file of the host again and again, in any way, and starts the agent on it, with no
// master: the pod is never stopped, started or removed, and what can be made anew is right again.
func TestAnyDamageLeavesPodsAlone(t *testing.T) {
	const each = 25
	r := newRig(t)
	p := pod(uidA, api.Link{Service: "db", Port: "http", LocalPort: 5432, Protocol: api.TCP})
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{p}}
	r.until("the pod to be ready", func() bool { return r.status(uidA).Ready })
	r.until("its endpoint", func() bool { return len(r.agent.Endpoints().Endpoints) == 1 })
	place, err := r.dirs.LoadNet(uidA)
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	if err := r.dirs.SaveDrains(uidA, []linker.Drain{{Port: 5432}}); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for _, file := range []string{filepath.Join(r.dirs.Pod(uidA), "pod.json"), filepath.Join(r.dirs.Pod(uidA), "net.json"),
		filepath.Join(r.dirs.Pod(uidA), "links.json"), filepath.Join(r.dirs.Pod(uidA), "drains.json"), r.dirs.Desired(), filepath.Join(r.dirs.RunPod(uidA), "main.json")} {
		for range each {
			good, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			what, bad := damage.Text(random, good)
			if err := os.WriteFile(file, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			calls := len(r.host.Calls())
			r.start()
			// A text without its checksum may be an older version's: what it says is taken, but for what cannot be.
			sound := !strings.Contains(string(bad), "crc32c")
			r.until("the pod's state to be right after "+filepath.Base(file)+", "+what+fmt.Sprintf(" (seed %d)", seed), func() bool {
				got, podErr := r.dirs.LoadPod(uidA)
				net, netErr := r.dirs.LoadNet(uidA)
				_, drainErr := r.dirs.LoadDrains(uidA)
				return podErr == nil && netErr == nil && drainErr == nil && len(r.agent.Report().Pods) == 1 &&
					(sound || got.Metadata.Name == p.Metadata.Name && net.Address == place.Address && slices.Equal(net.Ports, place.Ports))
			})
			r.stop()
			for _, c := range r.host.Calls()[calls:] {
				if strings.HasPrefix(c, "remove") {
					t.Errorf("%s, %s (seed %d): the host was asked to %s", filepath.Base(file), what, seed, c)
				}
			}
			if got := r.host.String(); !strings.HasPrefix(got, "web-aaaaa up started=1") {
				t.Fatalf("%s, %s (seed %d): the host is %q", filepath.Base(file), what, seed, got)
			}
			if err := os.WriteFile(file, good, 0o600); err != nil {
				t.Fatal(err)
			}
			_ = os.Remove(r.dirs.Desired() + ".corrupt")
		}
	}
}

// What drains is forgotten with its file: connections to backends that are gone then have all of their time once more, and
// not for ever.
func TestLostDrainsBeginAnew(t *testing.T) {
	for what, text := range map[string]string{"cut short": `[{"loc`, "empty": "", "zeros": "\x00\x00", "another type": `{"a": 1}`} {
		t.Run(what, func(t *testing.T) {
			r := newRig(t)
			h2 := netip.MustParseAddr("10.0.0.2")
			here, gone := netip.AddrPortFrom(h2, 20001), netip.AddrPortFrom(h2, 20002)
			r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA, api.Link{Service: "db", LocalPort: 6379, MaxDrain: api.Duration(time.Hour)})},
				Hosts:    []api.HostEntry{{Name: "h1", Address: netip.MustParseAddr("10.0.0.1")}, {Name: "h2", Address: h2}},
				Services: []api.ServiceEntry{{Project: "shop", Name: "db", Ports: []api.Port{{Name: "sql", Port: 1}}}},
				Endpoints: []api.HostEndpoints{{Host: "h2", Seq: 1, Endpoints: []api.Endpoint{
					{Project: "shop", Service: "db", Port: "sql", Protocol: api.TCP, Address: here, Ready: true}}}}}
			r.untilHost("web-aaaaa up started=1 db:6379→[10.0.0.2:20001]\n")
			r.host.Connect(uidA, 6379, here)
			r.host.Connect(uidA, 6379, gone)
			r.stop()
			if err := os.WriteFile(filepath.Join(r.dirs.Pod(uidA), "drains.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			before := time.Now()
			r.start()
			r.until("the file to be made anew", func() bool { _, err := r.dirs.LoadDrains(uidA); return err == nil })
			d, err := r.dirs.LoadDrains(uidA)
			if err != nil || len(d) != 1 || d[0].Backend != gone || d[0].Until.Before(before.Add(time.Hour)) {
				t.Errorf("what drains is %+v, %v", d, err)
			}
		})
	}
}

// With desired.json gone too, a pod that cannot be read runs on; the host says so.
func TestAPodThatNobodyKnowsRunsOnAndIsToldOf(t *testing.T) {
	r := newRig(t)
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA)}}
	r.untilHost("web-aaaaa up started=1\n")
	r.until("the pod to be ready", func() bool { return r.status(uidA).Ready })
	r.stop()
	for _, file := range []string{filepath.Join(r.dirs.Pod(uidA), "pod.json"), r.dirs.Desired()} {
		if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	r.until("the host to tell of it", func() bool {
		return slices.ContainsFunc(r.agent.Report().Conditions, func(c api.Condition) bool {
			return c.Reason == "StateDamaged" && strings.Contains(c.Message, "pod "+string(uidA)+" runs on as it is")
		})
	})
	r.untilHost("web-aaaaa up started=1\n")
	r.until("it to keep its ports, and to be held to its links alone", func() bool {
		e := r.laidEgress()
		return e != nil && len(e.Allow) == 0 && len(r.host.Rules().Pods[0].Ports) > 0
	})
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA)}}
	r.until("all to be well again", func() bool { return len(r.agent.Report().Conditions) == 0 && r.status(uidA).Ready })
	r.untilHost("web-aaaaa up started=1\n")
}

// Both copies of a running pod's place are lost: it keeps its address and its ports.
func TestALostPlaceIsFoundAgain(t *testing.T) {
	r := newRig(t)
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA)}}
	r.until("its endpoint", func() bool { e := r.agent.Endpoints().Endpoints; return len(e) == 1 && e[0].Ready })
	before, err := r.dirs.LoadNet(uidA)
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	for _, name := range []string{"net.json", "net.copy.json"} {
		if err := os.WriteFile(filepath.Join(r.dirs.Pod(uidA), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	r.until("the place to be on disk again", func() bool {
		after, err := r.dirs.LoadNet(uidA)
		return err == nil && reflect.DeepEqual(after, before)
	})
	r.until("the pod to be ready", func() bool { return r.status(uidA).Ready })
	r.untilHost("web-aaaaa up started=1\n")
}

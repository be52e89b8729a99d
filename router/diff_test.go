package router_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"gearmesh.dev/api"
	"gearmesh.dev/router"
)

var same = cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })}

func at(port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), uint16(port))
}

func slots(ports ...int) []netip.AddrPort {
	var out []netip.AddrPort
	for _, p := range ports {
		if p == 0 {
			out = append(out, netip.AddrPort{})
		} else {
			out = append(out, at(p))
		}
	}
	return out
}

func config(backends map[string][]netip.AddrPort, hosts ...string) router.Config {
	c := router.Config{HeadID: "gear-1", MapFile: "/m"}
	for id, s := range backends {
		c.Backends = append(c.Backends, router.Backend{ID: id, Slots: s})
	}
	slices.SortFunc(c.Backends, func(a, b router.Backend) int { return strings.Compare(a.ID, b.ID) })
	for _, h := range hosts {
		name, be, _ := strings.Cut(h, " ")
		c.Hosts = append(c.Hosts, router.Host{Name: api.Hostname(name), Backend: be})
	}
	return c
}

func TestDiff(t *testing.T) {
	type ends = map[string][]netip.AddrPort
	tests := map[string]struct {
		running, wanted router.Config
		commands        string
		reason          router.Reason
	}{
		"nothing":                 {config(ends{"be_a": slots(1, 0)}), config(ends{"be_a": slots(1, 0)}), "", ""},
		"a moved slot is nothing": {config(ends{"be_a": slots(0, 1)}), config(ends{"be_a": slots(1, 0)}), "", ""},
		"more": {config(ends{"be_a": slots(1, 0)}), config(ends{"be_a": slots(1, 2)}),
			"set server be_a/s2 addr 10.0.0.1 port 2\nset server be_a/s2 state ready", ""},
		"less": {config(ends{"be_a": slots(1, 2)}), config(ends{"be_a": slots(2)}), "set server be_a/s1 state maint", ""},
		"new before old goes": {config(ends{"be_a": slots(1, 0)}), config(ends{"be_a": slots(2)}),
			"set server be_a/s2 addr 10.0.0.1 port 2\nset server be_a/s2 state ready\nset server be_a/s1 state maint", ""},
		"replaced in place when full": {config(ends{"be_a": slots(1)}), config(ends{"be_a": slots(2)}), "set server be_a/s1 addr 10.0.0.1 port 2", ""},
		"outgrown": {config(ends{"be_a": slots(1, 0)}), config(ends{"be_a": slots(1, 2, 3, 0)}),
			"set server be_a/s2 addr 10.0.0.1 port 2\nset server be_a/s2 state ready", router.ReasonSlots},
		"backend gone": {config(ends{"be_a": slots(1), "be_b": slots(2)}, "x be_b"), config(ends{"be_a": slots(1)}),
			"del map /m x\nset server be_b/s1 state maint", ""},
		"new backend":          {config(ends{}), config(ends{"be_a": slots(1)}, "x be_a"), "", router.ReasonBackend},
		"alias added":          {config(ends{"be_a": slots(1)}), config(ends{"be_a": slots(1)}, "x be_a"), "add map /m x be_a", ""},
		"alias moved":          {config(ends{"be_a": slots(1), "be_b": slots(1)}, "x be_a"), config(ends{"be_a": slots(1), "be_b": slots(1)}, "x be_b"), "set map /m x be_b", ""},
		"alias waits for new":  {config(ends{"be_a": slots(1)}, "x be_a"), config(ends{"be_a": slots(1), "be_b": slots(1)}, "x be_b"), "", router.ReasonBackend},
		"fewer slots are kept": {config(ends{"be_a": slots(1, 0, 0, 0)}), config(ends{"be_a": slots(1, 0)}), "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := router.Diff(tt.running, tt.wanted)
			if text := strings.Join(got.Commands, "\n"); text != tt.commands || got.Reason != tt.reason || got.Reload != (tt.reason != "") {
				t.Errorf("got %q %q\n%s\nwant %q\n%s", got.Reason, got.What, text, tt.reason, tt.commands)
			}
		})
	}
}

func TestDiffOfAnotherHead(t *testing.T) {
	a, b := config(nil), config(nil)
	b.HeadID = "gear-2"
	if got := router.Diff(a, b); got.Reason != router.ReasonHead {
		t.Errorf("got %+v", got)
	}
}

// obey is a model of HAProxy: it carries out a command as management.txt says.
func obey(t *rapid.T, c *router.Config, command string) {
	f := strings.Fields(command)
	switch {
	case f[1] == "server":
		id, server, _ := strings.Cut(f[2], "/")
		i := slices.IndexFunc(c.Backends, func(b router.Backend) bool { return b.ID == id })
		var n int
		if _, err := fmt.Sscanf(server, "s%d", &n); err != nil || i < 0 || n > len(c.Backends[i].Slots) {
			t.Fatalf("no such server: %q", command)
		}
		slot := &c.Backends[i].Slots[n-1]
		if f[3] == "addr" {
			*slot = netip.MustParseAddrPort(f[4] + ":" + f[6])
		} else if f[4] == "maint" {
			*slot = netip.AddrPort{}
		}
	case strings.HasPrefix(f[3], "SPARE_"):
		i := slices.IndexFunc(c.Backends, func(b router.Backend) bool { return strings.ToUpper(b.ID)+"." == f[3] })
		if i < 0 || (f[0] == "add") != (c.Backends[i].For == "") {
			t.Fatalf("no such marker, or there twice: %q", command)
		}
		c.Backends[i].For = ""
		if f[0] == "add" {
			c.Backends[i].For = f[4]
		}
	case f[0] == "add":
		c.Hosts = append(c.Hosts, router.Host{Name: api.Hostname(f[3]), Backend: f[4]})
	default:
		i := slices.IndexFunc(c.Hosts, func(h router.Host) bool { return string(h.Name) == f[3] })
		if i < 0 {
			t.Fatalf("no such key: %q", command)
		}
		if f[0] == "set" {
			c.Hosts[i].Backend = f[4]
		} else {
			c.Hosts = slices.Delete(c.Hosts, i, i+1)
		}
	}
}

func clone(c router.Config) router.Config {
	c.Hosts = slices.Clone(c.Hosts)
	c.Backends = slices.Clone(c.Backends)
	for i := range c.Backends {
		c.Backends[i].Slots = slices.Clone(c.Backends[i].Slots)
	}
	slices.SortFunc(c.Hosts, func(a, b router.Host) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return c
}

// ends gives a backend's endpoints, or those of what Render would give it.
func ends(c router.Config) map[string][]netip.AddrPort {
	out := map[string][]netip.AddrPort{}
	for _, b := range c.Backends {
		list := slices.DeleteFunc(slices.Clone(b.Slots), func(a netip.AddrPort) bool { return !a.IsValid() })
		slices.SortFunc(list, netip.AddrPort.Compare)
		if len(list) > 0 {
			out[b.ID] = list
		}
	}
	return out
}

var anyConfig = rapid.Custom(func(t *rapid.T) router.Config {
	m := map[string][]netip.AddrPort{}
	var hosts []string
	for _, id := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"be_a", "be_b", "be_c"}), rapid.ID).Draw(t, "backends") {
		ports := rapid.SliceOfNDistinct(rapid.IntRange(1, 12), 0, 6, rapid.ID).Draw(t, "ports")
		m[id] = slots(append(ports, 0, 0)...)
		for _, h := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"u", "v", "w"}), rapid.ID).Draw(t, "hosts") {
			hosts = append(hosts, h+"."+id[3:]+" "+id)
		}
	}
	slices.Sort(hosts)
	return config(m, hosts...)
})

// TestDiffLeadsToWanted walks: the commands, carried out by the model, lead to After, and without a
// reload to what is wanted; a second Diff has nothing to do; and no service with an endpoint that stays is ever without.
func TestDiffLeadsToWanted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		running, wanted := anyConfig.Draw(t, "running"), anyConfig.Draw(t, "wanted")
		change := router.Diff(running, wanted)
		state := clone(running)
		for _, c := range change.Commands {
			obey(t, &state, c)
			serves(t, running, wanted, state)
		}
		if d := cmp.Diff(clone(change.After), clone(state), same); d != "" {
			t.Fatalf("After is not what the commands do:\n%s", d)
		}
		if !change.Reload {
			if d := cmp.Diff(ends(wanted), ends(state), same); d != "" {
				t.Fatalf("endpoints:\n%s", d)
			}
			if d := cmp.Diff(wanted.Hosts, clone(state).Hosts, same); d != "" {
				t.Fatalf("hosts:\n%s", d)
			}
		}
		if again := router.Diff(change.After, wanted); len(again.Commands) > 0 {
			t.Fatalf("a second pass does more: %q", again.Commands)
		}
	})
}

// serves fails when a backend that has endpoints before and after has none in between.
func serves(t *rapid.T, running, wanted, state router.Config) {
	before, after, now := ends(running), ends(wanted), ends(state)
	for id := range before {
		if len(after[id]) > 0 && len(now[id]) == 0 {
			t.Fatalf("backend %q has no server for a moment", id)
		}
	}
}

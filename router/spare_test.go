package router_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gearmesh.dev/api"
	"gearmesh.dev/router"
)

// spare makes a spare with 3 slots. Its owner is "" when it is free.
func spare(k int, owner string, ports ...int) router.Backend {
	b := router.Backend{ID: fmt.Sprintf("spare_%d", k), For: owner, Slots: make([]netip.AddrPort, 3)}
	copy(b.Slots, slots(ports...))
	return b
}

// with adds spares, in order.
func with(c router.Config, spares ...router.Backend) router.Config {
	c.Backends = append(c.Backends, spares...)
	return c
}

func idle(b router.Backend) router.Backend { b.Idle = true; return b }

func TestDiffWithSpares(t *testing.T) {
	type ends = map[string][]netip.AddrPort
	a := config(ends{"be_a": slots(1, 0)}, "x be_a")
	const fill = "set server spare_1/s1 addr 10.0.0.1 port 1\nset server spare_1/s1 state ready\n"
	tests := map[string]struct {
		running, wanted router.Config
		commands        string
		reason          router.Reason
	}{
		"moves in": {with(config(nil), spare(1, "")), a,
			"add map /m SPARE_1. be_a\n" + fill + "add map /m x spare_1", ""},
		"lives there":         {with(config(nil, "x spare_1"), spare(1, "be_a", 1)), a, "", ""},
		"its own is better":   {with(config(ends{"be_a": slots(1)}, "x spare_1"), spare(1, "be_a", 1)), a, "set map /m x be_a\nset server spare_1/s1 state maint", ""},
		"the first of two":    {with(config(nil, "x spare_1"), spare(1, "be_a", 1), spare(2, "be_a", 1)), a, "set server spare_2/s1 state maint", ""},
		"none is left":        {with(config(nil, "y spare_1"), spare(1, "be_b", 2)), config(ends{"be_a": slots(1), "be_b": slots(2)}, "y be_b"), "", router.ReasonBackend},
		"too small":           {with(config(nil), spare(1, "")), config(ends{"be_a": slots(1, 2, 3, 4)}), "", router.ReasonBackend},
		"outgrown":            {with(config(nil), spare(1, "be_a", 1, 2, 3)), config(ends{"be_a": slots(1, 2, 3, 4)}), "", router.ReasonSlots},
		"no longer wanted":    {with(config(nil, "x spare_1"), idle(spare(1, "be_a", 1))), config(nil), "del map /m x\nset server spare_1/s1 state maint", ""},
		"drains":              {with(config(nil), spare(1, "be_a")), config(nil), "", ""},
		"is free":             {with(config(nil), idle(spare(1, "be_a"))), config(nil), "del map /m SPARE_1.", ""},
		"free for another":    {with(config(nil), idle(spare(1, "be_b"))), a, "del map /m SPARE_1.\nadd map /m SPARE_1. be_a\n" + fill + "add map /m x spare_1", ""},
		"comes back":          {with(config(nil), idle(spare(1, "be_a"))), a, fill + "add map /m x spare_1", ""},
		"drains, others wait": {with(config(nil), spare(1, "be_b")), a, "", router.ReasonBackend},
		"unmarked is cleaned": {with(config(nil), spare(1, "", 2)), config(nil), "set server spare_1/s1 state maint", ""},
		"unmarked is avoided": {with(config(nil), spare(1, "", 2), spare(2, "")), config(ends{"be_a": slots(1)}),
			"add map /m SPARE_2. be_a\nset server spare_2/s1 addr 10.0.0.1 port 1\nset server spare_2/s1 state ready\nset server spare_1/s1 state maint", ""},
		"name leads there":        {with(config(nil, "y spare_1"), spare(1, "")), a, "del map /m y", router.ReasonBackend},
		"marker without a spare":  {config(nil, "SPARE_9. be_a"), config(nil), "del map /m SPARE_9.", ""},
		"wanted spares come late": {config(nil), with(config(nil), spare(1, "")), "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := router.Diff(tt.running, tt.wanted)
			if text := strings.Join(got.Commands, "\n"); text != tt.commands || got.Reason != tt.reason {
				t.Errorf("got %q %q\n%s\nwant %q\n%s", got.Reason, got.What, text, tt.reason, tt.commands)
			}
		})
	}
}

func TestMapTellsWhoLivesInASpare(t *testing.T) {
	c := with(config(nil, "x spare_2"), spare(1, ""), spare(2, "be_a", 1))
	if got, want := string(c.Map()), "SPARE_2. be_a\nx spare_2\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// lodging says where a host name leads: the service, and the endpoints behind it.
type lodging struct {
	service string
	ends    []netip.AddrPort
}

// lead follows the host names of a configuration, through spares.
func lead(c router.Config) map[api.Hostname]lodging {
	out := map[api.Hostname]lodging{}
	for _, h := range c.Hosts {
		i := slices.IndexFunc(c.Backends, func(b router.Backend) bool { return b.ID == h.Backend })
		if i < 0 {
			continue
		}
		b := c.Backends[i]
		l := lodging{service: b.ID}
		if strings.HasPrefix(b.ID, "spare_") {
			l.service = b.For
		}
		for _, s := range b.Slots {
			if s.IsValid() {
				l.ends = append(l.ends, s)
			}
		}
		slices.SortFunc(l.ends, netip.AddrPort.Compare)
		out[h.Name] = l
	}
	return out
}

// anyTown is a wanted configuration: up to five services, each with its own range of ports, and host names that
// may lead to any of them.
var anyTown = rapid.Custom(func(t *rapid.T) router.Config {
	m := map[string][]netip.AddrPort{}
	ids := rapid.SliceOfNDistinct(rapid.IntRange(1, 6), 0, 5, rapid.ID).Draw(t, "services")
	for _, id := range ids {
		ports := rapid.SliceOfNDistinct(rapid.IntRange(100*id, 100*id+9), 0, 4, rapid.ID).Draw(t, "ports")
		m[fmt.Sprintf("be_%d", id)] = slots(append(ports, 0)...)
	}
	var hosts []string
	for _, h := range []string{"u", "v", "w", "x", "y", "z"} {
		if i := rapid.IntRange(-2, len(ids)-1).Draw(t, "host "+h); i >= 0 {
			hosts = append(hosts, fmt.Sprintf("%s be_%d", h, ids[i]))
		}
	}
	return with(config(m, hosts...), spare(1, ""), spare(2, ""), spare(3, ""))
})

// TestWalkWithSpares goes from town to town, as a router's life does: with reloads that come late or never, and
// requests that leave spares late. At each command, a host name leads to the servers of the service that it had or
// will have, and to at least one if both have some.
func TestWalkWithSpares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state := with(config(nil), spare(1, ""), spare(2, ""), spare(3, ""))
		var wanted router.Config
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			if rapid.IntRange(0, 3).Draw(t, "news") > 0 || wanted.HeadID == "" {
				wanted = anyTown.Draw(t, "wanted")
			}
			for i := range state.Backends {
				state.Backends[i].Idle = rapid.Bool().Draw(t, "idle")
			}
			state = walk(t, state, wanted)
		}
	})
}

// walk carries out a Change, and its reload or not, and gives what then runs.
func walk(t *rapid.T, state, wanted router.Config) router.Config {
	change, before := router.Diff(state, wanted), lead(state)
	state = clone(state)
	for i := range state.Backends {
		state.Backends[i].Idle = false
	}
	for n, c := range change.Commands {
		obey(t, &state, c)
		leadsRight(t, before, lead(state), lead(wanted), change.Reload, fmt.Sprintf("after %q", change.Commands[:n+1]))
	}
	if d := cmp.Diff(clone(change.After), clone(state), same); d != "" {
		t.Fatalf("After is not what the commands do:\n%s", d)
	}
	if change.Reload && rapid.Bool().Draw(t, "reload") {
		state = clone(wanted)
	} else if again := router.Diff(change.After, wanted); len(again.Commands) > 0 {
		t.Fatalf("a second pass does more: %q", again.Commands)
	}
	if !change.Reload {
		if d := cmp.Diff(simple(lead(wanted)), simple(lead(state))); d != "" {
			t.Fatalf("not what is wanted:\n%s", d)
		}
	}
	return state
}

// leadsRight checks a moment between two configurations. Only a name that waits for a reload, when its old service is
// gone, may be without servers.
func leadsRight(t *rapid.T, before, now, after map[api.Hostname]lodging, reload bool, when string) {
	for host, l := range now {
		was, will := before[host], after[host]
		if l.service != was.service && l.service != will.service {
			t.Fatalf("%s: %q leads to %q, neither %q nor %q", when, host, l.service, was.service, will.service)
		}
		for _, e := range l.ends {
			if fmt.Sprintf("be_%d", e.Port()/100) != l.service {
				t.Fatalf("%s: %q leads to %s, which is not of %q", when, host, e, l.service)
			}
		}
		if stays := was.service == will.service; (stays || !reload) && len(was.ends) > 0 && len(will.ends) > 0 && len(l.ends) == 0 {
			t.Fatalf("%s: %q has no server for a moment", when, host)
		}
	}
}

func simple(m map[api.Hostname]lodging) map[api.Hostname]string {
	out := map[api.Hostname]string{}
	for h, l := range m {
		out[h] = fmt.Sprint(l.service, l.ends)
	}
	return out
}

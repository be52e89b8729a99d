package linker

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"gearmesh.dev/api"
)

// drained gives a link of that number, with drain and a bound.
func drained(n byte, backends ...string) api.LinkTarget {
	l := api.LinkTarget{Service: "db", Local: netip.AddrFrom4([4]byte{127, 1, 0, n}), Port: 5432, Protocol: api.TCP, Retarget: api.Drain,
		MaxDrain: api.Duration(time.Minute)}
	for _, b := range backends {
		l.Backends = append(l.Backends, netip.MustParseAddrPort(b))
	}
	return l
}

func TestDrains(t *testing.T) {
	const a, b = "192.0.2.2:20001", "192.0.2.3:20001"
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	mark := func(n byte, backend string, until time.Time) Drain {
		return Drain{netip.AddrFrom4([4]byte{127, 1, 0, n}), 5432, api.TCP, netip.MustParseAddrPort(backend), until}
	}
	change := func(l api.LinkTarget, f func(*api.LinkTarget)) []api.LinkTarget { f(&l); return []api.LinkTarget{l} }
	soon, later := now.Add(time.Second), now.Add(time.Minute)
	for name, tt := range map[string]struct {
		known    []Drain
		old, new []api.LinkTarget
		want     []Drain
	}{
		"a backend goes":               {nil, []api.LinkTarget{drained(1, a, b)}, []api.LinkTarget{drained(1, b)}, []Drain{mark(1, a, later)}},
		"the last one goes":            {nil, []api.LinkTarget{drained(1, a)}, []api.LinkTarget{drained(1)}, []Drain{mark(1, a, later)}},
		"nothing changes":              {nil, []api.LinkTarget{drained(1, a)}, []api.LinkTarget{drained(1, a)}, nil},
		"it goes on":                   {[]Drain{mark(1, a, soon)}, []api.LinkTarget{drained(1, b)}, []api.LinkTarget{drained(1, b)}, []Drain{mark(1, a, soon)}},
		"the time does not begin anew": {[]Drain{mark(1, a, soon)}, []api.LinkTarget{drained(1, a, b)}, []api.LinkTarget{drained(1, b)}, []Drain{mark(1, a, soon)}},
		"it is back":                   {[]Drain{mark(1, a, soon)}, []api.LinkTarget{drained(1, b)}, []api.LinkTarget{drained(1, a, b)}, nil},
		"the clock was set back":       {[]Drain{mark(1, a, now.Add(time.Hour))}, nil, []api.LinkTarget{drained(1, b)}, []Drain{mark(1, a, later)}},
		"another link's":               {[]Drain{mark(2, a, soon)}, []api.LinkTarget{drained(2, a)}, []api.LinkTarget{drained(1, b)}, nil},
		"the link is gone":             {[]Drain{mark(1, a, soon)}, []api.LinkTarget{drained(1, b)}, nil, nil},
		"a new link":                   {nil, nil, []api.LinkTarget{drained(1, a)}, nil},
		"without a bound":              {nil, []api.LinkTarget{drained(1, a)}, change(drained(1), func(l *api.LinkTarget) { l.MaxDrain = 0 }), nil},
		"cut":                          {nil, []api.LinkTarget{drained(1, a)}, change(drained(1), func(l *api.LinkTarget) { l.Retarget = api.Cut }), nil},
	} {
		if got := Drains(tt.known, tt.old, tt.new, now); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
	over, rest := Over([]Drain{mark(1, a, now), mark(1, b, soon), mark(2, a, now.Add(-time.Hour))}, now)
	if !reflect.DeepEqual(over, []Drain{mark(1, a, now), mark(2, a, now.Add(-time.Hour))}) || !reflect.DeepEqual(rest, []Drain{mark(1, b, soon)}) {
		t.Errorf("over are %v, the rest is %v", over, rest)
	}
}

func TestDrainVerdict(t *testing.T) {
	const a, b = "192.0.2.2:20001", "192.0.2.3:20001"
	over := []Drain{{netip.MustParseAddr("127.1.0.1"), 5432, api.TCP, netip.MustParseAddrPort(a), time.Time{}}}
	for name, tt := range map[string]struct {
		flow flow
		link api.LinkTarget
		want bool
	}{
		"to the backend that is gone":  {entry(api.TCP, "127.1.0.1:5432", a), drained(1, b), true},
		"to another one":               {entry(api.TCP, "127.1.0.1:5432", "192.0.2.9:20001"), drained(1, b), false},
		"it is back after all":         {entry(api.TCP, "127.1.0.1:5432", a), drained(1, a, b), false},
		"to another link":              {entry(api.TCP, "127.1.0.2:5432", a), drained(2, b), false},
		"not by a link":                {entry(api.TCP, a, a), drained(1, b), false},
		"the same place, but datagram": {entry(api.UDP, "127.1.0.1:5432", a), drained(1, b), false},
	} {
		if _, got := drainVerdict(tt.flow, []api.LinkTarget{tt.link}, over); got != tt.want {
			t.Errorf("%s: it ends is %v, want %v", name, got, tt.want)
		}
	}
}

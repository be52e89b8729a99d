//go:build root

package linker_test

import (
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/linker"
)

// What is told of links is what real connections and rules are.
func TestStates(t *testing.T) {
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		c := newCluster(t, v)
		p := c.pa[0] // it listens on 5432
		c.a.serve(t, "ha", "10.127.0.1:53")
		bounded := func(backends ...string) []api.LinkTarget {
			return []api.LinkTarget{with(link("db", 1, 5432, backends...), func(l *api.LinkTarget) { l.MaxDrain = api.Duration(time.Hour) }), link("no", 2, 81), link("quiet", 3, 82, "192.0.2.2:20001")}
		}
		old := bounded("192.0.2.2:20000")
		rules := c.applyPod(t, p, old...)
		states := func(links []api.LinkTarget, drains []linker.Drain) []api.LinkState {
			t.Helper()
			s, err := v.States(t.Context(), p.path, links, drains)
			if err != nil || len(s) != len(links) {
				t.Fatalf("%+v, %v", s, err)
			}
			return s
		}
		for _, at := range []string{"127.0.0.1:5432", "127.0.0.1:5432", "127.1.0.1:5432"} {
			p.session(t, "tcp", at).expect(t, "b0", "")
		}
		p.session(t, "tcp", "10.127.0.1:53").Close() // not by a link
		p.refused(t, "tcp", "127.0.0.1:81")
		s := states(old, nil)
		if b := s[0].Backends; !s[0].Applied || !s[0].Listening || s[0].Refused != 0 || len(b) != 1 || b[0].Open != 3 || b[0].Connections != 3 || b[0].Gone {
			t.Errorf("with 3 connections: %+v", s[0])
		}
		if !s[1].Applied || s[1].Refused != 1 || s[1].Listening || len(s[1].Backends) != 0 {
			t.Errorf("without a backend: %+v", s[1])
		}
		if b := s[2].Backends; !s[2].Applied || len(b) != 1 || b[0].Open != 0 || b[0].Connections != 0 {
			t.Errorf("unused: %+v", s[2])
		}

		next := bounded("192.0.2.2:20001")
		if s := states(next, nil); s[0].Applied || !s[2].Applied {
			t.Errorf("before the change: %+v", s)
		}
		c.retarget(t, p, rules, old, next)
		drains := linker.Drains(nil, old, next, time.Now())
		s = states(next, drains)
		if b := s[0].Backends; !s[0].Applied || len(b) != 2 || !b[0].Gone || b[0].Open != 3 || b[0].Until == nil || b[1].Gone || b[1].Until != nil {
			t.Errorf("after the change: %+v", s[0])
		}
		p.run(t, "iptables-"+string(v), "-t", "nat", "-D", "OUTPUT", "1")
		if s := states(next, drains); s[0].Applied || s[2].Applied {
			t.Errorf("without the jump: %+v", s)
		}
		p.run(t, "iptables-"+string(v), "-t", "filter", "-F", "GEAR-REJECT")
		if s := states(next, drains); s[1].Applied {
			t.Errorf("without what refuses: %+v", s[1])
		}
	})
}

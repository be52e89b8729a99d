package geard_test

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"

	"gearmesh.dev/api"
)

// A host that gets an IPv6 address gives it to the pods that run, tells of it, and knows the others'; one that loses it takes it back.
func TestIPv6Comes(t *testing.T) {
	var own atomic.Value
	own.Store(api.HostIPv6{})
	r := newRig(t)
	r.stop()
	r.ipv6 = func() api.HostIPv6 { return own.Load().(api.HostIPv6) }
	r.start()
	at, other := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	further := netip.MustParseAddr("2001:db8::2:2")
	bare := pod(uidA)
	serves := func(six bool) func() bool {
		return func() bool {
			e := r.agent.Endpoints().Endpoints
			return len(e) > 0 && !slices.ContainsFunc(e, func(e api.Endpoint) bool { return e.IPv6 != six })
		}
	}
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{bare}, Hosts: []api.HostEntry{
		{Name: "h1", Address: netip.MustParseAddr("10.0.0.1")}, {Name: "h2", Address: netip.MustParseAddr("10.0.0.2"), HostIPv6: api.HostIPv6{IPv6: other, AlsoIPv6: []netip.Addr{further}}}}}
	r.until("the pod", func() bool { return len(r.host.Rules().Pods) == 1 && slices.Contains(r.host.Rules().Members, other) })
	r.until("endpoints", serves(false))
	if r.host.IPv6(uidA) || r.host.Rules().IPv6.IsValid() || r.agent.Report().IPv6.IsValid() {
		t.Error("it has IPv6 before its host has")
	}
	own.Store(api.HostIPv6{IPv6: at, AlsoIPv6: []netip.Addr{further.Next()}})
	r.agent.RulesTouched()
	r.until("the pod to have IPv6", func() bool { return r.host.IPv6(uidA) })
	if rules := r.host.Rules(); rules.IPv6 != at || !slices.Contains(rules.Members, at) || !slices.Contains(rules.Members, other) || !slices.Contains(rules.Members, further) ||
		r.agent.Report().IPv6 != at || len(r.agent.Report().AlsoIPv6) != 1 {
		t.Errorf("the rules are of %+v, the report says %s", rules, r.agent.Report().IPv6)
	}
	r.until("endpoints at its host's IPv6 address", serves(true))
	r.stop()
	r.start()
	r.until("IPv6 after a restart of the agent", func() bool { return r.host.IPv6(uidA) && r.host.Rules().IPv6 == at })
	own.Store(api.HostIPv6{})
	r.agent.RulesTouched()
	r.until("the pod to have none", func() bool { return !r.host.IPv6(uidA) && !r.host.Rules().IPv6.IsValid() })
	r.until("endpoints over IPv4 alone", serves(false))
}

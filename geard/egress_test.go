package geard_test

import (
	"net/netip"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/podnet"
	"gearmesh.dev/linker"
)

// laidEgress gives what the host's rules hold the one pod to; nil when there is no pod either.
func (r *rig) laidEgress() *linker.Egress {
	rules := r.host.Rules()
	if len(rules.Pods) != 1 {
		return nil
	}
	return rules.Egress[rules.Pods[0].Address]
}

func TestEgressFollows(t *testing.T) {
	r := newRig(t)
	p := pod(uidA)
	p.Spec.Egress = &api.Egress{Allow: []api.EgressRule{{Name: "*.example.com", Ports: []uint16{443}, Protocol: api.TCP}}}
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{p}}
	r.until("the pod to be held to nothing", func() bool {
		e := r.laidEgress()
		return e != nil && e.Interface == podnet.VethName(uidA) && len(e.Allow) == 0
	})
	at := r.host.Rules().Pods[0].Address
	far := []netip.Addr{netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("127.1.0.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::1"), netip.MustParseAddr("::ffff:198.51.100.9")}
	if err := r.agent.Told(t.Context(), at, "WWW.example.com.", far, time.Second); err != nil {
		t.Fatal(err)
	}
	if err := r.agent.Told(t.Context(), at, "example.org", []netip.Addr{netip.MustParseAddr("198.51.100.8")}, time.Second); err != nil {
		t.Fatal(err)
	}
	want := linker.Allowed{Net: netip.MustParsePrefix("198.51.100.7/32"), Protocol: api.TCP}
	allowed := func() bool {
		e := r.laidEgress()
		return e != nil && len(e.Allow) == 2 && e.Allow[0].Net == want.Net && e.Allow[0].Ports[0] == 443 && e.Allow[1].Net == netip.MustParsePrefix("2001:db8::1/128")
	}
	if !allowed() {
		t.Fatalf("after the name was told it is held to %+v", r.laidEgress())
	}
	r.stop()
	r.start()
	r.until("the same after a restart of the agent", allowed)
	if err := r.agent.Told(t.Context(), netip.MustParseAddr("10.127.9.9"), "a", far, time.Second); err == nil {
		t.Error("a pod that is not there was told of something")
	}
	p.Spec.Egress = nil
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{p}}
	r.until("the pod to be free", func() bool { return len(r.host.Rules().Pods) == 1 && r.laidEgress() == nil })
	r.until("its file to say so", func() bool { d, err := r.dirs.LoadPod(uidA); return err == nil && d.Spec.Egress == nil })
}

package geard_test

import (
	"net/netip"
	"testing"

	"gearmesh.dev/api"
)

// A pod without a network lays its links from disk when it is started. They are the newest there, also when they
// change to something else and back meanwhile.
func TestLinksOfAStoppedPod(t *testing.T) {
	r := newRig(t)
	h2 := netip.MustParseAddr("10.0.0.2")
	seq := int64(0)
	db := func(port uint16) []api.HostEndpoints {
		seq++
		return []api.HostEndpoints{{Host: "h2", Seq: seq, Endpoints: []api.Endpoint{{Project: "shop", Service: "db", Port: "sql", Protocol: api.TCP, Address: netip.AddrPortFrom(h2, port), Ready: true}}}}
	}
	onDisk := func(port uint16) {
		r.until("the links on disk", func() bool {
			links, err := r.dirs.LoadLinks(uidA)
			return err == nil && len(links) == 1 && len(links[0].Backends) == 1 && links[0].Backends[0].Port() == port
		})
	}
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA, api.Link{Service: "db", LocalPort: 6379})}, Endpoints: db(20001),
		Hosts:    []api.HostEntry{{Name: "h1", Address: netip.MustParseAddr("10.0.0.1")}, {Name: "h2", Address: h2}},
		Services: []api.ServiceEntry{{Project: "shop", Name: "db", Ports: []api.Port{{Name: "sql", Port: 1}}}}}
	r.untilHost("web-aaaaa up started=1 db:6379→[10.0.0.2:20001]\n")
	r.host.Stop(uidA)
	for _, port := range []uint16{20002, 20001, 20003} {
		r.master.patches <- api.Patch{Term: 1, Endpoints: db(port)}
		onDisk(port)
	}
}

// Rules that somebody else takes away in a pod's namespace are laid again, also of a pod whose links did not change.
func TestLinksThatOthersFlush(t *testing.T) {
	r := newRig(t)
	h2 := netip.MustParseAddr("10.0.0.2")
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{pod(uidA, api.Link{Service: "db", LocalPort: 6379})},
		Hosts:    []api.HostEntry{{Name: "h1", Address: netip.MustParseAddr("10.0.0.1")}, {Name: "h2", Address: h2}},
		Services: []api.ServiceEntry{{Project: "shop", Name: "db", Ports: []api.Port{{Name: "sql", Port: 1}}}},
		Endpoints: []api.HostEndpoints{{Host: "h2", Seq: 1, Endpoints: []api.Endpoint{
			{Project: "shop", Service: "db", Port: "sql", Protocol: api.TCP, Address: netip.AddrPortFrom(h2, 20001), Ready: true}}}}}
	const laid = "web-aaaaa up started=1 db:6379→[10.0.0.2:20001]\n"
	for range 3 {
		r.untilHost(laid)
		r.host.FlushLinks(uidA)
	}
	r.untilHost(laid)
}

// Where a link leads changes under running containers; what they are made of does not.
func TestLinksThatLeadElsewhere(t *testing.T) {
	r := newRig(t)
	h2 := netip.MustParseAddr("10.0.0.2")
	endpoint := func(service api.Name, port uint16) api.Endpoint {
		return api.Endpoint{Project: "shop", Service: service, Port: "sql", Protocol: api.TCP, Address: netip.AddrPortFrom(h2, port), Ready: true}
	}
	sql := []api.Port{{Name: "sql", Port: 1}}
	p := pod(uidA, api.Link{Name: "data", Service: "db", LocalPort: 5432})
	r.master.patches <- api.Patch{Full: true, Term: 1, Pods: []api.Pod{p},
		Hosts:     []api.HostEntry{{Name: "h1", Address: netip.MustParseAddr("10.0.0.1")}, {Name: "h2", Address: h2}},
		Services:  []api.ServiceEntry{{Project: "shop", Name: "db", Ports: sql}, {Project: "shop", Name: "db2", Ports: sql}},
		Endpoints: []api.HostEndpoints{{Host: "h2", Seq: 1, Endpoints: []api.Endpoint{endpoint("db", 20001), endpoint("db2", 20002)}}}}
	r.untilHost("web-aaaaa up started=1 db:5432→[10.0.0.2:20001]\n")

	elsewhere := p
	elsewhere.Spec.Template.Links = []api.Link{{Name: "data", Service: "db2", LocalPort: 5432, Protocol: api.TCP, Retarget: api.Drain}}
	elsewhere.Spec.Live = "2"
	r.master.patches <- api.Patch{Term: 1, Pods: []api.Pod{elsewhere}}
	r.untilHost("web-aaaaa up started=1 db2:5432→[10.0.0.2:20002]\n")
	if kept, err := r.dirs.LoadPod(uidA); err != nil || kept.Spec.Live != "2" || kept.Spec.Template.Links[0].Service != "db2" {
		t.Errorf("on disk is %+v, %v", kept.Spec, err)
	}

	wrong := elsewhere
	wrong.Spec.Template.Containers = []api.Container{{Name: "main", Image: "web:2"}}
	wrong.Spec.Live = "3"
	r.master.patches <- api.Patch{Term: 1, Pods: []api.Pod{wrong}}
	r.until("the refusal", func() bool { return r.status(uidA).Reason == api.ReasonHostError })
	if kept, err := r.dirs.LoadPod(uidA); err != nil || kept.Spec.Live != "2" || kept.Spec.Template.Containers[0].Image != "web:1" {
		t.Errorf("on disk is %+v, %v", kept.Spec, err)
	}
}

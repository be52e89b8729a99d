package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	at       = netip.MustParseAddrPort
	samePort = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
)

// linked is a cluster of three hosts in two zones, with a database that is offered to project q.
func linked() Directory {
	e := func(service, pod Name, addr string) Endpoint {
		return Endpoint{Project: "p", Service: service, Pod: pod, Port: "sql", Address: at(addr), Ready: true}
	}
	heavy := e("db", "db-b", "10.0.0.2:20001")
	heavy.Weight = 300
	unready := e("db", "db-x", "10.0.0.1:20002")
	unready.Ready = false
	foreign := e("db", "db-y", "10.0.0.1:20003")
	foreign.Project = "q"
	sql := []Port{{Name: "sql", Port: 5432, Protocol: TCP}}
	return Directory{
		Hosts: []HostEntry{{Name: "h1", Zone: "a"}, {Name: "h2", Zone: "a"}, {Name: "h3", Zone: "b"}},
		Services: []ServiceEntry{{Project: "p", Name: "db", Ports: sql, Offers: []Name{"q"}, Linked: true}, {Project: "p", Name: "new", Ports: sql, Linked: true},
			{Project: "q", Name: "db", Ports: sql}},
		Endpoints: []HostEndpoints{
			{Host: "h2", Endpoints: []Endpoint{heavy}},
			{Host: "h1", Endpoints: []Endpoint{e("db", "db-a", "10.0.0.1:20001"), unready, foreign}},
			{Host: "h3", Endpoints: []Endpoint{e("db", "db-c", "10.0.0.3:20001")}}}}
}

func backendsOf(targets []LinkTarget) string {
	var out []string
	for _, t := range targets {
		var b []string
		for i, a := range t.Backends {
			word := strings.TrimPrefix(a.Addr().String(), "10.0.0.")
			if t.Weights != nil {
				word += fmt.Sprintf("*%d", t.Weights[i])
			}
			b = append(b, word)
		}
		out = append(out, string(t.Project)+"/"+string(t.Service)+"="+strings.Join(b, ",")+string(t.Reason))
	}
	return strings.Join(out, " ")
}

func TestTargets(t *testing.T) {
	links := []Link{{Service: "db", LocalPort: 5432, Protocol: TCP, Retarget: Drain}, {Service: "old", LocalPort: 5432, Protocol: TCP, Retarget: Cut}}
	d := linked()
	d.Services[0].Linked, d.Services[1].Linked = false, false
	want := []LinkTarget{
		{Service: "db", PortName: "sql", Local: netip.MustParseAddr("127.1.0.1"), Port: 5432, Protocol: TCP, Retarget: Drain, Localhost: true,
			Backends: []netip.AddrPort{at("10.0.0.1:20001"), at("10.0.0.2:20001"), at("10.0.0.3:20001")}},
		{Service: "old", Local: netip.MustParseAddr("127.1.0.2"), Port: 5432, Protocol: TCP, Retarget: Cut, Reason: ReasonNoBackend}}
	if diff := cmp.Diff(want, d.Resolver("h1").Targets("p", "web-1", links), samePort, sameAddr); diff != "" {
		t.Error(diff)
	}
	down := d.Alive(func(h Name) bool { return h == "h2" }).Resolver("h1").Targets("p", "web-1", links)
	if n := len(down[0].Backends); n != 2 {
		t.Errorf("with h2 down there are %d backends, want 2", n)
	}
}

func TestTargetsChoose(t *testing.T) {
	for _, c := range []struct {
		name          string
		host, project Name
		link          Link
		want          string
	}{
		{"weighted", "h1", "p", Link{Balance: BalanceWeighted}, "/db=1*100,2*300,3*100"},
		{"nearest: the host", "h1", "p", Link{Nearest: true}, "/db=1"},
		{"nearest: the zone", "h4", "p", Link{Nearest: true}, "/db=1,2"},
		{"nearest: nothing is", "h5", "p", Link{Nearest: true}, "/db=1,2,3"},
		{"another project, offered", "h1", "q", Link{Project: "p"}, "p/db=1,2,3"},
		{"another project, not offered", "h1", "r", Link{Project: "p"}, "p/db=NotOffered"},
		{"another project, no such service", "h1", "q", Link{Project: "p", Service: "nosuch"}, "p/nosuch=NotOffered"},
		{"one's own project by name", "h1", "p", Link{Project: "p"}, "/db=1,2,3"},
		{"one's own service of the same name", "h1", "q", Link{}, "/db=1"},
	} {
		d := linked()
		d.Services[0].Linked, d.Services[1].Linked = false, false
		d.Hosts = append(d.Hosts, HostEntry{Name: "h4", Zone: "a"}, HostEntry{Name: "h5"})
		if c.link.Service == "" {
			c.link.Service = "db"
		}
		if got := backendsOf(d.Resolver(c.host).Targets(c.project, "web-1", []Link{c.link})); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// Pods spread over the backends, and keep theirs while it is there.
func TestStickyStays(t *testing.T) {
	d := linked()
	less := d.Alive(func(h Name) bool { return h == "h2" })
	perBackend := map[string]int{}
	for i := range 300 {
		pod := Name(fmt.Sprintf("web-%d", i))
		links := []Link{{Service: "db", Balance: BalanceSticky, LocalPort: 1}}
		before, after := d.Resolver("h1").Targets("p", pod, links)[0].Backends, less.Resolver("h1").Targets("p", pod, links)[0].Backends
		if len(before) != 1 || len(after) != 1 {
			t.Fatalf("%s has the backends %v, then %v; want one", pod, before, after)
		}
		if before[0].Addr() != at("10.0.0.2:1").Addr() && before[0] != after[0] {
			t.Errorf("%s moved from %s to %s although its backend is there", pod, before[0], after[0])
		}
		perBackend[before[0].String()]++
	}
	for b, n := range perBackend {
		if n < 60 || n > 140 {
			t.Errorf("%s has %d of 300 pods", b, n)
		}
	}
}

// A project that links its services: each pod has all of them, at addresses that stay.
func TestTargetsGiven(t *testing.T) {
	d := linked()
	got := d.Resolver("h1").Targets("p", "web-1", []Link{{Service: "db", LocalPort: 5432, Protocol: TCP}})
	if len(got) != 2 || got[1].Service != "new" || got[1].Localhost || got[1].Port != 5432 || got[1].Local.As4()[1] < 64 {
		t.Errorf("got %+v; want the link to db and one to new, at an address of its own", got)
	}
	for i := range 500 {
		d.Services = append(d.Services, ServiceEntry{Project: "p", Name: Name(fmt.Sprintf("s%d", i)), Ports: []Port{{Name: "x", Port: 80, Protocol: UDP}}, Linked: true})
	}
	seen := map[netip.Addr]Name{}
	for _, target := range d.Resolver("h1").Targets("p", "web-1", nil) {
		if other, ok := seen[target.Local]; ok {
			t.Errorf("%s is that of %s and of %s", target.Local, other, target.Service)
		}
		seen[target.Local] = target.Service
	}
	if len(seen) != 502 {
		t.Errorf("there are %d links, want 502", len(seen))
	}
	if got := d.Resolver("h1").Targets("q", "web-1", nil); len(got) != 0 {
		t.Errorf("a pod of another project has %+v", got)
	}
}

func TestLinkAndEgressFaults(t *testing.T) {
	for _, c := range []struct {
		set  func(*Service)
		want string
	}{
		{func(s *Service) { s.Spec.Links = []Link{{Service: "db", LocalPort: 1, Balance: "best"}} }, `spec.links[0].balance: "best" is not known; write random or weighted or sticky`},
		{func(s *Service) { s.Spec.Links = []Link{{Service: "db", LocalPort: 1, Retarget: Cut, MaxDrain: 1}} }, "spec.links[0].maxDrain"},
		{func(s *Service) {
			s.Spec.Links = []Link{{Service: "db", LocalPort: 1, Mode: LinkBalanced, Protocol: UDP}}
		}, "spec.links[0].mode: balanced is for tcp"},
		{func(s *Service) { s.Spec.Links = []Link{{Service: "db", LocalPort: 1, Project: "Other"}} }, "spec.links[0].project"},
		{func(s *Service) { s.Spec.Offers = []Name{"shop", "shop"} }, "spec.offers[1]"},
		{func(s *Service) { s.Spec.Weight = 1001 }, "spec.weight: is 1001; 1 to 1000"},
		{func(s *Service) { s.Spec.Egress = &Egress{Allow: []EgressRule{{}}} }, "spec.egress.allow[0]: give either cidr or name"},
		{func(s *Service) { s.Spec.Egress = &Egress{Allow: []EgressRule{{CIDR: "::ffff:10.0.0.0/100"}}} }, `spec.egress.allow[0].cidr: "::ffff:10.0.0.0/100" is no network`},
		{func(s *Service) { s.Spec.Egress = &Egress{Allow: []EgressRule{{CIDR: "10.0.0.0/8\n-j ACCEPT"}}} }, "spec.egress.allow[0].cidr"},
		{func(s *Service) { s.Spec.Egress = &Egress{Allow: []EgressRule{{Name: "*.a b"}}} }, "spec.egress.allow[0].name"},
		{func(s *Service) { s.Spec.Egress = &Egress{Allow: []EgressRule{{Name: "a.b", Ports: []uint16{0}}}} }, "spec.egress.allow[0].ports[0]"},
		{func(s *Service) { s.Spec.Egress = &Egress{Default: EgressAllow, Allow: []EgressRule{{Name: "a.b"}}} }, "spec.egress.allow: everything is allowed"},
	} {
		s := &Service{Header: Header{Kind: KindService, Metadata: Metadata{Name: "web", Project: "shop"}}}
		s.Spec.Containers = []Container{{Image: "web:1"}}
		c.set(s)
		s.Default()
		if !slices.ContainsFunc(s.Validate(), func(f Fault) bool { return strings.Contains(f.Field+": "+f.Message, c.want) }) {
			t.Errorf("got %+v; want %q among them", s.Validate(), c.want)
		}
	}
}

func TestEgressRuleMatches(t *testing.T) {
	for _, c := range []struct {
		rule, name string
		want       bool
	}{{"a.example.com", "A.example.com", true}, {"*.example.com", "a.b.example.com", true}, {"*.example.com", "example.com", false},
		{"*.example.com", "badexample.com", false}, {"", "example.com", false}} {
		if got := (EgressRule{Name: c.rule}).Matches(c.name); got != c.want {
			t.Errorf("%q matches %q: %t, want %t", c.rule, c.name, got, c.want)
		}
	}
}

// One host that reports an address that rules of links cannot have must not break the links of others.
func TestResolverTakesIPv4Alone(t *testing.T) {
	e := func(host Name, at string) HostEndpoints {
		return HostEndpoints{Host: host, Endpoints: []Endpoint{{Project: "shop", Service: "db", Pod: "db-" + host, Port: "main", Protocol: TCP, Address: netip.MustParseAddrPort(at), Ready: true}}}
	}
	d := Directory{Services: []ServiceEntry{{Project: "shop", Name: "db", Ports: []Port{{Name: "main", Port: 5432, Protocol: TCP}}}},
		Endpoints: []HostEndpoints{e("h1", "[2001:db8::1]:20000"), e("h2", "192.0.2.2:20000")}}
	got := d.Resolver("h1").Targets("shop", "web-1", []Link{{Service: "db", LocalPort: 5432, Protocol: TCP}})
	if len(got) != 1 || len(got[0].Backends) != 1 || got[0].Backends[0] != netip.MustParseAddrPort("192.0.2.2:20000") {
		t.Errorf("got %+v", got)
	}
}

// A pod on a host with IPv6 reaches over IPv6 those of a link's backends that listen there, in the order of the others.
func TestTargetsOverIPv6(t *testing.T) {
	at, port := netip.MustParseAddr, netip.MustParseAddrPort
	end := func(pod, address string, six bool) Endpoint {
		return Endpoint{Project: "shop", Service: "db", Pod: Name(pod), Port: "sql", Protocol: TCP, Address: port(address), Ready: true, IPv6: six}
	}
	d := Directory{
		Services: []ServiceEntry{{Project: "shop", Name: "db", Ports: []Port{{Name: "sql", Port: 5432, Protocol: TCP}}}},
		Hosts:    []HostEntry{{Name: "h1", HostIPv6: HostIPv6{IPv6: at("2001:db8::1")}}, {Name: "h2", HostIPv6: HostIPv6{IPv6: at("2001:db8::2")}}, {Name: "h3"}},
		Endpoints: []HostEndpoints{{Host: "h3", Endpoints: []Endpoint{end("db-3", "192.0.2.3:20001", true)}},
			{Host: "h2", Endpoints: []Endpoint{end("db-2", "192.0.2.2:20007", true), end("db-4", "192.0.2.2:20001", false)}}},
	}
	links := []Link{{Service: "db", LocalPort: 5432, Protocol: TCP}, {Service: "other", LocalPort: 80, Protocol: TCP}}
	got := d.Resolver("h1").Targets("shop", "web", links)
	want := []netip.AddrPort{{}, port("[2001:db8::2]:20007"), {}}
	if !got[0].IPv6 || !slices.Equal(got[0].Backends6, want) || len(got[0].Backends) != 3 || !got[1].IPv6 || got[1].Backends6 != nil {
		t.Errorf("got %+v", got)
	}
	text, err := json.Marshal(got)
	var back []LinkTarget
	if err := errors.Join(err, json.Unmarshal(text, &back)); err != nil || !reflect.DeepEqual(back, got) {
		t.Errorf("from disk: %+v, %v", back, err)
	}
	for _, l := range d.Resolver("h3").Targets("shop", "web", links) {
		if l.IPv6 || l.Backends6 != nil {
			t.Errorf("on a host without IPv6: %+v", l)
		}
	}
}

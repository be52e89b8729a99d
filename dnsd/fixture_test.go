package dnsd

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"gearmesh.dev/api"
)

var podNet = netip.MustParsePrefix("10.127.0.0/16")

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

// shop gives a small cluster: project shop with web (two ready pods, one not), db (one) and an idle
// service; project other with a service of the same name.
func shop() api.Directory {
	e := func(project, service, pod, port, at string, ready bool) api.Endpoint {
		return api.Endpoint{Project: api.Name(project), Service: api.Name(service), Pod: api.Name(pod), Port: api.Name(port),
			Protocol: api.TCP, Address: netip.MustParseAddrPort(at), Ready: ready}
	}
	ports := func(names ...api.Name) (out []api.Port) {
		for _, n := range names {
			out = append(out, api.Port{Name: n, Port: 80, Protocol: api.TCP})
		}
		return out
	}
	return api.Directory{
		Services: []api.ServiceEntry{
			{Project: "shop", Name: "web", Ports: ports("http", "metrics")},
			{Project: "shop", Name: "db", Ports: ports("pg")},
			{Project: "shop", Name: "idle", Ports: ports("main")},
			{Project: "other", Name: "web", Ports: ports("http")},
			{Project: "host", Name: "n1", Ports: ports("http")},
		},
		Hosts: []api.HostEntry{
			{Name: "n1", Address: ip("192.0.2.1"), Router: true},
			{Name: "n2", Address: ip("192.0.2.2"), Router: true},
			{Name: "n3", Address: ip("2001:db8::3")},
		},
		Aliases: []api.AliasEntry{
			{Host: "shop.example.com", Project: "shop", Service: "web", Port: "http"},
			{Host: "www.other.example", Project: "other", Service: "web", Port: "http"},
			{Host: "front.gear.internal", Project: "shop", Service: "web", Port: "http"},
			{Host: "www.shop.gear.internal", Project: "shop", Service: "web", Port: "http"},
			{Host: "mail.shop.gear.internal", Project: "other", Service: "web", Port: "http"},
			{Host: "db.shop.gear.internal", Project: "shop", Service: "web", Port: "http"},
			{Host: "host.gear.internal", Project: "shop", Service: "web", Port: "http"},
			{Host: "gear.internal", Project: "shop", Service: "web", Port: "http"},
			{Host: "localhost", Project: "shop", Service: "web", Port: "http"},
			{Host: "1.2.0.192.in-addr.arpa", Project: "shop", Service: "web", Port: "http"},
		},
		Endpoints: []api.HostEndpoints{
			{Host: "n1", Seq: 1, Endpoints: []api.Endpoint{
				e("shop", "web", "web-a", "http", "192.0.2.1:20001", true), e("shop", "web", "web-a", "metrics", "192.0.2.1:20002", true),
				e("shop", "db", "db-a", "pg", "192.0.2.1:20003", true), e("host", "n1", "n1-a", "http", "192.0.2.2:20009", true)}},
			{Host: "n2", Seq: 1, Endpoints: []api.Endpoint{
				e("shop", "web", "web-b", "http", "192.0.2.2:20001", true), e("shop", "web", "web-c", "http", "192.0.2.2:20004", false),
				e("other", "web", "web-z", "http", "192.0.2.2:20005", true)}},
			{Host: "n3", Seq: 1, Endpoints: []api.Endpoint{e("shop", "web", "web-d", "http", "[2001:db8::3]:20001", true)}},
		},
	}
}

// table gives the views of a host: a pod of shop with a link to db and to a service that is not
// there yet, and one of project other.
func table() *Table {
	d, t := shop(), NewTable(podNet)
	t.SetZone(NewZone(d, Options{PodNet: podNet}), d.Hosts)
	t.SetPods(map[netip.Addr]Pod{
		ip("10.127.0.2"): NewPod(DefaultDomain, "shop", d.Resolver("n1").Targets("shop", "pod", []api.Link{
			{Service: "db", LocalPort: 5432, Protocol: api.TCP}, {Service: "later", Port: "http", LocalPort: 80, Protocol: api.TCP}})),
		ip("10.127.0.3"): NewPod(DefaultDomain, "other", nil),
	})
	return t
}

// listen makes a server on loopback.
func listen(t testing.TB, c Config) *Server {
	t.Helper()
	if c.Listen == nil {
		c.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	}
	s, err := New(c)
	for i := 0; err != nil && i < 5; i++ { // a free port of UDP may be taken for TCP
		s, err = New(c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serve runs a server on loopback until the test ends.
func serve(t testing.TB, c Config) netip.AddrPort {
	t.Helper()
	s := listen(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s.Addrs()[0]
}

// lines gives every name of the zone, sorted.
func (z *Zone) lines() []string {
	out := make([]string, 0, len(z.nodes))
	for n, node := range z.nodes {
		line := fmt.Sprintf("%s project=%q", n, node.project)
		for _, a := range node.addrs {
			line += " " + a.String()
		}
		for _, t := range node.targets {
			line += fmt.Sprintf(" srv=%s:%d@%s", t.name, t.port, t.addr)
		}
		if node.text != "" {
			line += " ptr=" + node.text
		}
		if len(node.about) > 0 {
			line += fmt.Sprintf(" txt=%q", node.about)
		}
		for _, s := range node.servers {
			line += " ns=" + s.name
		}
		if node.outside {
			line += " outside"
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

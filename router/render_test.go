package router_test

import (
	"net/netip"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/golden"
	"gearmesh.dev/router"
)

// settings listen on a fixed address.
func settings() router.Settings {
	return router.Settings{Bind: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:80"), netip.MustParseAddrPort("[::]:80")}, Domain: "apps.example.com", Spares: 2}
}

// shop is a small cluster: two hosts, four services, aliases.
func shop() api.Directory {
	return api.Directory{
		Services: []api.ServiceEntry{
			{Project: "shop", Name: "web", Ports: []api.Port{{Name: "http", Port: 8080, Protocol: api.TCP}, {Name: "admin", Port: 9090, Protocol: api.TCP}}},
			{Project: "shop", Name: "syslog", Ports: []api.Port{{Name: "main", Port: 514, Protocol: api.UDP}}},
			{Project: "blog", Name: "web", Ports: []api.Port{{Name: "main", Port: 80, Protocol: api.TCP}}},
			{Project: "blog", Name: "worker"},
		},
		Hosts: []api.HostEntry{{Name: "h1", Address: addr("10.0.0.1")}, {Name: "h2", Address: addr("fd00::2")}},
		Aliases: []api.AliasEntry{
			{Host: "shop.example.com", Project: "shop", Service: "web", Port: "http"},
			{Host: "admin.example.com", Project: "shop", Service: "web", Port: "admin"},
		},
		Endpoints: []api.HostEndpoints{
			{Host: "h1", Seq: 1, Endpoints: []api.Endpoint{
				endpoint("shop", "web", "http", "10.0.0.1:20001"),
				endpoint("blog", "web", "main", "10.0.0.1:20002"),
				{Project: "blog", Service: "web", Port: "main", Protocol: api.TCP, Address: netip.MustParseAddrPort("10.0.0.1:20003")},
			}},
			{Host: "h2", Seq: 1, Endpoints: []api.Endpoint{endpoint("shop", "web", "http", "[fd00::2]:20000")}},
		},
	}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func endpoint(project, service, port api.Name, at string) api.Endpoint {
	return api.Endpoint{Project: project, Service: service, Pod: service + "-1", Port: port, Protocol: api.TCP,
		Address: netip.MustParseAddrPort(at), Ready: true}
}

func TestRenderGolden(t *testing.T) {
	c := router.Render(shop(), settings())
	golden.Equal(t, "shop.cfg", c.File())
	golden.Equal(t, "shop.map", c.Map())
	if len(c.Skipped) > 0 {
		t.Errorf("left out: %q", c.Skipped)
	}
}

func TestRenderDoesNotDependOnOrder(t *testing.T) {
	d := shop()
	want := router.Render(d, settings())
	for _, list := range []func(i, j int){
		func(i, j int) { d.Services[i], d.Services[j] = d.Services[j], d.Services[i] },
		func(i, j int) { d.Aliases[i], d.Aliases[j] = d.Aliases[j], d.Aliases[i] },
		func(i, j int) { d.Endpoints[i], d.Endpoints[j] = d.Endpoints[j], d.Endpoints[i] },
	} {
		list(0, 1)
	}
	got := router.Render(d, settings())
	if string(got.File()) != string(want.File()) || string(got.Map()) != string(want.Map()) {
		t.Errorf("another order of the directory gives another configuration")
	}
}

// TestRenderHostile gives values that would become directives if they were printed.
func TestRenderHostile(t *testing.T) {
	clean := router.Render(shop(), settings())
	tests := map[string]func(*api.Directory){
		"alias with a directive": func(d *api.Directory) {
			d.Aliases = append(d.Aliases, api.AliasEntry{Host: "x.example.com\nevil be_shop.web.http", Project: "shop", Service: "web", Port: "http"})
		},
		"alias with a blank": func(d *api.Directory) {
			d.Aliases = append(d.Aliases, api.AliasEntry{Host: "x.example.com be_blog.web.main", Project: "shop", Service: "web", Port: "http"})
		},
		"alias to a port with a directive": func(d *api.Directory) {
			d.Aliases = append(d.Aliases, api.AliasEntry{Host: "x.example.com", Project: "shop", Service: "web", Port: "http\n stats enable"})
		},
		"service with a directive": func(d *api.Directory) {
			d.Services = append(d.Services, api.ServiceEntry{Project: "shop", Name: "a\n  stats enable", Ports: []api.Port{{Name: "http", Protocol: api.TCP}}})
		},
		"environment": func(d *api.Directory) {
			d.Services = append(d.Services, api.ServiceEntry{Project: "${HOME}", Name: "web", Ports: []api.Port{{Name: "http", Protocol: api.TCP}}})
		},
		"zone with a directive": func(d *api.Directory) {
			at := netip.AddrPortFrom(addr("fd00::2").WithZone("x\n  server evil 192.0.2.1:80"), 80)
			d.Hosts[1].Address = at.Addr()
			e := endpoint("shop", "web", "http", "[::1]:1")
			e.Address = at
			d.Endpoints[1].Endpoints = append(d.Endpoints[1].Endpoints, e)
			d.Hosts[1].Address = addr("fd00::2")
		},
		"endpoint of another host": func(d *api.Directory) {
			d.Endpoints[1].Endpoints = append(d.Endpoints[1].Endpoints, endpoint("shop", "web", "http", "169.254.169.254:80"))
		},
		"endpoint of a host that is not there": func(d *api.Directory) {
			d.Endpoints = append(d.Endpoints, api.HostEndpoints{Host: "h9", Endpoints: []api.Endpoint{endpoint("shop", "web", "http", "10.0.0.1:9")}})
		},
		"no address": func(d *api.Directory) {
			d.Endpoints[1].Endpoints = append(d.Endpoints[1].Endpoints, api.Endpoint{Project: "shop", Service: "web", Port: "http", Protocol: api.TCP, Ready: true})
		},
		"alias to a UDP port": func(d *api.Directory) {
			d.Aliases = append(d.Aliases, api.AliasEntry{Host: "log.example.com", Project: "shop", Service: "syslog", Port: "main"})
		},
		"alias to nothing": func(d *api.Directory) {
			d.Aliases = append(d.Aliases, api.AliasEntry{Host: "none.example.com", Project: "shop", Service: "none", Port: "main"})
		},
		"alias that is taken": func(d *api.Directory) {
			d.Aliases = append(d.Aliases, api.AliasEntry{Host: "shop.example.com", Project: "shop", Service: "web", Port: "http"})
		},
		"alias that takes another service's own name": func(d *api.Directory) {
			d.Aliases = append(d.Aliases, api.AliasEntry{Host: "web-blog.apps.example.com", Project: "shop", Service: "web", Port: "http"})
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			d := shop()
			spoil(&d)
			got := router.Render(d, settings())
			if string(got.File()) != string(clean.File()) || string(got.Map()) != string(clean.Map()) {
				t.Errorf("the bad part changed the configuration:\n%s%s", got.File(), got.Map())
			}
			if len(got.Skipped) != 1 {
				t.Errorf("left out: %q; want one line", got.Skipped)
			}
		})
	}
}

func TestRenderClashingDefaultNames(t *testing.T) {
	port := []api.Port{{Name: "main", Port: 80, Protocol: api.TCP}}
	d := api.Directory{
		Services: []api.ServiceEntry{{Project: "c", Name: "a-b", Ports: port}, {Project: "b-c", Name: "a", Ports: port}},
		Aliases:  []api.AliasEntry{{Host: "a-b-c.apps.example.com", Project: "c", Service: "a-b", Port: "main"}},
	}
	c := router.Render(d, settings())
	if len(c.Hosts) != 0 || len(c.Skipped) != 2 {
		t.Errorf("hosts %v, left out %q; want that neither service has the name", c.Hosts, c.Skipped)
	}
}

func TestSlotsLeaveRoom(t *testing.T) {
	for n, want := range map[int]int{0: 8, 1: 8, 4: 8, 5: 16, 8: 16, 9: 32} {
		d := shop()
		d.Endpoints = []api.HostEndpoints{{Host: "h1"}}
		for i := range n {
			e := endpoint("shop", "web", "http", "10.0.0.1:1")
			e.Address = netip.AddrPortFrom(addr("10.0.0.1"), uint16(20000+i))
			d.Endpoints[0].Endpoints = append(d.Endpoints[0].Endpoints, e)
		}
		for _, b := range router.Render(d, settings()).Backends {
			if b.ID == "be_shop.web.http" && len(b.Slots) != want {
				t.Errorf("%d endpoints have %d slots, want %d", n, len(b.Slots), want)
			}
		}
	}
}

func TestSettingsValidate(t *testing.T) {
	ok := settings().Default()
	if err := ok.Validate(); err != nil {
		t.Fatal(err)
	}
	bad := map[string]func(*router.Settings){
		"listen on":      func(s *router.Settings) { s.Bind = nil },
		"cannot listen":  func(s *router.Settings) { s.Bind = []netip.AddrPort{{}} },
		"directory":      func(s *router.Settings) { s.Dir = "/var/lib/a b" },
		"absolute path":  func(s *router.Settings) { s.Socket = "x.sock" },
		"user":           func(s *router.Settings) { s.User = "a\nb" },
		"${HOME}":        func(s *router.Settings) { s.Chroot = "/${HOME}" },
		"host name":      func(s *router.Settings) { s.Domain = "A_b" },
		"and spares":     func(s *router.Settings) { s.Spares = -1 },
		"cannot be nega": func(s *router.Settings) { s.MinSlots = -1 },
	}
	for want, spoil := range bad {
		s := ok
		spoil(&s)
		if err := s.Validate(); err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(want)) {
			t.Errorf("%q: got %v", want, err)
		}
	}
}

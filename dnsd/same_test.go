package dnsd

import (
	"net/netip"
	"slices"
	"testing"

	"gearmesh.dev/api"
)

// A zone that says the same stays, with its serial and what is packed; every change of it is seen.
func TestSetZoneTakesOnlyChanges(t *testing.T) {
	table := NewTable(podNet)
	serial := func() uint32 { return table.View(ip("127.0.0.1")).Zone.serial }
	set := func(d api.Directory, o Options) { table.SetZone(NewZone(d, o), d.Hosts) }
	set(shop(), Options{PodNet: podNet, Serial: 100})
	first := table.View(ip("127.0.0.1")).Zone
	set(shop(), Options{PodNet: podNet, Serial: 200})
	if serial() != 100 || table.View(ip("127.0.0.1")).Zone != first {
		t.Error("an equal zone is taken")
	}
	last := uint32(100)
	for what, change := range map[string]func(*api.Directory, *Options){
		"a host":            func(d *api.Directory, _ *Options) { d.Hosts = d.Hosts[:2] },
		"a host's address":  func(d *api.Directory, _ *Options) { d.Hosts[0].Address = ip("192.0.2.50") },
		"a zone label":      func(d *api.Directory, o *Options) { d.Hosts[1].Zone = "b" },
		"nearness":          func(d *api.Directory, o *Options) { o.Host = "n2" },
		"a service":         func(d *api.Directory, _ *Options) { d.Services = slices.Delete(d.Services, 2, 3) },
		"a port":            func(d *api.Directory, _ *Options) { d.Services[0].Ports[0].Port = 81 },
		"an alias":          func(d *api.Directory, _ *Options) { d.Aliases = d.Aliases[1:] },
		"a refused alias":   func(d *api.Directory, _ *Options) { d.Aliases = d.Aliases[:9] },
		"a router":          func(d *api.Directory, _ *Options) { d.Hosts[0].Router = false },
		"readiness":         func(d *api.Directory, _ *Options) { d.Endpoints[0].Endpoints[0].Ready = false },
		"a host down":       func(_ *api.Directory, o *Options) { o.Down = func(n api.Name) bool { return n == "n1" } },
		"the pods' network": func(_ *api.Directory, o *Options) { o.PodNet = netip.MustParsePrefix("10.9.0.0/16") },
	} {
		d, o := shop(), Options{PodNet: podNet, Serial: 5}
		change(&d, &o)
		if set(d, o); serial() != last+1 {
			t.Errorf("%s: serial %d after %d", what, serial(), last)
		}
		if m, _ := say(t, table.View(ip("127.0.0.1")), "gear.internal.", "SOA"); len(m.Answer) != 1 {
			t.Error("no SOA")
		}
		last = serial()
		set(shop(), Options{PodNet: podNet, Serial: 5})
		last++
	}
	z := NewZone(shop(), Options{Serial: 1<<32 - 5}).after(1<<32 - 1)
	if z.serial != 1 { // 0 is skipped; it counts around (RFC 1982)
		t.Errorf("after the highest serial comes %d", z.serial)
	}
}

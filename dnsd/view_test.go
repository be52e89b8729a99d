package dnsd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/golden"
)

// say asks a view, and reads the answer as an asker does.
func say(t testing.TB, v View, name, qtype string) (*dns.Msg, verdict) {
	t.Helper()
	a, is := v.answer([]byte(lower(name)), dns.StringToType[qtype])
	if a == nil {
		return nil, is
	}
	raw, err := new(dns.Msg).SetQuestion(name, dns.StringToType[qtype]).Pack()
	var q question
	if err != nil || q.read(raw) != dns.RcodeSuccess {
		t.Fatalf("%s %s is no question: %v", name, qtype, err)
	}
	var m dns.Msg
	if err := m.Unpack(q.write(nil, a, maxMessage, true, nil, time.Time{})); err != nil {
		t.Fatalf("%s %s: %v", name, qtype, err)
	}
	return &m, is
}

// look gives the answer of a view in short: data, "nodata", "missing", "foreign".
func look(t testing.TB, v View, name, qtype string) string {
	t.Helper()
	m, is := say(t, v, name, qtype)
	switch is {
	case missing:
		return "missing " + m.Ns[0].Header().Name
	case foreign:
		return "foreign"
	case unready:
		return "unready"
	}
	var out []string
	for _, rr := range m.Answer {
		data := strings.TrimPrefix(rr.String(), rr.Header().String())
		out = append(out, data)
	}
	if len(out) == 0 {
		return "nodata " + m.Ns[0].Header().Name
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func TestViews(t *testing.T) {
	src := table()
	const out, pod, other, stranger, unknown = "192.0.2.1", "10.127.0.2", "10.127.0.3", "203.0.113.9", "10.127.9.9"
	for _, c := range []struct{ asker, name, qtype, want string }{
		{out, "web.shop.gear.internal.", "A", "192.0.2.1, 192.0.2.2"},
		{out, "web.shop.gear.internal.", "AAAA", "2001:db8::3"},
		{out, "db.shop.gear.internal.", "AAAA", "nodata gear.internal."},
		{out, "WEB.Shop.GEAR.internal.", "A", "192.0.2.1, 192.0.2.2"},
		{stranger, "web.other.gear.internal.", "A", "192.0.2.2"},
		{out, "idle.shop.gear.internal.", "A", "nodata gear.internal."},
		{out, "idle.shop.gear.internal.", "SRV", "nodata gear.internal."},
		{out, "nope.shop.gear.internal.", "A", "missing gear.internal."},
		{out, "x.web.shop.gear.internal.", "A", "missing gear.internal."},
		{out, "shop.gear.internal.", "A", "nodata gear.internal."},
		{out, "_tcp.web.shop.gear.internal.", "SRV", "nodata gear.internal."},
		{out, "_http._tcp.web.shop.gear.internal.", "SRV", "10 10 20001 web-a.pod.shop.gear.internal., 10 10 20001 web-b.pod.shop.gear.internal., 10 10 20001 web-d.pod.shop.gear.internal."},
		{out, "_metrics._tcp.web.shop.gear.internal.", "SRV", "10 10 20002 web-a.pod.shop.gear.internal."},
		{out, "_http._udp.web.shop.gear.internal.", "SRV", "missing gear.internal."},
		{out, "db.shop.gear.internal.", "SRV", "10 10 20003 db-a.pod.shop.gear.internal."},
		{out, "web-c.pod.shop.gear.internal.", "A", "192.0.2.2"},
		{out, "web-c.pod.shop.gear.internal.", "SRV", "nodata gear.internal."},
		{out, "n2.host.gear.internal.", "A", "192.0.2.2"},
		{out, "n1.host.gear.internal.", "A", "192.0.2.1"}, // not the service n1 of the project called host
		{out, "n3.host.gear.internal.", "A", "nodata gear.internal."},
		{out, "1.2.0.192.in-addr.arpa.", "PTR", "n1.host.gear.internal."},
		{out, "9.2.0.192.in-addr.arpa.", "PTR", "foreign"},
		{out, "5.0.127.10.in-addr.arpa.", "PTR", "missing 127.10.in-addr.arpa."},
		{out, "1.0.1.127.in-addr.arpa.", "PTR", "missing 127.in-addr.arpa."},
		{out, "gear.internal.", "SOA", "n1.host.gear.internal. hostmaster.gear.internal. 1 60 10 3600 5"},
		{out, "gear.internal.", "NS", "n1.host.gear.internal., n2.host.gear.internal., n3.host.gear.internal."},
		{out, "gear.internal.", "A", "nodata gear.internal."},
		{out, "web.shop.gear.internal.", "ANY", `"RFC8482" ""`},
		{out, "xgear.internal.", "A", "foreign"},
		{out, "example.com.", "A", "foreign"},
		{out, ".", "NS", "foreign"},
		{out, "localhost.", "A", "127.0.0.1"},
		// aliases
		{out, "shop.example.com.", "A", "192.0.2.1, 192.0.2.2"},
		{out, "shop.example.com.", "AAAA", "nodata shop.example.com."},
		{out, "shop.example.com.", "HTTPS", "nodata shop.example.com."},
		{out, "shop.example.com.", "MX", "foreign"},
		{out, "x.shop.example.com.", "A", "foreign"},
		{out, "www.other.example.", "A", "192.0.2.1, 192.0.2.2"},
		{pod, "shop.example.com.", "A", "192.0.2.1, 192.0.2.2"},
		{pod, "www.other.example.", "A", "foreign"}, // another project's: the world's DNS tells
		{other, "shop.example.com.", "A", "foreign"},
		{other, "front.gear.internal.", "A", "192.0.2.1, 192.0.2.2"},
		{pod, "www.shop.gear.internal.", "A", "192.0.2.1, 192.0.2.2"},
		{other, "www.shop.gear.internal.", "A", "missing gear.internal."},
		{pod, "mail.shop.gear.internal.", "A", "missing gear.internal."}, // other may not put a name into shop
		{out, "host.gear.internal.", "A", "nodata gear.internal."},
		// pods
		{pod, "db.shop.gear.internal.", "A", "127.1.0.1"},
		{pod, "DB.shop.gear.internal.", "SRV", "10 10 5432 db.shop.gear.internal."},
		{pod, "_pg._tcp.db.shop.gear.internal.", "SRV", "10 10 5432 db.shop.gear.internal."},
		{pod, "later.shop.gear.internal.", "A", "127.1.0.2"},
		{pod, "_http._tcp.later.shop.gear.internal.", "SRV", "10 10 80 later.shop.gear.internal."},
		{pod, "_tcp.later.shop.gear.internal.", "A", "nodata gear.internal."},
		{pod, "web.shop.gear.internal.", "A", "192.0.2.1, 192.0.2.2"},
		{pod, "n1.host.gear.internal.", "A", "192.0.2.1"},
		{pod, "web.other.gear.internal.", "A", "missing gear.internal."},
		{pod, "other.gear.internal.", "A", "missing gear.internal."},
		{pod, "never.gear.internal.", "A", "missing gear.internal."},
		{pod, "web-z.pod.other.gear.internal.", "A", "missing gear.internal."},
		{other, "db.shop.gear.internal.", "A", "missing gear.internal."},
		{other, "later.shop.gear.internal.", "A", "missing gear.internal."},
		{other, "shop.gear.internal.", "A", "missing gear.internal."},
		{other, "web.other.gear.internal.", "A", "192.0.2.2"},
		{unknown, "web.shop.gear.internal.", "A", "missing gear.internal."},
		{unknown, "n1.host.gear.internal.", "A", "192.0.2.1"},
		{"10.127.0.1", "web.other.gear.internal.", "A", "192.0.2.2"}, // the host itself
		{"::ffff:10.127.0.2", "web.other.gear.internal.", "A", "missing gear.internal."},
	} {
		if got := look(t, src.View(ip(c.asker)), c.name, c.qtype); got != c.want {
			t.Errorf("%s asks %s %s:\n got %s\nwant %s", c.asker, c.name, c.qtype, got, c.want)
		}
	}
}

// TestAPodIsWhereItIsReady: when two hosts say that they have a pod, as one that is cut off does after its pod was started
// elsewhere, the one where it is ready has it.
func TestAPodIsWhereItIsReady(t *testing.T) {
	said := func(host api.Name, at string, ready bool) api.HostEndpoints {
		return api.HostEndpoints{Host: host, Endpoints: []api.Endpoint{{Project: "shop", Service: "db", Pod: "db-0", Port: "main", Address: netip.MustParseAddrPort(at), Ready: ready}}}
	}
	for _, c := range []struct {
		first, second bool
		want          string
	}{{false, true, "192.0.2.2"}, {true, false, "192.0.2.1"}, {false, false, "192.0.2.1, 192.0.2.2"}} {
		d := api.Directory{Endpoints: []api.HostEndpoints{said("n1", "192.0.2.1:20000", c.first), said("n2", "192.0.2.2:20000", c.second)}}
		if got := look(t, View{Zone: NewZone(d, Options{PodNet: podNet})}, "db-0.pod.shop.gear.internal.", "A"); got != c.want {
			t.Errorf("ready there: %v, %v: %s, want %s", c.first, c.second, got, c.want)
		}
	}
}

// A link's own name is the link in its pod, also when a service has it; the service behind the link is, too.
func TestALinkByAName(t *testing.T) {
	d := api.Directory{Services: []api.ServiceEntry{{Project: "shop", Name: "db", Ports: []api.Port{{Name: "sql", Port: 1}}}, {Project: "shop", Name: "green", Ports: []api.Port{{Name: "sql", Port: 1}}}},
		Endpoints: []api.HostEndpoints{{Host: "n1", Endpoints: []api.Endpoint{{Project: "shop", Service: "db", Pod: "db-0", Port: "sql", Address: netip.MustParseAddrPort("192.0.2.1:20000"), Ready: true}}}}}
	pod := NewPod(DefaultDomain, "shop", d.Resolver("n1").Targets("shop", "pod", []api.Link{
		{Name: "store", Service: "green", LocalPort: 5432, Protocol: api.TCP}, {Name: "db", Service: "green", LocalPort: 5433, Protocol: api.TCP}}))
	v := View{Zone: NewZone(d, Options{PodNet: podNet}), Pod: &pod}
	for name, want := range map[string]string{"store": "127.1.0.1", "db": "127.1.0.2", "green": "127.1.0.2"} {
		if got := look(t, v, name+".shop.gear.internal.", "A"); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestWhoMayRecurse(t *testing.T) {
	src := table()
	for asker, want := range map[string]bool{"127.0.0.1": true, "::1": true, "192.0.2.2": true, "2001:db8::3": true,
		"10.127.0.2": true, "10.127.200.9": true, "10.127.0.1": true, "203.0.113.1": false, "10.128.0.1": false, "192.0.2.9": false} {
		if got := src.View(ip(asker)).Recurse; got != want {
			t.Errorf("%s: %v", asker, got)
		}
	}
}

func TestDownHostsAndRouters(t *testing.T) {
	d := shop()
	down := map[api.Name]bool{"n1": true}
	v := View{Zone: NewZone(d, Options{Down: func(n api.Name) bool { return down[n] }})}
	for name, want := range map[string]string{
		"web.shop.gear.internal.": "192.0.2.2", "db.shop.gear.internal.": "nodata gear.internal.",
		"shop.example.com.": "192.0.2.2", "n1.host.gear.internal.": "192.0.2.1"} {
		if got := look(t, v, name, "A"); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	down["n2"] = true
	v = View{Zone: NewZone(d, Options{Down: func(n api.Name) bool { return down[n] }})}
	if got := look(t, v, "shop.example.com.", "A"); got != "foreign" {
		t.Errorf("an alias without routers: %s", got)
	}
	if got := look(t, v, "front.gear.internal.", "A"); got != "nodata gear.internal." {
		t.Errorf("an alias of ours without routers: %s", got)
	}
}

// TestAliasIPv6 holds that an alias leads to a router's IPv6 address as to its IPv4 address.
func TestAliasIPv6(t *testing.T) {
	d := shop()
	d.Hosts[0].IPv6 = netip.MustParseAddr("2001:db8::1")
	v := View{Zone: NewZone(d, Options{PodNet: podNet})}
	for _, c := range []struct{ qtype, want string }{{"A", "192.0.2.1, 192.0.2.2"}, {"AAAA", "2001:db8::1"}} {
		if got := look(t, v, "shop.example.com.", c.qtype); got != c.want {
			t.Errorf("%s: %s, want %s", c.qtype, got, c.want)
		}
	}
}

func TestZoneGolden(t *testing.T) {
	z := NewZone(shop(), Options{PodNet: podNet})
	text := strings.Join(z.lines(), "\n") + "\n"
	for _, a := range z.Refused() {
		text += fmt.Sprintf("refused %s of project %s\n", a.Host, a.Project)
	}
	golden.Equal(t, "zone.txt", []byte(text))
}

func TestEmptyZone(t *testing.T) {
	v := View{Zone: NewZone(api.Directory{}, Options{Domain: "cluster.test"})}
	for q, want := range map[string]string{"cluster.test. NS": "nodata cluster.test.", "a.b.cluster.test. A": "missing cluster.test.",
		"cluster.test. SOA": "cluster.test. hostmaster.cluster.test. 1 60 10 3600 5"} {
		name, qtype, _ := strings.Cut(q, " ")
		if got := look(t, v, name, qtype); got != want {
			t.Errorf("%s: %s", q, got)
		}
	}
	if got := look(t, View{}, "a.", "A"); got != "unready" {
		t.Error(got)
	}
	if NewTable(podNet).View(ip("10.127.0.9")).Zone != nil {
		t.Error("a table has a zone before it was given one")
	}
}

func TestReverseZone(t *testing.T) {
	for net, want := range map[string]string{"10.127.0.0/16": "127.10.in-addr.arpa.", "10.0.0.0/8": "10.in-addr.arpa.",
		"10.1.2.0/24": "2.1.10.in-addr.arpa.", "10.1.2.0/23": "", "0.0.0.0/0": ""} {
		if got := reverseZone(netip.MustParsePrefix(net)); got != want {
			t.Errorf("%s: %q", net, got)
		}
	}
}

// FuzzZone feeds any name through the builder and asks for it: nothing may panic, no address of
// another project may come out.
func FuzzZone(f *testing.F) {
	f.Add("web", "shop", "shop.example.com")
	f.Add("*", "..", ".")
	f.Add("a\\.b", "gear", "gear.internal")
	f.Add("n1", "host", "x.host.gear.internal")
	f.Fuzz(func(t *testing.T, name, project, alias string) {
		d := shop()
		d.Services = append(d.Services, api.ServiceEntry{Project: api.Name(project), Name: api.Name(name), Ports: []api.Port{{Name: api.Name(alias)}}})
		d.Hosts = append(d.Hosts, api.HostEntry{Name: api.Name(name), Address: ip("192.0.2.77")})
		d.Aliases = append(d.Aliases, api.AliasEntry{Host: api.Hostname(alias), Project: api.Name(project)})
		d.Endpoints = append(d.Endpoints, api.HostEndpoints{Endpoints: []api.Endpoint{{Project: api.Name(project), Service: api.Name(name),
			Pod: api.Name(alias), Port: "p", Address: netip.MustParseAddrPort("192.0.2.66:1"), Ready: true}}})
		z := NewZone(d, Options{PodNet: podNet})
		for n := range z.nodes {
			if n != strings.ToLower(n) || !strings.HasSuffix(n, ".") {
				t.Fatalf("name %q", n)
			}
		}
		v := View{Zone: z, Pod: &Pod{Project: "third"}}
		for _, q := range []string{name, project, alias, name + "." + project + ".gear.internal", alias + ".pod." + project + ".gear.internal"} {
			if _, err := new(dns.Msg).SetQuestion(q+".", dns.TypeA).Pack(); err != nil {
				continue // nobody can ask for it
			}
			if got := look(t, v, q+".", "A"); project != "third" && strings.Contains(got, "192.0.2.66") {
				t.Fatalf("%q: %s", q, got)
			}
		}
	})
}

// AAAA is for what is there: hosts that have IPv6, and endpoints whose program listens there.
func TestIPv6OfEndpoints(t *testing.T) {
	d := shop()
	d.Hosts[0].IPv6, d.Hosts[1].IPv6 = ip("2001:db8::1"), ip("2001:db8::2")
	d.Hosts[0].Zone, d.Hosts[1].Zone = "a", "b"
	d.Endpoints[0].Endpoints[0].IPv6 = true // web-a's http
	src := NewTable(podNet)
	src.SetZone(NewZone(d, Options{PodNet: podNet, Host: "n1"}), d.Hosts)
	for _, c := range []struct{ name, qtype, want string }{
		{"web.shop.gear.internal.", "AAAA", "2001:db8::1, 2001:db8::3"},
		{"web.shop.gear.internal.", "A", "192.0.2.1, 192.0.2.2"},
		{"nearest.web.shop.gear.internal.", "AAAA", "2001:db8::1"},
		{"_http._tcp.web.shop.gear.internal.", "AAAA", "2001:db8::1, 2001:db8::3"},
		{"_metrics._tcp.web.shop.gear.internal.", "AAAA", "nodata gear.internal."},
		{"web-a.pod.shop.gear.internal.", "AAAA", "2001:db8::1"},
		{"web-b.pod.shop.gear.internal.", "AAAA", "nodata gear.internal."},
		{"db.shop.gear.internal.", "AAAA", "nodata gear.internal."},
		{"_http._tcp.web.shop.gear.internal.", "SRV", "10 10 20001 web-a.pod.shop.gear.internal., 10 10 20001 web-b.pod.shop.gear.internal., 10 10 20001 web-d.pod.shop.gear.internal."},
		{"n2.host.gear.internal.", "AAAA", "2001:db8::2"},
		{"n2.host.gear.internal.", "A", "192.0.2.2"},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.", "PTR", "n2.host.gear.internal."},
	} {
		if got := look(t, src.View(ip("192.0.2.1")), c.name, c.qtype); got != c.want {
			t.Errorf("%s %s:\n got %s\nwant %s", c.name, c.qtype, got, c.want)
		}
	}
}

package dnsd

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/api"
)

// To a pod, every name of another project is what a name is that nobody has: byte for byte, for every type.
func TestNamesOfOtherProjectsLookMissing(t *testing.T) {
	src := table()
	s := noSockets(t, Config{Source: src})
	all, checked := src.View(ip("127.0.0.1")).Zone, 0
	for _, asker := range []string{"10.127.0.2", "10.127.0.3", "10.127.9.9"} {
		v := src.View(ip(asker))
		for name, n := range all.nodes {
			if n.project == "" || n.project == v.Pod.Project || n.outside || v.Pod.links[name] != nil {
				continue
			}
			first, rest, _ := strings.Cut(name, ".")
			nobody := strings.Repeat("z", len(first)) + "." + rest // as long, and there is none
			for _, qtype := range types {
				for _, prefix := range []string{"", "nearest.", "_x._tcp."} {
					reply := func(name string) []byte {
						raw := query(t, prefix+name, qtype, 1232)
						out, how := s.newWorker(false).respond(nil, raw, ip(asker), time.Now())
						if how != replied {
							t.Fatalf("%s: outcome %d", name, how)
						}
						return bytes.Replace(out, raw[headerLen:len(raw)-optLen], nil, 1)[2:] // without id and question
					}
					if got, want := reply(name), reply(nobody); !bytes.Equal(got, want) {
						t.Fatalf("%s asks %s%s %d: %x, for %s %x", asker, prefix, name, qtype, got, nobody, want)
					}
					checked++
				}
			}
		}
	}
	if checked < 500 {
		t.Errorf("only %d questions", checked)
	}
}

// Links to other projects, several ports of one service, and links that the project gives: each name leads to the
// link's own address, and says the link's ports.
func TestNamesOfLinks(t *testing.T) {
	d := shop()
	d.Services[3].Offers = []api.Name{"shop"}               // other/web
	d.Services[1].Linked, d.Services[2].Linked = true, true // shop/db, shop/idle
	links := []api.Link{
		{Service: "web", Project: "other", Port: "http", LocalPort: 8081, Protocol: api.TCP},
		{Service: "web", Port: "http", LocalPort: 8080, Protocol: api.TCP}, {Service: "web", Port: "metrics", LocalPort: 9090, Protocol: api.TCP},
		{Service: "secret", Project: "other", LocalPort: 99, Protocol: api.TCP},
	}
	table := NewTable(podNet)
	table.SetZone(NewZone(d, Options{PodNet: podNet}), d.Hosts)
	pod := NewPod(DefaultDomain, "shop", d.Resolver("n1").Targets("shop", "pod", links))
	v := View{Zone: table.View(ip("127.0.0.1")).Zone, Pod: &pod}
	given := pod.links["db.shop.gear.internal."].addrs[0]
	if !strings.HasPrefix(given.String(), "127.64.") && given.As4()[1] < 64 {
		t.Errorf("a given link has %s", given)
	}
	for _, c := range []struct{ name, qtype, want string }{
		{"web.other.gear.internal.", "A", "127.1.0.1"},
		{"web.other.gear.internal.", "SRV", "10 10 8081 web.other.gear.internal."},
		{"_http._tcp.web.other.gear.internal.", "SRV", "10 10 8081 web.other.gear.internal."},
		{"web.shop.gear.internal.", "A", "127.1.0.2"},
		{"web.shop.gear.internal.", "AAAA", "nodata gear.internal."},
		{"web.shop.gear.internal.", "SRV", "10 10 8080 web.shop.gear.internal., 10 10 9090 web.shop.gear.internal."},
		{"_metrics._tcp.web.shop.gear.internal.", "SRV", "10 10 9090 web.shop.gear.internal."},
		{"nearest.web.shop.gear.internal.", "A", "127.1.0.2"},
		{"_http._tcp.nearest.web.shop.gear.internal.", "SRV", "30 10 8080 web.shop.gear.internal."},
		{"secret.other.gear.internal.", "A", "127.1.0.3"}, // neither offered nor there: looks as one that is
		{"db.shop.gear.internal.", "A", given.String()},
		{"_pg._tcp.db.shop.gear.internal.", "SRV", "10 10 80 db.shop.gear.internal."},
		{"idle.shop.gear.internal.", "SRV", "10 10 80 idle.shop.gear.internal."},
		{"web-z.pod.other.gear.internal.", "A", "missing gear.internal."},
		{"web-a.pod.shop.gear.internal.", "A", "192.0.2.1"},
		{"hidden.other.gear.internal.", "A", "missing gear.internal."},
	} {
		if got := look(t, v, c.name, c.qtype); got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.name, c.qtype, got, c.want)
		}
	}
}

// The nearest of a service: this host's, else those of its zone, else all.
func TestNearest(t *testing.T) {
	d := shop()
	d.Hosts[0].Zone, d.Hosts[1].Zone = "a", "a"
	d.Hosts[2].Address = ip("192.0.2.3")
	d.Endpoints[2].Endpoints[0].Address = api.Endpoint{}.Address
	d.Hosts = append(d.Hosts, api.HostEntry{Name: "n4", Address: ip("192.0.2.4"), Zone: "a"}, api.HostEntry{Name: "n5", Address: ip("192.0.2.5"), Zone: "b"})
	for host, want := range map[api.Name]string{"n1": "192.0.2.1", "n2": "192.0.2.2", "n4": "192.0.2.1, 192.0.2.2", "n5": "192.0.2.1, 192.0.2.2", "": "192.0.2.1, 192.0.2.2", "gone": "192.0.2.1, 192.0.2.2"} {
		v := View{Zone: NewZone(d, Options{Host: host})}
		if got := look(t, v, "nearest.web.shop.gear.internal.", "A"); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
		if got := look(t, v, "web.shop.gear.internal.", "A"); got != "192.0.2.1, 192.0.2.2" {
			t.Errorf("%s: all are %s", host, got)
		}
	}
	v := View{Zone: NewZone(d, Options{Host: "n1"})}
	for name, want := range map[string]string{
		"_http._tcp.nearest.web.shop.gear.internal.":   "10 10 20001 web-a.pod.shop.gear.internal., 20 10 20001 web-b.pod.shop.gear.internal.",
		"nearest._http._tcp.web.shop.gear.internal.":   "missing gear.internal.",
		"_http.nearest._tcp.web.shop.gear.internal.":   "missing gear.internal.",
		"_http._tcp.x.nearest.web.shop.gear.internal.": "missing gear.internal.",
		"nearest.nearest.web.shop.gear.internal.":      "missing gear.internal.",
		"nearest.web-a.pod.shop.gear.internal.":        "missing gear.internal.",
		"nearest.n1.host.gear.internal.":               "missing gear.internal.",
		"nearest.gear.internal.":                       "missing gear.internal.", "nearest.": "foreign", "_http._tcp.nearest.": "foreign",
		"_http._tcp.web.shop.gear.internal.": "10 10 20001 web-a.pod.shop.gear.internal., 10 10 20001 web-b.pod.shop.gear.internal.",
	} {
		if got := look(t, v, name, "SRV"); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// A name of exactly 255 octets is answered; what would be longer is in no zone, and does no harm.
func TestLongestNames(t *testing.T) {
	domain := api.Hostname(strings.Repeat(strings.Repeat("d", 50)+".", 3) + strings.Repeat("e", 25))
	project := api.Name(strings.Repeat("q", 32))
	fits := api.Name(strings.Repeat("p", 254-len("..pod..")-len(project)-len(domain)))
	for pod, want := range map[api.Name]string{fits: "192.0.2.1", fits + "p": "missing " + string(domain) + "."} {
		d := api.Directory{Hosts: []api.HostEntry{{Name: "n1", Address: ip("192.0.2.1")}}, Endpoints: []api.HostEndpoints{{Host: "n1", Endpoints: []api.Endpoint{
			{Project: project, Service: "s", Pod: pod, Port: "http", Address: netip.MustParseAddrPort("192.0.2.1:20000"), Ready: true}}}}}
		v := View{Zone: NewZone(d, Options{Domain: domain})}
		name := string(pod) + ".pod." + string(project) + "." + string(domain) + "."
		if want == "192.0.2.1" && len(name) != 254 {
			t.Fatalf("%d octets", len(name)+1)
		}
		if _, ok := v.Zone.nodes[name]; ok != (want == "192.0.2.1") {
			t.Errorf("%d octets: in the zone: %v", len(name)+1, ok)
		}
		if len(name) > 254 {
			continue // nobody can ask for it
		}
		if got := look(t, v, name, "A"); got != want {
			t.Errorf("%d octets: %s, want %s", len(name)+1, got, want)
		}
	}
}

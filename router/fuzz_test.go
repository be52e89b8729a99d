package router_test

import (
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/atomicfile"
	"gearmesh.dev/router"
)

// FuzzRender puts one text into every field that others can write. The oracle is the plan: the
// sections and directives of haproxy.cfg are counted, the map has one well-formed line a host name, and runtime
// commands have their exact number of words. The text is in none of them unless it is a name.
func FuzzRender(f *testing.F) {
	for _, s := range []string{"web", "a\nb", "a b", "${HOME}", "x\r\nserver evil 192.0.2.1:80", "be_p.a.main", "\"", "#", "-f /etc/hostname",
		"*.example.com", "\x00", "a\\", "%[src]", "xn--bcher-kva.example.com", "A.EXAMPLE.com", "a;show info", "shop.example.com"} {
		f.Add(s, uint16(80))
	}
	f.Fuzz(func(t *testing.T, text string, port uint16) {
		c := router.Render(hostile(text, port), settings())
		checkFile(t, c)
		checkMap(t, c)
		for _, running := range []router.Config{emptied(c), onlySpares(c)} {
			for _, command := range router.Diff(running, c).Commands {
				checkCommand(t, command)
			}
		}
	})
}

// hostile is shop with a text in every field.
func hostile(text string, port uint16) api.Directory {
	d, n := shop(), api.Name(text)
	at := netip.AddrPortFrom(addr("fe80::1").WithZone(text), port)
	d.Services = append(d.Services,
		api.ServiceEntry{Project: n, Name: "web", Ports: []api.Port{{Name: "http", Port: port, Protocol: api.TCP}}},
		api.ServiceEntry{Project: "shop", Name: n, Ports: []api.Port{{Name: "http", Port: port}}},
		api.ServiceEntry{Project: "blog", Name: "ports", Ports: []api.Port{{Name: n, Port: port, Protocol: api.Protocol(text)}}})
	d.Hosts = append(d.Hosts, api.HostEntry{Name: n, Address: at.Addr()})
	d.Aliases = append(d.Aliases,
		api.AliasEntry{Host: api.Hostname(text), Project: "shop", Service: "web", Port: "http"},
		api.AliasEntry{Host: "p.example.com", Project: n, Service: "web", Port: "http"},
		api.AliasEntry{Host: "s.example.com", Project: "shop", Service: n, Port: "http"},
		api.AliasEntry{Host: "q.example.com", Project: "blog", Service: "ports", Port: n})
	for _, e := range []api.Endpoint{
		{Project: n, Service: "web", Port: "http"}, {Project: "shop", Service: n, Port: "http"}, {Project: "blog", Service: "ports", Port: n},
		{Project: "shop", Service: "web", Port: "http", Protocol: api.Protocol(text)},
	} {
		e.Pod, e.Ready, e.Address = n, true, at
		d.Endpoints = append(d.Endpoints, api.HostEndpoints{Host: n, Endpoints: []api.Endpoint{e}})
	}
	return d
}

// emptied is what runs before the endpoints and host names come.
func emptied(c router.Config) router.Config {
	out := c
	out.Hosts, out.Backends = nil, nil
	for _, b := range c.Backends {
		out.Backends = append(out.Backends, router.Backend{ID: b.ID, Slots: make([]netip.AddrPort, len(b.Slots))})
	}
	return out
}

// onlySpares is what runs before any of the services is there.
func onlySpares(c router.Config) router.Config {
	out := emptied(c)
	out.Backends = slices.DeleteFunc(out.Backends, func(b router.Backend) bool { return !strings.HasPrefix(b.ID, "spare_") })
	return out
}

func checkFile(t *testing.T, c router.Config) {
	text := string(c.File())
	rest, ok := strings.CutPrefix(text, c.Head)
	if clean := router.Render(shop(), settings()); !ok || c.Head != clean.Head {
		t.Fatalf("the head is not the one of the settings")
	}
	want := 0
	for _, b := range c.Backends {
		want += 1 + len(b.Slots)
	}
	got := 0
	for _, line := range strings.FieldsFunc(rest, func(r rune) bool { return r == '\n' || r == '\r' || r == 0 }) {
		got++
		w := strings.Split(strings.TrimPrefix(line, "    "), " ")
		switch {
		case w[0] == "backend" && len(w) == 2 && safe(w[1]):
		case w[0] == "server" && (len(w) == 3 || len(w) == 4 && w[3] == "disabled") && safe(w[1]):
			if a, err := netip.ParseAddrPort(w[2]); err != nil || a.Addr().Zone() != "" {
				t.Fatalf("server address: %q", line)
			}
		default:
			t.Fatalf("a line that nobody planned: %q", line)
		}
	}
	if got != want {
		t.Fatalf("%d directives, %d were planned:\n%s", got, want, rest)
	}
}

func safe(word string) bool {
	return word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

func checkMap(t *testing.T, c router.Config) {
	lines := strings.Split(strings.TrimSuffix(string(c.Map()), "\n"), "\n")
	if len(lines) != len(c.Hosts) || !utf8.Valid(c.Map()) {
		t.Fatalf("%d lines for %d host names:\n%s", len(lines), len(c.Hosts), c.Map())
	}
	for _, line := range lines {
		host, backend, _ := strings.Cut(line, " ")
		known := slices.ContainsFunc(c.Backends, func(b router.Backend) bool { return b.ID == backend })
		if api.Hostname(host).Validate() != nil || !known {
			t.Fatalf("map line %q", line)
		}
	}
}

func checkCommand(t *testing.T, command string) {
	w := strings.Split(command, " ")
	words := map[string]int{"set server addr": 7, "set server state": 5, "add map": 5, "set map": 5, "del map": 4}
	for kind, n := range words {
		k := strings.Fields(kind)
		if w[0] == k[0] && w[1] == k[1] && (len(k) == 2 || len(w) > 3 && w[3] == k[2]) && len(w) == n && !strings.ContainsAny(command, "\n\r;\x00\\") {
			return
		}
	}
	t.Fatalf("a command that nobody planned: %q", command)
}

// TestHAProxyAcceptsHostileDirectories lets the real parser read what the worst texts give.
func TestHAProxyAcceptsHostileDirectories(t *testing.T) {
	s := settings()
	s.Dir = t.TempDir()
	for _, text := range []string{"web", "a\nb", "${HOME}", "x\r\nserver evil 192.0.2.1:80", "be_p.a.main", "shop.example.com", "#"} {
		c := router.Render(hostile(text, 80), s)
		for path, data := range map[string][]byte{s.File(): c.File(), s.MapFile(): c.Map()} {
			if err := atomicfile.Write(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.Command("haproxy", "-c", "-f", filepath.Clean(s.File())).CombinedOutput(); err != nil {
			t.Errorf("%q: %v\n%s", text, err, out)
		}
	}
}

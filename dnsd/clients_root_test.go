//go:build root

package dnsd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
)

// space is a network namespace with a server on 192.0.2.1:53, whose resolv.conf names it. 203.0.113.9 in it is a stranger's.
type space struct {
	name  string
	table *Table
}

// newSpace makes the namespace. Files below /etc/netns/NAME replace those of /etc for ip netns exec (ip-netns(8)).
func newSpace(t *testing.T, d api.Directory, o Options) space {
	t.Helper()
	s := space{name: fmt.Sprintf("gear-dns-%d", os.Getpid()), table: NewTable(podNet)}
	etc := filepath.Join("/etc/netns", s.name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", s.name).Run(); _ = os.RemoveAll(etc) }) // they may not be there
	must(t, os.MkdirAll(etc, 0o755))
	must(t, os.WriteFile(filepath.Join(etc, "resolv.conf"), []byte("nameserver 192.0.2.1\nsearch shop.gear.internal\noptions timeout:20 attempts:3\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(etc, "nsswitch.conf"), []byte("hosts: files dns\n"), 0o644))
	must(t, exec.Command("ip", "netns", "add", s.name).Run())
	for _, args := range []string{"link set lo up", "addr add 192.0.2.1/32 dev lo", "addr add 203.0.113.9/32 dev lo", "addr add 2001:db8::9/128 dev lo"} {
		must(t, exec.Command("ip", append([]string{"-n", s.name}, strings.Fields(args)...)...).Run())
	}
	s.table.SetZone(NewZone(d, o), d.Hosts)
	c := Config{Source: s.table, Listen: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")}}
	s.inside(t, func() { serve(t, c) })
	return s
}

// inside runs do in the namespace: a socket stays where it was made.
func (s space) inside(t *testing.T, do func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	must(t, err)
	defer own.Close()
	there, err := os.Open(filepath.Join("/run/netns", s.name))
	must(t, err)
	defer there.Close()
	must(t, unix.Setns(int(there.Fd()), unix.CLONE_NEWNET))
	defer func() { must(t, unix.Setns(int(own.Fd()), unix.CLONE_NEWNET)) }()
	do()
}

// run gives the output of a command in the namespace, and its exit code.
func (s space) run(t *testing.T, argv ...string) (string, int) {
	t.Helper()
	return output(t, s.in(argv...)...)
}

func output(t *testing.T, argv ...string) (string, int) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		return string(out), exit.ExitCode()
	}
	return string(out), 0
}

// in gives the command line that runs a command in the namespace.
func (s space) in(argv ...string) []string {
	return append([]string{"ip", "netns", "exec", s.name}, argv...)
}

// daemon runs a server until the test ends.
func daemon(t *testing.T, argv ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	must(t, err)
	cmd.Stdout, cmd.Stderr = log, log
	must(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%q said %s", argv, text)
		}
	})
}

// eventually waits until a question to a server has the answer that is wanted.
func eventually(t *testing.T, want string, dig ...string) {
	t.Helper()
	var got string
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); {
		got, _ = output(t, append(dig, "+short", "+tries=1", "+time=2")...)
		lines := strings.Fields(got)
		slices.Sort(lines)
		if got = strings.Join(lines, " "); got == want {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Errorf("dig %q: %q, want %q", dig, got, want)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// many gives the shop with one more service of 1,000 endpoints: s of project p.
func many() api.Directory {
	d, more := shop(), big(1000)
	d.Services, d.Endpoints = append(d.Services, more.Services...), append(d.Endpoints, more.Endpoints...)
	return d
}

// The resolver of glibc: both families, search domains, names that are missing, and 1,000 addresses over TCP.
func TestGlibc(t *testing.T) {
	s := newSpace(t, many(), Options{PodNet: podNet})
	for _, c := range []struct {
		ask, want string
		code      int
	}{
		{"ahosts web.shop.gear.internal", "192.0.2.1 192.0.2.2 2001:db8::3", 0},
		{"ahosts web", "192.0.2.1 192.0.2.2 2001:db8::3", 0},
		{"ahosts WEB.Shop.gear.internal.", "192.0.2.1 192.0.2.2 2001:db8::3", 0},
		{"ahosts db", "192.0.2.1", 0},
		{"ahosts nope", "", 2},
		{"ahosts idle", "", 2},
		{"ahosts nearest.db", "192.0.2.1", 0},
	} {
		got, code := s.run(t, append([]string{"getent"}, strings.Fields(c.ask)...)...)
		if code != c.code || addressesOf(got) != c.want {
			t.Errorf("getent %s: code %d, %q", c.ask, code, got)
		}
	}
	if got, _ := s.run(t, "getent", "hosts", "192.0.2.2"); !strings.Contains(got, "n2.host.gear.internal") {
		t.Errorf("reverse: %q", got)
	}
	if got, _ := s.run(t, "getent", "ahostsv4", "s.p.gear.internal"); len(strings.Fields(addressesOf(got))) != 1000 {
		t.Errorf("%d of 1000 addresses", len(strings.Fields(addressesOf(got))))
	}
}

// addressesOf gives the first words of lines, once each.
func addressesOf(text string) string {
	var out []string
	for line := range strings.Lines(text) {
		out = append(out, strings.Fields(line)[0])
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), " ")
}

// The resolver of musl, which asks for A and AAAA at once, knows no EDNS, and of older versions no TCP: an answer that is
// cut is all that they see.
func TestMusl(t *testing.T) {
	s := newSpace(t, many(), Options{PodNet: podNet})
	bin := filepath.Join(t.TempDir(), "lookup")
	if out, err := exec.Command("musl-gcc", "-static", "-Wall", "-Werror", "-o", bin, "testdata/lookup.c").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got, _ := s.run(t, bin, "web.shop.gear.internal", "web", "db", "nope.shop.gear.internal", "idle", "s.p.gear.internal")
	lines := strings.Split(strings.TrimSpace(got), "\n")
	if len(lines) != 6 {
		t.Fatal(got)
	}
	for i, want := range []string{"192.0.2.1 192.0.2.2 2001:db8::3 web.shop.gear.internal", "192.0.2.1 192.0.2.2 2001:db8::3 web", "192.0.2.1 db"} {
		words := strings.Fields(lines[i])
		slices.Sort(words)
		if strings.Join(words, " ") != want {
			t.Errorf("%q, want %q", lines[i], want)
		}
	}
	if lines[3] != "nope.shop.gear.internal no name" || !strings.HasPrefix(lines[4], "idle ") || strings.Contains(lines[4], ".") || len(strings.Fields(lines[5])) < 20 {
		t.Errorf("%s", got)
	}
}

// Node has two resolvers: that of the C library, and c-ares.
func TestNode(t *testing.T) {
	s := newSpace(t, many(), Options{PodNet: podNet})
	script, err := filepath.Abs("testdata/lookup.js")
	must(t, err)
	got, code := s.run(t, "node", script)
	want := `lookup ["192.0.2.1","192.0.2.2","2001:db8::3"]
resolve4 ["192.0.2.1","192.0.2.2"]
resolve6 ["2001:db8::3"]
srv ["web-a.pod.shop.gear.internal:20001","web-b.pod.shop.gear.internal:20001","web-d.pod.shop.gear.internal:20001"]
txt [["host=n1"]]
reverse ["n1.host.gear.internal"]
soa "hostmaster.gear.internal"
nodata "ENODATA"
missing "ENOTFOUND"
big 1000
`
	if code != 0 || got != want {
		t.Errorf("code %d:\n%s", code, got)
	}
}

// A real secondary gets the zone, hears of a change by NOTIFY (its own refresh would take a minute), and answers on
// when no host does. It is configured as docs/network.md says.
func TestKnotIsASecondary(t *testing.T) {
	// An address of loopback that nobody else has, and a port that is given to nobody: a port that was free a moment ago may be taken, of UDP or
	// of TCP, when knotd wants both.
	port := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 53, byte(os.Getpid() >> 8), byte(os.Getpid())}), 5300)
	d, table, dir := shop(), NewTable(podNet), t.TempDir()
	table.SetZone(NewZone(d, Options{PodNet: podNet}), d.Hosts)
	ctx, stop := context.WithCancel(context.Background())
	s := listen(t, Config{Source: table, Secondaries: []netip.AddrPort{port}})
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer stop()
	conf := filepath.Join(dir, "knot.conf")
	must(t, os.WriteFile(conf, []byte(fmt.Sprintf(`server:
  rundir: %[1]s
  user: root
  listen: %[2]s@%[4]d
database:
  storage: %[1]s
remote:
  - id: gear
    address: 127.0.0.1@%[3]d
    via: %[2]s
acl:
  - id: gear
    address: 127.0.0.1
    action: notify
zone:
  - domain: gear.internal
    storage: %[1]s
    master: gear
    acl: gear
log:
  - target: stderr
    any: info
`, dir, port.Addr(), s.Addrs()[0].Port(), port.Port())), 0o644))
	daemon(t, "/usr/sbin/knotd", "-c", conf)
	dig := []string{"dig", "@" + port.Addr().String(), "-p", fmt.Sprint(port.Port())}
	eventually(t, "192.0.2.1 192.0.2.2", append(dig, "web.shop.gear.internal", "A")...)
	eventually(t, "n1.host.gear.internal. n2.host.gear.internal. n3.host.gear.internal.", append(dig, "gear.internal", "NS")...)
	for change := range 3 {
		at := fmt.Sprintf("192.0.2.%d", 60+change)
		d.Endpoints[1].Endpoints[0].Address = netip.MustParseAddrPort(at + ":20001")
		start := time.Now()
		table.SetZone(NewZone(d, Options{PodNet: podNet}), d.Hosts)
		eventually(t, "192.0.2.1 "+at, append(dig, "web.shop.gear.internal", "A")...)
		t.Logf("the secondary has the change after %v", time.Since(start).Round(time.Millisecond))
	}
	stop()
	must(t, <-ended)
	eventually(t, "192.0.2.1 192.0.2.62", append(dig, "web.shop.gear.internal", "A")...)
}

// The company's resolver follows a delegation from the zone above to the hosts, though it is a stranger to them.
func TestDelegation(t *testing.T) {
	d := shop()
	s := newSpace(t, d, Options{Domain: "gear.corp.example", PodNet: podNet})
	dir := t.TempDir()
	write := func(file, text string) string {
		file = filepath.Join(dir, file)
		must(t, os.WriteFile(file, []byte(text), 0o644))
		return file
	}
	write("corp.zone", "@ 60 SOA ns hostmaster 1 60 10 3600 5\n@ 60 NS ns\nns 60 A 203.0.113.9\ngear 60 NS h1.gear-ns\nh1.gear-ns 60 A 192.0.2.1\n")
	daemon(t, s.in("/usr/sbin/knotd", "-c", write("knot.conf", fmt.Sprintf("server:\n  rundir: %[1]s\n  user: root\n  listen: 203.0.113.9@5300\ndatabase:\n  storage: %[1]s\nzone:\n  - domain: corp.example\n    file: %[1]s/corp.zone\n", dir)))...)
	daemon(t, s.in("/usr/sbin/unbound", "-d", "-c", write("unbound.conf", fmt.Sprintf("server:\n  interface: 203.0.113.9\n  outgoing-interface: 203.0.113.9\n  directory: %q\n  chroot: \"\"\n  username: \"\"\n  pidfile: \"\"\n  use-syslog: no\n"+
		"  module-config: \"iterator\"\n  access-control: 0.0.0.0/0 allow\n  do-not-query-localhost: no\nstub-zone:\n  name: corp.example\n  stub-addr: 203.0.113.9@5300\n", dir)))...)
	eventually(t, "192.0.2.1 192.0.2.2", s.in("dig", "@203.0.113.9", "web.shop.gear.corp.example", "A")...)
	eventually(t, "2001:db8::3", s.in("dig", "@203.0.113.9", "WEB.shop.gear.corp.example", "AAAA")...)
	if got, _ := s.run(t, "dig", "@203.0.113.9", "nope.shop.gear.corp.example", "A"); !strings.Contains(got, "NXDOMAIN") || !strings.Contains(got, "hostmaster.gear.corp.example.") {
		t.Errorf("%s", got)
	}
	if got, _ := s.run(t, "dig", "-b", "203.0.113.9", "@192.0.2.1", "example.org", "A"); !strings.Contains(got, "REFUSED") {
		t.Errorf("a stranger's other name: %s", got)
	}
}

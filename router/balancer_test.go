package router_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/freeport"
	"gearmesh.dev/internal/golden"
	"gearmesh.dev/router"
)

func linkSettings(dir string, first uint16) router.Settings {
	return router.Settings{Bind: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), first)}, LastPort: first + 3,
		Dir: dir, Socket: filepath.Join(dir, "s"), User: "haproxy", Chroot: "/var/lib/haproxy", Spares: 2, MinSlots: 4}
}

func target(service api.Name, port uint16, to ...netip.AddrPort) api.BalancedLink {
	return api.BalancedLink{Project: "shop", Service: service, PortName: "sql", Port: port, Backends: to}
}

func TestRenderLinks(t *testing.T) {
	at := netip.MustParseAddrPort
	s := linkSettings("/var/lib/gear/links", 30000)
	good := []api.BalancedLink{target("db", 30001, at("192.0.2.2:20001"), at("192.0.2.1:20007")), target("cache", 30000), target("db", 30002, at("192.0.2.2:20001"))}
	c := router.RenderLinks(append(good, target("late", 30004), target("ssh", 22), target("db\nserver", 30003), target("twice", 30000)), s)
	golden.Equal(t, "links.cfg", c.File())
	golden.Equal(t, "links.map", c.Map())
	if len(c.Skipped) != 4 {
		t.Errorf("left out are %q", c.Skipped)
	}
}

// FuzzRenderLinks puts one text into every field that others can write; the oracle is the plan.
func FuzzRenderLinks(f *testing.F) {
	for _, s := range []string{"web", "a\nb", "a b", "${HOME}", "x\r\nserver evil 192.0.2.1:80", "\"", "#", "\x00", "%[src]", "a;show info"} {
		f.Add(s, uint16(30001), uint16(80))
	}
	f.Fuzz(func(t *testing.T, text string, port, to uint16) {
		s, n := linkSettings("/var/lib/gear/links", 30000), api.Name(text)
		back := []netip.AddrPort{netip.AddrPortFrom(addr("fe80::1").WithZone(text), to), netip.AddrPortFrom(addr("192.0.2.1"), to)}
		c := router.RenderLinks([]api.BalancedLink{
			target("db", 30000, back[1]), target("zone", port, back...),
			{Project: n, Service: "db", PortName: "sql", Port: port, Backends: back[1:]},
			{Project: "shop", Service: n, PortName: "sql", Port: port, Backends: back[1:]},
			{Project: "shop", Service: "db", PortName: n, Port: port, Backends: back[1:]}}, s)
		servers := 0
		for _, b := range c.Backends {
			servers += len(b.Slots)
		}
		counts := map[string]int{}
		for line := range strings.Lines(string(c.File())) {
			if f := strings.Fields(line); len(f) > 0 {
				counts[f[0]]++
			}
		}
		for directive, want := range map[string]int{"backend": len(c.Backends), "server": servers, "frontend": 1, "bind": 1, "use_backend": 1, "global": 1, "defaults": 1} {
			if counts[directive] != want {
				t.Errorf("%d times %q, want %d:\n%s", counts[directive], directive, want, c.File())
			}
		}
		for line := range strings.Lines(string(c.Map())) {
			if len(strings.Fields(line)) != 2 {
				t.Errorf("map line %q", line)
			}
		}
		for _, running := range []router.Config{emptied(c), onlySpares(c)} {
			for _, command := range router.Diff(running, c).Commands {
				checkCommand(t, command)
			}
		}
	})
}

// balance is a Balancer under test, with its HAProxy.
type balance struct {
	*testing.T
	*router.Balancer
	ha    *haproxy
	first uint16
	s     router.Settings
}

func newBalance(t *testing.T) *balance {
	t.Helper()
	b := &balance{T: t, first: freeport.Row(t, 4)}
	b.s = linkSettings(t.TempDir(), b.first)
	b.ha = &haproxy{t: t, file: b.s.File()}
	b.restart()
	t.Cleanup(b.ha.end)
	return b
}

// restart makes the Balancer anew, as a restart of the agent does.
func (b *balance) restart() {
	b.Helper()
	var err error
	if b.Balancer, err = router.NewBalancer(router.BalancerOptions{Settings: b.s, Supervisor: b.ha, Master: filepath.Join(b.s.Dir, "m"), Logger: slog.New(slog.NewTextHandler(b.Output(), nil)), MinReload: 50 * time.Millisecond}); err != nil {
		b.Fatal(err)
	}
}

func (b *balance) set(links ...api.BalancedLink) {
	b.Helper()
	b.setDown(func(netip.Addr) bool { return false }, links...)
}

func (b *balance) setDown(down func(netip.Addr) bool, links ...api.BalancedLink) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 3*time.Minute)
	defer cancel()
	// HAProxy's master listens to nobody while it executes itself anew. The agent asks again all the time.
	err := b.Balance(ctx, links, down)
	for err != nil && ctx.Err() == nil {
		time.Sleep(50 * time.Millisecond)
		err = b.Balance(ctx, links, down)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// talk is an open connection by a link.
type talk struct {
	net.Conn
	lines *bufio.Reader
}

// ask sends a line; the answer begins with who answers.
func (c talk) ask() (string, error) {
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return "", err
	}
	line, err := c.lines.ReadString('\n')
	return strings.TrimSpace(line), err
}

func (b *balance) dial(port uint16) talk {
	b.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return talk{c, bufio.NewReader(c)}
}

// open opens a connection and gives who answers.
func (b *balance) open(port uint16) (talk, string) {
	b.Helper()
	c := b.dial(port)
	who, err := c.ask()
	if err != nil {
		b.Fatalf("asking by the link: %v", err)
	}
	return c, who
}

// backend is a server that answers each line with its name.
func (b *balance) backend(name string) (netip.AddrPort, func()) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	var open sync.Map
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Store(c, true)
			wg.Go(func() {
				defer c.Close()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					fmt.Fprintln(c, name)
				}
			})
		}
	})
	stop := sync.OnceFunc(func() {
		l.Close()
		open.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		wg.Wait()
	})
	b.Cleanup(stop)
	return netip.MustParseAddrPort(l.Addr().String()), stop
}

func TestLeastConnections(t *testing.T) {
	b := newBalance(t)
	at1, _ := b.backend("one")
	at2, _ := b.backend("two")
	b.set(target("db", b.first, at1, at2))
	_, held := b.open(b.first)
	for range 6 { // each has ended before the next begins, so the one without the long connection always has fewer
		c, who := b.open(b.first)
		if who == held {
			t.Fatalf("%s answers, which has a connection already", who)
		}
		c.Close()
		b.quiet()
	}
}

// quiet waits until HAProxy has only the one connection that is held.
func (b *balance) quiet() {
	b.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for line := range strings.Lines(b.runtime("show stat")) {
			if f := strings.Split(line, ","); len(f) > 4 && f[0] == "gear_links" && f[1] == "FRONTEND" && f[4] == "1" {
				return
			}
		}
	}
	b.Fatal("a connection that was closed stays")
}

func (b *balance) runtime(command string) string {
	b.Helper()
	c, err := net.Dial("unix", b.s.Socket)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintln(c, command)
	out, err := io.ReadAll(c)
	if err != nil {
		b.Fatal(err)
	}
	return string(out)
}

// A backend that is lost without anybody's word costs no connection, and new targets and endpoints no reload.
func TestBackendIsLost(t *testing.T) {
	b := newBalance(t)
	at1, stop := b.backend("one")
	at2, _ := b.backend("two")
	b.set(target("db", b.first))
	b.set(target("db", b.first, at1, at2), target("new", b.first+1, at2))
	if _, who := b.open(b.first + 1); who != "two" {
		t.Errorf("%s answers", who)
	}
	stop()
	for range 20 {
		if _, who := b.open(b.first); who != "two" {
			t.Fatalf("%s answers", who)
		}
	}
	b.set(target("db", b.first, at2))
	b.restart()
	b.set(target("db", b.first, at2))
	if _, who := b.open(b.first); who != "two" {
		t.Errorf("%s answers", who)
	}
	if n := b.ha.reloads.Load(); n != 0 {
		t.Errorf("HAProxy was reloaded %d times", n)
	}
}

// ended waits until a connection has been ended by the other side.
func (c talk) ended() bool {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := c.ask(); err != nil {
			return !errors.Is(err, syscall.ETIMEDOUT)
		}
	}
	return false
}

func TestRetargetBalanced(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*api.BalancedLink)
		down   bool
		ends   bool
	}{
		"drain":        {func(*api.BalancedLink) {}, false, false},
		"cut":          {func(l *api.BalancedLink) { l.Retarget = api.Cut }, false, true},
		"host is down": {func(*api.BalancedLink) {}, true, true},
		"at most 1 ms": {func(l *api.BalancedLink) { l.MaxDrain = api.Duration(time.Millisecond) }, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBalance(t)
			at1, _ := b.backend("one")
			at2, _ := b.backend("two")
			l := target("db", b.first, at1)
			tt.change(&l)
			b.set(l)
			c, _ := b.open(b.first)
			l.Backends = []netip.AddrPort{at2}
			down := func(netip.Addr) bool { return tt.down }
			b.setDown(down, l)
			if l.MaxDrain > 0 {
				time.Sleep(2 * l.MaxDrain.Std())
				b.setDown(down, l) // the agent asks again all the time
			}
			if tt.ends {
				if !c.ended() {
					t.Error("the connection to the backend that is gone goes on")
				}
			} else if who, err := c.ask(); who != "one" || err != nil {
				t.Errorf("the open connection: %q, %v", who, err)
			}
			if _, who := b.open(b.first); who != "two" {
				t.Errorf("%s answers", who)
			}
		})
	}
}

// More targets than spares make a reload, which costs no open connection; and a cut afterwards reaches what the old worker holds.
func TestReloadKeepsConnections(t *testing.T) {
	b := newBalance(t)
	at1, _ := b.backend("one")
	at2, _ := b.backend("two")
	l := target("db", b.first, at1)
	l.Retarget = api.Cut
	b.set(l)
	c, _ := b.open(b.first)
	all := []api.BalancedLink{l, target("n1", b.first+1, at1), target("n2", b.first+2, at1), target("n3", b.first+3, at2)}
	b.set(all...)
	if b.ha.reloads.Load() == 0 {
		t.Fatal("nothing was reloaded")
	}
	if who, err := c.ask(); who != "one" || err != nil {
		t.Errorf("the open connection: %q, %v", who, err)
	}
	if _, who := b.open(b.first + 3); who != "two" {
		t.Errorf("%s answers", who)
	}
	all[0].Backends = []netip.AddrPort{at2}
	b.set(all...)
	if !c.ended() {
		t.Error("a connection of the old worker goes on")
	}
}

// Without HAProxy connections are refused at once; it starts from its files with nobody's help.
func TestBalancerStartsFromDisk(t *testing.T) {
	b := newBalance(t)
	at1, _ := b.backend("one")
	b.set(target("db", b.first, at1))
	if out, err := exec.Command("haproxy", "-c", "-f", b.s.File()).CombinedOutput(); err != nil || strings.Contains(string(out), "WARNING") {
		t.Errorf("haproxy -c: %v: %s", err, out)
	}
	b.ha.end()
	if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", b.first)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, %v", c, err)
	}
	if err := b.ha.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", b.first))
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if _, who := b.open(b.first); who != "one" {
		t.Errorf("%s answers", who)
	}
}

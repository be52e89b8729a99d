//go:build root

package linker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gearmesh.dev/internal/hostexec"
	"gearmesh.dev/linker"
)

// The lab of these tests is a network segment with hosts on it, each with a bridge gear0 and pods as
// docs/architecture.md has them. Every part is a network namespace of its own.

// space is a network namespace.
type space struct {
	name, path string
}

var spaces atomic.Int32

// newSpace makes a namespace that ends with the test.
func newSpace(t testing.TB) space {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes network namespaces: run it as root")
	}
	s := space{name: fmt.Sprintf("linker-%d-%d", os.Getpid(), spaces.Add(1))}
	s.path = "/run/netns/" + s.name
	host := space{}
	host.run(t, "ip", "netns", "add", s.name)
	t.Cleanup(func() { host.run(t, "ip", "netns", "del", s.name) })
	s.run(t, "ip", "link", "set", "lo", "up")
	return s
}

// run runs a command in s.
func (s space) run(t testing.TB, argv ...string) string {
	t.Helper()
	out, err := hostexec.Run(context.Background(), hostexec.Cmd{Argv: argv, NetNS: s.path})
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// batch runs lines of ip(8) in s.
func (s space) batch(t testing.TB, lines ...string) {
	t.Helper()
	cmd := hostexec.Cmd{Argv: []string{"ip", "-batch", "-"}, NetNS: s.path, Stdin: []byte(strings.Join(lines, "\n") + "\n")}
	if _, err := hostexec.Run(context.Background(), cmd); err != nil {
		t.Fatal(err)
	}
}

// sysctl sets keys, as in net/ipv4/ip_forward=1.
func (s space) sysctl(t testing.TB, settings ...string) {
	t.Helper()
	s.do(t, func() error {
		for _, kv := range settings {
			key, value, _ := strings.Cut(kv, "=")
			// /proc/sys/net shows the namespace of the thread that opens it.
			if err := os.WriteFile("/proc/thread-self/root/proc/sys/"+key, []byte(value), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
}

// do calls f on a thread that is in s. Sockets made by f stay there.
func (s space) do(t testing.TB, f func() error) {
	t.Helper()
	if err := s.try(f); err != nil {
		t.Fatal(err)
	}
}

// try is do for what may fail. The thread ends with its goroutine.
func (s space) try(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		fd, err := unix.Open(s.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			done <- err
			return
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// lan is the segment between hosts.
type lan struct{ space }

func newLAN(t testing.TB) lan {
	l := lan{newSpace(t)}
	l.batch(t, "link add br0 type bridge", "link set br0 up")
	l.sysctl(t, "net/bridge/bridge-nf-call-iptables=0") // a switch, not a firewall
	return l
}

// node puts a namespace onto the segment, as 192.0.2.last/24 and 2001:db8::last/64 on eth0.
func (l lan) node(t testing.TB, last int) space {
	s := newSpace(t)
	port := fmt.Sprintf("p%d", last)
	l.batch(t, fmt.Sprintf("link add %s type veth peer name eth0 netns %s", port, s.name),
		"link set "+port+" master br0 up")
	s.batch(t, fmt.Sprintf("addr add 192.0.2.%d/24 dev eth0", last), fmt.Sprintf("addr add 2001:db8::%d/64 dev eth0 nodad", last), "link set eth0 up")
	return s
}

// labHost is a host with a bridge for pods.
type labHost struct {
	space
	addr   netip.Addr
	routed bool // pods' veths are routes of their own, not ports of gear0
	dual   bool // pods have IPv6
}

func (l lan) host(t testing.TB, last int) labHost {
	h := labHost{space: l.node(t, last), addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(last)})}
	h.batch(t, "link add gear0 type bridge", "addr add 10.127.0.1/16 dev gear0", "link set gear0 up")
	h.sysctl(t, "net/ipv4/ip_forward=1", "net/ipv4/icmp_ratelimit=0", "net/bridge/bridge-nf-call-iptables=0")
	return h
}

// labPod is a pod.
type labPod struct {
	space
	addr netip.Addr
}

// pod makes a pod on h, as gear-run net-up does.
func (h labHost) pod(t testing.TB, last int) labPod {
	p := labPod{newSpace(t), netip.AddrFrom4([4]byte{10, 127, 0, byte(last)})}
	port := fmt.Sprintf("gv%d", last)
	h.batch(t, fmt.Sprintf("link add %s type veth peer name eth0 netns %s", port, p.name), "link set "+port+" up")
	if h.routed {
		h.batch(t, "route add "+p.addr.String()+"/32 dev "+port+" src 10.127.0.1",
			"route add "+linker.LinkSource(p.addr).String()+"/32 via "+p.addr.String()+" dev "+port)
	} else {
		h.batch(t, "link set "+port+" master gear0", "link set "+port+" type bridge_slave isolated on",
			"route add "+linker.LinkSource(p.addr).String()+"/32 via "+p.addr.String()+" dev gear0")
	}
	p.batch(t, "addr add "+p.addr.String()+"/32 dev eth0", "link set eth0 up",
		"route add 10.127.0.1 dev eth0 scope link", "route add default via 10.127.0.1")
	p.sysctl(t, "net/ipv4/conf/eth0/route_localnet=1")
	if h.dual {
		h.pod6(t, p, port)
	}
	return p
}

// pod6 gives a pod IPv6, as geard/podnet does.
func (h labHost) pod6(t testing.TB, p labPod, port string) {
	t.Helper()
	at, gateway := linker.IPv6(p.addr).String(), linker.IPv6(addr("10.127.0.1")).String()
	h.batch(t, "addr replace "+gateway+"/128 dev gear0 nodad", "route add "+at+"/128 dev "+port,
		"route add "+linker.LinkSource(linker.IPv6(p.addr)).String()+"/128 via "+at+" dev "+port,
		"neigh replace "+at+" lladdr "+p.mac(t, "eth0")+" dev "+port+" nud permanent")
	p.batch(t, "addr add "+at+"/128 dev eth0 nodad", "route add "+gateway+"/128 dev eth0",
		"neigh replace "+gateway+" lladdr "+h.mac(t, port)+" dev eth0 nud permanent", "route add ::/0 via "+gateway,
		"route add local ::1 dev eth0 table local metric 2048")
	h.sysctl(t, "net/ipv6/conf/all/forwarding=1", "net/ipv6/icmp/ratelimit=0")
}

// mac gives the hardware address of an interface.
func (s space) mac(t testing.TB, dev string) string {
	t.Helper()
	words := strings.Fields(s.run(t, "ip", "-brief", "link", "show", dev))
	if len(words) < 3 {
		t.Fatalf("no hardware address of %s in %q", dev, words)
	}
	return words[2]
}

// serve runs an echo server, TCP and UDP, in s. To each line it answers "NAME CLIENT LINE".
func (s space) serve(t testing.TB, name, addr string) {
	t.Helper()
	var l net.Listener
	var u net.PacketConn
	s.do(t, func() (err error) {
		if l, err = net.Listen("tcp", addr); err != nil {
			return err
		}
		u, err = net.ListenPacket("udp", addr)
		return err
	})
	var wg sync.WaitGroup
	var open sync.Map
	t.Cleanup(func() {
		l.Close()
		u.Close()
		open.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		wg.Wait()
	})
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
					fmt.Fprintf(c, "%s %s %s\n", name, host(c.RemoteAddr()), lines.Text())
				}
			})
		}
	})
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := u.ReadFrom(buf)
			if err != nil {
				return
			}
			if _, err := u.WriteTo(fmt.Appendf(nil, "%s %s %s", name, host(from), buf[:n]), from); err != nil {
				return
			}
		}
	})
}

func host(a net.Addr) string {
	h, _, _ := net.SplitHostPort(a.String())
	return h
}

// patience is how long a test waits for what the network shall do, and
// silence for what it shall not do.
const (
	patience = time.Minute
	silence  = 400 * time.Millisecond
)

// dial connects from s.
func (s space) dial(network, addr string, wait time.Duration) (net.Conn, error) {
	var c net.Conn
	err := s.try(func() (err error) {
		c, err = net.DialTimeout(network, addr, wait)
		return err
	})
	return c, err
}

// session is an open connection to an echo server.
type session struct {
	net.Conn
	buf [1500]byte
}

func (s space) session(t testing.TB, network, addr string) *session {
	t.Helper()
	c, err := s.dial(network, addr, patience)
	if err != nil {
		t.Fatalf("connecting: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return &session{Conn: c}
}

// ask sends a line and gives the answer.
func (c *session) ask(line string) (string, error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c, "%s\n", line); err != nil {
		return "", err
	}
	n, err := c.Read(c.buf[:])
	return strings.TrimSpace(string(c.buf[:n])), err
}

// expect fails the test unless the server of that name answers, seeing that client ("" for any).
func (c *session) expect(t testing.TB, server, client string) {
	t.Helper()
	got, err := c.ask("hello")
	words := strings.Fields(got)
	if err != nil || len(words) != 3 || words[0] != server || client != "" && words[1] != client || words[2] != "hello" {
		t.Fatalf("got %q, %v; want an answer by %s for %q", got, err, server, client)
	}
}

// ended fails the test unless the session's program hears of the end of the connection while it only waits for an answer.
func (c *session) ended(t testing.TB) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(c.buf[:]); !errors.Is(err, unix.ECONNABORTED) {
		t.Errorf("got %q, %v, want the end of the connection", c.buf[:n], err)
	}
}

// reset fails the test unless the session's program sees a reset when it next uses the connection.
func (c *session) reset(t testing.TB) {
	t.Helper()
	if got, err := c.ask("hello"); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("got %q, %v, want a reset", got, err)
	}
}

// refused fails the test unless a connection from s is refused, by a reset or an ICMP error.
func (s space) refused(t testing.TB, network, addr string) {
	t.Helper()
	c, err := s.dial(network, addr, patience)
	if err == nil {
		defer c.Close()
		_, err = (&session{Conn: c}).ask("hello")
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("%s %s: got %v, want it refused", network, addr, err)
	}
}

// unheard fails the test unless nothing answers a connection from s.
func (s space) unheard(t testing.TB, addr string) {
	t.Helper()
	c, err := s.dial("tcp", addr, silence)
	if err == nil {
		c.Close()
	}
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%s: got %v, want silence", addr, err)
	}
}

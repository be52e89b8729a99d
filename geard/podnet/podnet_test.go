package podnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"gearmesh.dev/api"
	"gearmesh.dev/geard/oci"
	"gearmesh.dev/geard/podstate"
)

// sandboxed marks the process that has a network and a /run of its own.
const sandboxed = "PODNET_TEST_SANDBOX"

// TestMain runs the tests once more in fresh network and mount namespaces: they make real
// bridges, namespaces and mounts, and the kernel takes all of it back at the end.
func TestMain(m *testing.M) {
	if os.Getenv(sandboxed) != "" {
		if err := syscall.Mount("none", "/run", "tmpfs", 0, ""); err != nil {
			fmt.Fprintln(os.Stderr, "giving the tests a /run of their own:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), sandboxed+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Unshareflags: syscall.CLONE_NEWNS}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "making namespaces for the tests (they need root):", err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

const (
	uidA = api.UID("aaaaaaaaaaaaaaaa")
	uidB = api.UID("bbbbbbbbbbbbbbbb")
)

// hooks notes what Up lays.
type hooks struct {
	links, host int
	fresh, ipv6 bool
	fail        error
}

func (h *hooks) hooks() Hooks {
	return Hooks{
		Links: func(_ context.Context, netns string, fresh bool, pod netip.Addr, links []api.LinkTarget) error {
			h.links++
			h.fresh = fresh
			return h.fail
		},
		Host: func(context.Context) (bool, error) { h.host++; return h.ipv6, nil },
	}
}

func newPod(t *testing.T, dirs podstate.Dirs, uid api.UID, addr string) {
	t.Helper()
	pod := api.Pod{Header: api.Header{Metadata: api.Metadata{Name: "web", Project: "shop", UID: uid}}}
	if err := dirs.Save(pod, podstate.Net{Address: netip.MustParseAddr(addr)}, []api.LinkTarget{}); err != nil {
		t.Fatal(err)
	}
}

func testDirs(t *testing.T) podstate.Dirs {
	dir := t.TempDir()
	t.Cleanup(func() {
		if link, err := netlink.LinkByName(GatewayLink); err == nil {
			_ = netlink.LinkDel(link)
		}
	})
	return podstate.Dirs{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}
}

// inside runs f in a pod's namespace.
func inside(t *testing.T, dirs podstate.Dirs, uid api.UID, f func() error) {
	t.Helper()
	if err := within(dirs.Namespace(uid), f); err != nil {
		t.Error(err)
	}
}

func setting(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile("/proc/sys/" + path)
	if err != nil {
		t.Error(err)
	}
	return strings.TrimSpace(string(data))
}

func TestUpAndDown(t *testing.T) {
	dirs := testDirs(t)
	newPod(t, dirs, uidA, "10.127.0.2")
	newPod(t, dirs, uidB, "10.127.200.9")
	var h hooks
	for i, uid := range []api.UID{uidA, uidB, uidA} {
		if err := Up(t.Context(), dirs, uid, h.hooks()); err != nil {
			t.Fatal(err)
		}
		if h.fresh != (i < 2) {
			t.Errorf("Up %d says fresh is %v", i+1, h.fresh)
		}
	}
	if h.host != 1 || h.links != 3 {
		t.Errorf("the host's rules were laid %d times, links %d times; want 1 and 3", h.host, h.links)
	}
	checkHost(t)
	checkRoutes(t, uidA, net.IPv4(10, 127, 0, 2), net.IPv4(10, 126, 0, 2))
	if err := netlink.RouteDel(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4(10, 126, 0, 2), Mask: net.CIDRMask(32, 32)}}); err != nil {
		t.Fatal(err)
	}
	if err := EnsureRoutes(uidA, netip.MustParseAddr("10.127.0.2")); err != nil {
		t.Fatal(err)
	}
	checkRoutes(t, uidA, net.IPv4(10, 127, 0, 2), net.IPv4(10, 126, 0, 2))
	checkPod(t, dirs, uidA, "10.127.0.2/32")
	checkPod(t, dirs, uidB, "10.127.200.9/32")
	checkReach(t, dirs)

	record, long := dirs.Record("abc"), dirs.Record("long")
	if err := errors.Join(os.MkdirAll(filepath.Dir(record), 0o755), os.WriteFile(record, []byte(dirs.Namespace(uidA)+"\n"), 0o644),
		os.WriteFile(long, oci.Record{Namespace: dirs.Namespace(uidA), Pids: dirs.Pids(uidA)}.Text(), 0o644),
		os.WriteFile(dirs.Record("other"), []byte(dirs.Namespace(uidB)+"\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Down(dirs, uidA); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := netlink.LinkByName(VethName(uidA)); err == nil {
		t.Error("its veth is left")
	}
	for path, want := range map[string]bool{dirs.Namespace(uidA): false, record: false, long: false, dirs.Namespace(uidB): true, dirs.Record("other"): true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: there is %v, want %v", path, err == nil, want)
		}
	}
	if err := Down(dirs, uidB); err != nil {
		t.Fatal(err)
	}
}

func checkHost(t *testing.T) {
	t.Helper()
	if setting(t, "net/ipv4/conf/all/route_localnet") != "0" || setting(t, "net/ipv4/conf/gear0/route_localnet") != "0" {
		t.Error("route_localnet is on on the host")
	}
	if setting(t, "net/ipv4/ip_forward") != "1" || setting(t, "net/ipv4/conf/"+VethName(uidA)+"/send_redirects") != "0" {
		t.Error("the host does not forward as it should")
	}
	link, err := netlink.LinkByName(VethName(uidA))
	if err != nil {
		t.Fatal(err)
	}
	if link.Attrs().MasterIndex != 0 {
		t.Error("the pod's veth is on a bridge; it should be routed")
	}
	if got := setting(t, "net/ipv4/conf/"+VethName(uidA)+"/rp_filter"); got != "1" {
		t.Errorf("rp_filter of the pod's veth is %s, want 1", got)
	}
}

// checkRoutes sees that the host finds a pod, also by the address that its links come from, which no interface has.
func checkRoutes(t *testing.T, uid api.UID, pod, links net.IP) {
	t.Helper()
	link, err := netlink.LinkByName(VethName(uid))
	if err != nil {
		t.Fatal(err)
	}
	for to, via := range map[string]net.IP{pod.String(): nil, links.String(): pod} {
		routes, err := netlink.RouteGet(net.ParseIP(to))
		if err != nil || routes[0].LinkIndex != link.Attrs().Index || !routes[0].Gw.Equal(via) {
			t.Errorf("to %s: %v, %v; want by way of %v on %s", to, routes, err, via, link.Attrs().Name)
		}
	}
}

func checkPod(t *testing.T, dirs podstate.Dirs, uid api.UID, addr string) {
	t.Helper()
	inside(t, dirs, uid, func() error {
		eth, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		v4, _ := netlink.AddrList(eth, netlink.FAMILY_V4)
		v6, _ := netlink.AddrList(eth, netlink.FAMILY_V6)
		if len(v4) != 1 || v4[0].IPNet.String() != addr || len(v6) != 0 {
			t.Errorf("eth0 has %v %v; want %s alone", v4, v6, addr)
		}
		for path, want := range map[string]string{"net/ipv4/conf/all/route_localnet": "1", "net/ipv4/ip_unprivileged_port_start": "0"} {
			if got := setting(t, path); got != want {
				t.Errorf("%s is %s inside, want %s", path, got, want)
			}
		}
		l, err := net.Listen("tcp", "127.1.0.1:80")
		if err != nil {
			return err
		}
		return l.Close()
	})
}

// checkReach connects from the host to pod A, and sees that pod B is not on A's wire.
func checkReach(t *testing.T, dirs podstate.Dirs) {
	t.Helper()
	var l net.Listener
	inside(t, dirs, uidA, func() (err error) {
		l, err = net.Listen("tcp4", "0.0.0.0:8080")
		return err
	})
	defer l.Close()
	conn, err := net.Dial("tcp4", "10.127.0.2:8080")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	inside(t, dirs, uidB, func() error {
		routes, err := netlink.RouteGet(net.IPv4(10, 127, 0, 2))
		if err == nil && !routes[0].Gw.Equal(net.IPv4(10, 127, 0, 1)) {
			t.Errorf("pod B reaches pod A through %v; want the gateway", routes[0].Gw)
		}
		return err
	})
}

// What was cut short is finished by the next Up, and taken away by Down.
func TestUpAfterHalfAnUp(t *testing.T) {
	dirs := testDirs(t)
	newPod(t, dirs, uidA, "10.127.0.2")
	cuts := map[string]func(){
		"a plain file where the namespace goes": func() {
			_ = os.MkdirAll("/run/netns", 0o755)
			_ = os.WriteFile(dirs.Namespace(uidA), nil, 0o444)
		},
		"a namespace without an interface": func() { _, _ = ensureNamespace(dirs.Namespace(uidA)) },
		"rules that could not be laid": func() {
			h := hooks{fail: errors.New("iptables")}
			if err := Up(t.Context(), dirs, uidA, h.hooks()); err == nil || !strings.Contains(err.Error(), "laying the links") {
				t.Errorf("got %v", err)
			}
		},
		"an interface that is down": func() {
			var h hooks
			_ = Up(t.Context(), dirs, uidA, h.hooks())
			link, _ := netlink.LinkByName(VethName(uidA))
			_ = netlink.LinkSetDown(link)
		},
	}
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			cut()
			var h hooks
			if err := Up(t.Context(), dirs, uidA, h.hooks()); err != nil {
				t.Fatal(err)
			}
			checkPod(t, dirs, uidA, "10.127.0.2/32")
			if err := Down(dirs, uidA); err != nil {
				t.Fatal(err)
			}
			cut()
			if err := Down(dirs, uidA); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(dirs.Namespace(uidA)); err == nil {
				t.Error("its namespace is left")
			}
		})
	}
}

// A namespace that has lost its name, and is held by somebody, keeps its veth; the next one gets one all the same.
func TestUpBesideAnOlderNamespace(t *testing.T) {
	dirs := testDirs(t)
	newPod(t, dirs, uidA, "10.127.0.2")
	var h hooks
	if err := Up(t.Context(), dirs, uidA, h.hooks()); err != nil {
		t.Fatal(err)
	}
	held, err := os.Open(dirs.Namespace(uidA))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := syscall.Unmount(dirs.Namespace(uidA), syscall.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	if err := Up(t.Context(), dirs, uidA, h.hooks()); err != nil {
		t.Fatal(err)
	}
	checkPod(t, dirs, uidA, "10.127.0.2/32")
	if err := Down(dirs, uidA); err != nil {
		t.Fatal(err)
	}
}

func TestUpRefuses(t *testing.T) {
	dirs := testDirs(t)
	newPod(t, dirs, uidB, "192.168.0.1")
	var h hooks
	for uid, want := range map[api.UID]string{"../../../etc/passwd": "16 characters are needed", uidA: "no such file", uidB: "want one of 10.127.0.0/16"} {
		if err := Up(t.Context(), dirs, uid, h.hooks()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", uid, err, want)
		}
	}
	if err := Down(dirs, "../x"); err == nil {
		t.Error("Down takes any uid")
	}
}

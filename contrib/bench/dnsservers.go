package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/story"
	"gearmesh.dev/dnsd"
)

// The ports of P6's servers on loopback.
const (
	ourPort = 5391 + iota
	knotPort
	unboundPort
	dnsmasqPort
)

// dnsServer is a DNS server that runs on this machine.
type dnsServer struct {
	name string
	port int
	argv []string
	cmd  *exec.Cmd
}

// onCPU gives the command line that keeps a program on one processor: servers have the first and dnsperf the
// second, so that they do not take it from each other. On a machine with one they share it.
func onCPU(n int, argv ...string) []string {
	return append([]string{"taskset", "-c", strconv.Itoa(min(n, runtime.NumCPU()-1))}, argv...)
}

// startServers starts all servers with the same names, and waits until each answers.
func startServers(ctx context.Context, dir string) (all []*dnsServer, err error) {
	if err := writeConfigs(dir); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	knot := "127.0.0.1#" + strconv.Itoa(knotPort)
	for _, s := range []*dnsServer{
		{name: "knot", port: knotPort, argv: []string{"/usr/sbin/knotd", "-c", file("knot.conf")}},
		{name: "dnsd", port: ourPort, argv: []string{self, "-serve-names"}},
		{name: "unbound", port: unboundPort, argv: []string{"/usr/sbin/unbound", "-d", "-c", file("unbound.conf")}},
		{name: "dnsmasq", port: dnsmasqPort, argv: []string{"/usr/sbin/dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--bind-interfaces",
			"--listen-address=127.0.0.1", "--port=" + strconv.Itoa(dnsmasqPort), "--addn-hosts=" + file("hosts"), "--cache-size=20000", "--dns-forward-max=2000", "--local-ttl=5", "--pid-file=",
			"--server=/" + dnsWorld + "/" + knot}},
	} {
		if err := s.start(ctx, dir); err != nil {
			return all, err
		}
		all = append(all, s)
		if err := s.answers(ctx); err != nil {
			text, _ := os.ReadFile(file(s.name + ".log")) // what is known of the reason
			return all, fmt.Errorf("%w; it said %.600s", err, text)
		}
	}
	return all, nil
}

func (s *dnsServer) start(ctx context.Context, dir string) error {
	out, err := os.Create(filepath.Join(dir, s.name+".log"))
	if err != nil {
		return err
	}
	defer out.Close() // the server has it too
	argv := onCPU(0, s.argv...)
	s.cmd = exec.CommandContext(ctx, argv[0], argv[1:]...)
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.Env = out, out, append(os.Environ(), "GOMAXPROCS=1")
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", s.name, err)
	}
	return nil
}

// answers waits for the last name, and for a forwarded one.
func (s *dnsServer) answers(ctx context.Context) error {
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, "127.0.0.1:"+strconv.Itoa(s.port))
	}}
	return story.Until(ctx, 20*time.Second, func() error {
		for _, domain := range []string{domain, dnsWorld} {
			if _, err := addresses(ctx, r, benchName(dnsNames-1, domain)); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
		return nil
	})
}

func stopServers(all []*dnsServer) error {
	var errs []error
	for _, s := range all {
		errs = append(errs, s.cmd.Process.Signal(syscall.SIGTERM))
		_ = s.cmd.Wait() // how it ends is not measured
	}
	return errors.Join(errs...)
}

// cpuTime gives what a server has used.
func (s *dnsServer) cpuTime() (time.Duration, error) { return cpuOf(s.cmd.Process.Pid) }

// cpuOf gives what a process has used, of all its threads.
func cpuOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0, fmt.Errorf("reading the processor time of process %d: %q", pid, text)
	}
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2) // ticks of 1/100 s (proc(5))
}

// writeConfigs writes what the peers of dnsd read.
func writeConfigs(dir string) error {
	head := "@ 5 SOA n1 hostmaster 1 60 10 3600 5\n@ 5 NS n1\nn1 5 A 192.0.2.1\n"
	zones := map[string]*strings.Builder{domain: {}, dnsWorld: {}}
	var hosts, local strings.Builder
	for i := range dnsNames {
		a := benchAddress(i)
		for name, z := range zones {
			fmt.Fprintf(z, "%s. %d A %s\n", benchName(i, name), map[string]int{domain: 5, dnsWorld: 3600}[name], a)
		}
		fmt.Fprintf(&hosts, "%s %s\n", a, benchName(i, domain))
		fmt.Fprintf(&local, "  local-data: \"%s. 5 A %s\"\n", benchName(i, domain), a)
	}
	for file, text := range map[string]string{
		"gear.zone": head + zones[domain].String(), "world.zone": head + zones[dnsWorld].String(), "hosts": hosts.String(),
		"knot.conf": fmt.Sprintf(knotConf, dir, knotPort, dir, domain, dir, dnsWorld, dir), "unbound.conf": fmt.Sprintf(unboundConf, unboundPort, dir, domain) + local.String() +
			fmt.Sprintf("forward-zone:\n  name: %q\n  forward-addr: 127.0.0.1@%d\n", dnsWorld, knotPort),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

const knotConf = `server:
  rundir: %s
  user: root
  listen: 127.0.0.1@%d
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
database:
  storage: %s
zone:
  - domain: %s
    file: %s/gear.zone
    journal-content: none
    zonefile-load: whole
  - domain: %s
    file: %s/world.zone
    journal-content: none
    zonefile-load: whole
log:
  - target: stderr
    any: warning
`

const unboundConf = `server:
  interface: 127.0.0.1
  port: %d
  directory: %q
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  num-threads: 1
  module-config: "iterator"
  do-not-query-localhost: no
  access-control: 127.0.0.0/8 allow
  msg-cache-size: 64m
  rrset-cache-size: 128m
  local-zone: %q static
`

// benchAddress gives the address of the ith service.
func benchAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}) }

// serveNames is our server of P6, a process of its own: one socket, one thread that runs Go.
func serveNames(ctx context.Context) error {
	var d api.Directory
	d.Hosts = []api.HostEntry{{Name: "n1", Address: netip.MustParseAddr("192.0.2.1")}}
	e := api.HostEndpoints{Host: "n1"}
	for i := range dnsNames {
		project, name := api.Name("p"+strconv.Itoa(i%50)), api.Name("s"+strconv.Itoa(i))
		d.Services = append(d.Services, api.ServiceEntry{Project: project, Name: name, Ports: []api.Port{{Name: "http", Port: 80}}})
		e.Endpoints = append(e.Endpoints, api.Endpoint{Project: project, Service: name, Pod: name, Port: "http", Address: netip.AddrPortFrom(benchAddress(i), 20000), Ready: true})
	}
	d.Endpoints = []api.HostEndpoints{e}
	limits := dnsd.DefaultLimits()
	limits.Sockets, limits.Cached = 1, 2*dnsNames
	s, err := dnsd.New(dnsd.Config{Listen: []netip.AddrPort{loopback(ourPort)}, Source: dnsd.Static{Zone: dnsd.NewZone(d, dnsd.Options{}), Recurse: true},
		Split: []dnsd.Route{{Domain: dnsWorld, Servers: []netip.AddrPort{loopback(knotPort)}}}, Limits: limits, Logger: slog.Default()})
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// loopback gives a port of loopback.
func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

package install

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/hostexec"
)

// DefaultDomain is the DNS domain of a cluster that names no other.
const DefaultDomain = api.Hostname("gear.internal")

// Options say what host to set up, and how. The zero value is this host, with its own name and address.
type Options struct {
	// Root is put before every path; "/" when empty. Tests use a directory.
	Root string
	// Binaries is where gear, geard and gear-run are taken from when /usr/local/bin lacks them;
	// the running program's directory when empty.
	Binaries string
	// Name is the host's; the first label of its host name when empty.
	Name api.Name
	// Address is where other hosts reach this one; that of the default route's interface when zero.
	Address netip.Addr
	// Labels are the host's. RouterLabel makes it run a router.
	Labels map[string]string
	// Domain is the cluster's DNS domain; DefaultDomain when empty. Only Up uses it.
	Domain api.Hostname
	// Context names the cluster in the client's configuration; "default" when empty. Only Up uses it.
	Context string
	// MasterPort is the master's TCP port; 7443 when 0. Only Up uses it.
	MasterPort uint16
	// Patience is how long a daemon may take to be ready; 60s when 0.
	Patience time.Duration
	// Poll is the time between two questions of a host that waits for approval; 2s when 0.
	Poll time.Duration
	// Progress is told of each step that has ended, and of one that waits for a person; nil means nobody listens.
	Progress func(Step)
	// Runner runs the host's commands; nil means they are run.
	Runner Runner
}

// Runner runs a command of the host, found in the host's own path, and gives its output.
type Runner interface {
	Run(ctx context.Context, argv ...string) (string, error)
}

// hostRunner is the Runner of a real host.
type hostRunner struct{}

var _ Runner = hostRunner{}

// Run implements Runner.
func (hostRunner) Run(ctx context.Context, argv ...string) (string, error) {
	out, err := hostexec.Run(ctx, hostexec.Cmd{Argv: argv})
	return string(out), err
}

// installer carries the options through the steps.
type installer struct {
	Options
}

// complete fills in what the options leave out, and checks the rest.
func (o Options) complete() (*installer, error) {
	if o.Root == "" {
		o.Root = "/"
	}
	if o.Domain == "" {
		o.Domain = DefaultDomain
	}
	if o.Context == "" {
		o.Context = "default"
	}
	if o.MasterPort == 0 {
		o.MasterPort = 7443
	}
	if o.Patience == 0 {
		o.Patience = time.Minute
	}
	if o.Poll == 0 {
		o.Poll = 2 * time.Second
	}
	if o.Runner == nil {
		o.Runner = hostRunner{}
	}
	if err := o.identify(); err != nil {
		return nil, err
	}
	return &installer{o}, nil
}

// identify fills in who this host is.
func (o *Options) identify() error {
	if o.Name == "" {
		hostname, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("finding the host's name: %w; give one with --name", err)
		}
		first, _, _ := strings.Cut(strings.ToLower(hostname), ".")
		o.Name = api.Name(first)
	}
	if err := o.Name.Validate(); err != nil {
		return fmt.Errorf("the host's name: %w; give another with --name", err)
	}
	if !o.Address.IsValid() {
		addr, err := defaultAddress()
		if err != nil {
			return err
		}
		o.Address = addr
	}
	if o.Binaries == "" {
		exe, err := os.Executable()
		if err != nil {
			return fmt.Errorf("finding the running program: %w", err)
		}
		o.Binaries = filepath.Dir(exe)
	}
	return o.Domain.Validate()
}

// path gives a path of the host.
func (i *installer) path(p string) string { return filepath.Join(i.Root, p) }

// defaultAddress gives the address from which this host would reach the world, or else its first
// global one. Connecting a UDP socket asks the kernel for the route and sends nothing (udp(7)).
func defaultAddress() (netip.Addr, error) {
	for _, far := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		conn, err := net.Dial("udp", far)
		if err != nil {
			continue
		}
		local := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		conn.Close()
		if usable(local) {
			return local, nil
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("finding this host's address: %w; give it with --address", err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && usable(p.Addr()) {
			return p.Addr(), nil
		}
	}
	return netip.Addr{}, errors.New("this host has no address that others could reach; give one with --address")
}

func usable(a netip.Addr) bool { return a.IsGlobalUnicast() && a.Zone() == "" }

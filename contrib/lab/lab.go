package lab

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// Lab is one lab of this machine. It holds no state of its own: everything is
// read from disk and kernel at each call, so any number of processes may have
// one. Verbs that change the lab exclude each other by a lock file.
type Lab struct {
	cfg Config

	progressMu sync.Mutex // serialises cfg.Progress
}

// New checks cfg and returns the lab it names. It touches nothing.
func New(cfg Config) (*Lab, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Lab{cfg: cfg}, nil
}

// say reports a step that began at start.
func (l *Lab) say(host, what string, start time.Time) {
	l.progressMu.Lock()
	defer l.progressMu.Unlock()
	l.cfg.Progress(Step{Host: host, What: what, Elapsed: time.Since(start)})
}

// prefix starts the name of everything that belongs to the lab's hosts. A lab
// name has no dash, so no lab's prefix begins another's.
func (l *Lab) prefix() string { return l.switchNS() + "-" }

// switchNS names the switch's network namespace and the outer machine's link to it.
func (l *Lab) switchNS() string { return "gl-" + l.cfg.Name }

func (l *Lab) dir() string      { return filepath.Join(l.cfg.StateDir, l.cfg.Name) }
func (l *Lab) hostsDir() string { return filepath.Join(l.dir(), "hosts") }

// host is one host of the lab: where its parts are.
type host struct {
	name  string     // h1
	scope string     // gl-demo-h1: network namespace and cgroups
	dir   string     // disk and pid file
	addr  netip.Addr // on the lab's network; invalid if the subnet is unknown
}

var hostName = regexp.MustCompile(`^h([1-9][0-9]{0,2})$`)

// hostIndex returns 7 for "h7".
func hostIndex(name string) (int, error) {
	m := hostName.FindStringSubmatch(name)
	if m == nil {
		return 0, fmt.Errorf("host %q: want a name like \"h1\"", name)
	}
	i, err := strconv.Atoi(m[1])
	if err != nil || i > MaxHosts {
		return 0, fmt.Errorf("host %q: a lab has at most %d hosts", name, MaxHosts)
	}
	return i, nil
}

func (l *Lab) host(name string, subnet netip.Prefix) (host, error) {
	i, err := hostIndex(name)
	if err != nil {
		return host{}, err
	}
	h := host{name: name, scope: l.prefix() + name, dir: filepath.Join(l.hostsDir(), name)}
	if subnet.IsValid() {
		h.addr = nth(subnet, 10+i)
	}
	return h, nil
}

func (h host) file(name string) string { return filepath.Join(h.dir, name) }

// netns is the file of the host's network namespace.
func (h host) netns() string { return filepath.Join(netnsDir, h.scope) }

// nth returns the address of a /24 whose last byte is n.
func nth(subnet netip.Prefix, n int) netip.Addr {
	a := subnet.Addr().As4()
	a[3] = byte(n)
	return netip.AddrFrom4(a)
}

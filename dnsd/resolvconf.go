package dnsd

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// ResolvConf gives a function for Config.Upstreams: the name servers of a file such as
// /etc/resolv.conf, but for those that are this server itself, which would be a loop. The file is looked
// at again every few seconds, since DHCP clients rewrite it. Own are the addresses listened on.
func ResolvConf(path string, own []netip.AddrPort) func() []netip.AddrPort {
	r := &resolvConf{path: path, own: own}
	return r.servers
}

type resolvConf struct {
	path string
	own  []netip.AddrPort

	mu   sync.Mutex
	read time.Time
	last []netip.AddrPort
}

const rereadAfter = 5 * time.Second

func (r *resolvConf) servers() []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); r.read.IsZero() || now.Sub(r.read) >= rereadAfter {
		r.read = now
		if f, err := os.Open(r.path); err == nil { // a file that is just being replaced: keep the last
			r.last = foreignServers(parseResolvConf(f), ownAddresses(r.own))
			f.Close()
		}
	}
	return r.last
}

// parseResolvConf gives the name servers (resolv.conf(5)), at most eight.
func parseResolvConf(text io.Reader) []netip.Addr {
	var out []netip.Addr
	for lines := bufio.NewScanner(text); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" || len(out) == 8 {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// foreignServers leaves out our own addresses.
func foreignServers(servers []netip.Addr, own map[netip.Addr]bool) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range servers {
		if !own[a.Unmap().WithZone("")] && !a.IsUnspecified() {
			out = append(out, netip.AddrPortFrom(a, 53))
		}
	}
	return out
}

// ownAddresses gives the addresses listened on; the unspecified one means all of the host's.
func ownAddresses(listen []netip.AddrPort) map[netip.Addr]bool {
	own := map[netip.Addr]bool{}
	for _, l := range listen {
		own[l.Addr().Unmap()] = true
		if !l.Addr().IsUnspecified() {
			continue
		}
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				own[p.Addr().Unmap().WithZone("")] = true
			}
		}
	}
	return own
}

package realhost

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
	"gearmesh.dev/linker"
)

// FindIPv6 gives a function that finds the IPv6 addresses of the host whose IPv4 address is given. The first is one of the same interface, or is fixed
// unless that is the zero one. Once it is found it is kept while the interface has it, and while the interface has none at all: the kernel takes addresses away while
// a cable is out, and those of pods shall not come and go with it. On a kernel that cannot hold pods to rules over IPv6 it is one of the further ones, so that
// pods have none, and others know what to keep theirs from.
func FindIPv6(address, fixed netip.Addr, log *slog.Logger) func() api.HostIPv6 {
	f := &ipv6Finder{address: address, fixed: fixed, last: fixed, log: log}
	return f.find
}

type ipv6Finder struct {
	address, fixed netip.Addr
	log            *slog.Logger

	mu    sync.Mutex
	news  *addressNews
	found addresses // as they were last read
	last  netip.Addr
	works bool      // the host can lay the rules
	next  time.Time // when to try that again
	why   string    // it cannot, as was said last
}

func (f *ipv6Finder) find() api.HostIPv6 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.news == nil {
		f.news = watchAddresses()
	}
	if f.news.any() {
		f.found = readAddresses(f.address)
	}
	if !f.fixed.IsValid() {
		f.last = chooseIPv6(f.found.beside, f.last)
	}
	var out api.HostIPv6
	if f.last.IsValid() && f.worksLocked() {
		out.IPv6 = f.last
	}
	out.AlsoIPv6 = alsoIPv6(f.found.all, out.IPv6)
	return out
}

// addresses are a host's IPv6 addresses, and those of them that its interface has.
type addresses struct{ all, beside []netlink.Addr }

// readAddresses asks the kernel. An error is as good as none.
func readAddresses(address netip.Addr) addresses {
	all, err := netlink.AddrList(nil, netlink.FAMILY_V6)
	if err != nil {
		return addresses{}
	}
	return addresses{all, ipv6Beside(address, all)}
}

// retryIPv6 is how long after a failure the rules are tried again: the machine may just have had no memory.
const retryIPv6 = time.Minute

func (f *ipv6Finder) worksLocked() bool {
	if f.works || time.Now().Before(f.next) {
		return f.works
	}
	err := linker.TryIPv6(context.Background())
	if f.works = err == nil; !f.works {
		f.next = time.Now().Add(retryIPv6)
		if f.why != err.Error() {
			f.log.Warn("pods get no IPv6, since this host cannot lay the rules for it", "err", err)
		}
		f.why = err.Error()
	}
	return f.works
}

// alsoIPv6 gives the addresses by which others may reach this host besides its first, in order.
func alsoIPv6(all []netlink.Addr, first netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range all {
		if addr := addressOf(a); addr != first && api.CheckHostIPv6(addr) == nil {
			out = append(out, addr)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	out = slices.Compact(out)
	return out[:min(len(out), api.MaxAlsoIPv6)]
}

// ipv6Beside gives those of all IPv6 addresses that the interface with an address has. An error is as good as none.
func ipv6Beside(address netip.Addr, all []netlink.Addr) []netlink.Addr {
	four, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil
	}
	i := slices.IndexFunc(four, func(a netlink.Addr) bool { return a.IP.Equal(address.AsSlice()) })
	if i < 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(all), func(a netlink.Addr) bool { return a.LinkIndex != four[i].LinkIndex })
}

// chooseIPv6 gives last when it is still there or nothing else is. Else an address that somebody has set goes before one of a router's
// announcement, a public one before a private one (RFC 4193), and the lowest of equals. Those that change by themselves
// (RFC 8981), or are not or no longer to be used, do not count.
func chooseIPv6(all []netlink.Addr, last netip.Addr) netip.Addr {
	var found []netlink.Addr
	for _, a := range all {
		if api.CheckHostIPv6(addressOf(a)) == nil && a.Flags&(unix.IFA_F_TEMPORARY|unix.IFA_F_TENTATIVE|unix.IFA_F_DEPRECATED|unix.IFA_F_DADFAILED) == 0 {
			found = append(found, a)
		}
	}
	if len(found) == 0 || slices.ContainsFunc(found, func(a netlink.Addr) bool { return addressOf(a) == last }) {
		return last
	}
	return addressOf(slices.MinFunc(found, func(a, b netlink.Addr) int {
		return cmp.Or(b.Flags&unix.IFA_F_PERMANENT-a.Flags&unix.IFA_F_PERMANENT, private(a)-private(b), addressOf(a).Compare(addressOf(b)))
	}))
}

func private(a netlink.Addr) int {
	if addressOf(a).IsPrivate() {
		return 1
	}
	return 0
}

func addressOf(a netlink.Addr) netip.Addr {
	addr, _ := netip.AddrFromSlice(a.IP)
	return addr
}

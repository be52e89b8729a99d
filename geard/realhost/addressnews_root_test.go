//go:build root

package realhost

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inNewNetwork moves the test into a network namespace of its own, with a thread that ends with it.
func inNewNetwork(t *testing.T) netlink.Link {
	t.Helper()
	runtime.LockOSThread() // and never unlock it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	return lo
}

func TestAddressNews(t *testing.T) {
	lo := inNewNetwork(t)
	n := watchAddresses()
	if !n.any() {
		t.Error("at first nothing is known, and it says that it is")
	}
	for _, s := range []string{"192.0.2.1/32", "2001:db8::1/128"} {
		a, err := netlink.ParseAddr(s)
		if err != nil {
			t.Fatal(err)
		}
		for n.any() { // what lo's own address does may come late
		}
		if err := netlink.AddrAdd(lo, a); err != nil {
			t.Fatal(err)
		}
		for !n.any() { // the kernel tells of an IPv6 address a moment later; the test's own time limit ends this
			time.Sleep(time.Millisecond)
		}
		for n.any() {
		}
		if err := netlink.AddrDel(lo, a); err != nil {
			t.Fatal(err)
		}
		for !n.any() {
			time.Sleep(time.Millisecond)
		}
	}
	n.sure = time.Now()
	if !n.any() {
		t.Error("news are trusted for ever")
	}
	n.socket.Close()
	if !n.any() || n.socket != nil {
		t.Error("a socket that is closed is listened to")
	}
}

// TestFindIPv6 follows the addresses of an interface.
func TestFindIPv6(t *testing.T) {
	lo := inNewNetwork(t)
	add := func(s string) {
		t.Helper()
		a, err := netlink.ParseAddr(s)
		if err == nil {
			a.Flags = unix.IFA_F_NODAD
			err = netlink.AddrAdd(lo, a)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	add("192.0.2.1/32")
	f := &ipv6Finder{address: netip.MustParseAddr("192.0.2.1"), works: true}
	if got := f.find(); got.IPv6.IsValid() {
		t.Errorf("it has none, and %v was found", got)
	}
	finds := func(also int) {
		t.Helper()
		for got := f.find(); got.IPv6 != netip.MustParseAddr("2001:db8::1") || len(got.AlsoIPv6) != also; got = f.find() {
			time.Sleep(time.Millisecond) // the test's own time limit ends this
		}
	}
	add("2001:db8::1/128")
	finds(0)
	add("2001:db8::2/128")
	finds(1)
	if got := f.find(); got.IPv6 != netip.MustParseAddr("2001:db8::1") || len(got.AlsoIPv6) != 1 {
		t.Errorf("without news it found %v", got)
	}
}

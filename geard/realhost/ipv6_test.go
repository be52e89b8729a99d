package realhost

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestChooseIPv6(t *testing.T) {
	at := func(s string, flags int) netlink.Addr {
		return netlink.Addr{IPNet: &net.IPNet{IP: netip.MustParseAddr(s).AsSlice()}, Flags: flags}
	}
	const set = unix.IFA_F_PERMANENT
	for what, tc := range map[string]struct {
		all        []netlink.Addr
		last, want string
	}{
		"none":             {nil, "", ""},
		"of the link":      {[]netlink.Addr{at("fe80::1", set)}, "", ""},
		"of pods":          {[]netlink.Addr{at("fd67:6561:7200::a7f:1", set)}, "", ""},
		"one":              {[]netlink.Addr{at("fe80::1", set), at("2001:db8::1", 0)}, "", "2001:db8::1"},
		"set before found": {[]netlink.Addr{at("2001:db8::1", 0), at("fd00::2", set)}, "", "fd00::2"},
		"public before":    {[]netlink.Addr{at("fd00::2", set), at("2001:db8::1", set)}, "", "2001:db8::1"},
		"the lowest":       {[]netlink.Addr{at("2001:db8::2", set), at("2001:db8::1", set)}, "", "2001:db8::1"},
		"the known one":    {[]netlink.Addr{at("2001:db8::1", set), at("2001:db8::2", 0)}, "2001:db8::2", "2001:db8::2"},
		"it is gone":       {[]netlink.Addr{at("2001:db8::1", set)}, "2001:db8::2", "2001:db8::1"},
		"all are gone":     {nil, "2001:db8::2", "2001:db8::2"},
		"a passing one":    {[]netlink.Addr{at("2001:db8::1", unix.IFA_F_TEMPORARY), at("2001:db8::2", unix.IFA_F_DEPRECATED), at("2001:db8::3", set|unix.IFA_F_TENTATIVE)}, "", ""},
	} {
		last, _ := netip.ParseAddr(tc.last)
		if want, _ := netip.ParseAddr(tc.want); chooseIPv6(tc.all, last) != want {
			t.Errorf("%s: got %s, want %s", what, chooseIPv6(tc.all, last), want)
		}
	}
}

func TestAlsoIPv6(t *testing.T) {
	var all []netlink.Addr
	for _, s := range []string{"2001:db8::2", "fe80::1", "::1", "fd67:6561:7200::a7f:1", "fd00::1", "2001:db8::1", "2001:db8::2"} {
		all = append(all, netlink.Addr{IPNet: &net.IPNet{IP: netip.MustParseAddr(s).AsSlice()}, Flags: unix.IFA_F_TEMPORARY})
	}
	got := alsoIPv6(all, netip.MustParseAddr("2001:db8::1"))
	if want := []netip.Addr{netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("fd00::1")}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

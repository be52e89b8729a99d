package api

import (
	"fmt"
	"net/netip"
	"slices"
)

// PodsIPv6 is the network in which every host gives its pods IPv6 addresses. It is a private one (RFC 4193), the same on all hosts, and seen on
// none but the pods' own.
func PodsIPv6() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 'g', 'e', 'a', 'r'}), 96)
}

// HostIPv6 is where a host is reached over IPv6, as its agent has found.
type HostIPv6 struct {
	IPv6     netip.Addr   `json:"ipv6,omitzero" doc:"Its IPv6 address; empty when it has none, and then its pods have none"`
	AlsoIPv6 []netip.Addr `json:"alsoIPv6,omitempty" doc:"Its further ones: what is for members is for them, and pods are kept from its daemons there too"`
}

// AllIPv6 gives all addresses.
func (h HostIPv6) AllIPv6() []netip.Addr {
	out := slices.Clone(h.AlsoIPv6)
	if h.IPv6.IsValid() {
		out = append(out, h.IPv6)
	}
	return out
}

// MaxAlsoIPv6 is how many further addresses a host tells of.
const MaxAlsoIPv6 = 16

// Validate accepts what a host may say.
func (h HostIPv6) Validate() error {
	if h.IPv6.IsValid() {
		if err := CheckHostIPv6(h.IPv6); err != nil {
			return err
		}
	}
	if n := len(h.AlsoIPv6); n > MaxAlsoIPv6 {
		return fmt.Errorf("%d further addresses; a host may have %d", n, MaxAlsoIPv6)
	}
	for _, a := range h.AlsoIPv6 {
		if err := CheckHostIPv6(a); err != nil {
			return err
		}
	}
	return nil
}

// CheckHostIPv6 accepts an IPv6 address by which other hosts can reach a host.
func CheckHostIPv6(a netip.Addr) error {
	if !a.Is6() || a.Is4In6() || a.Zone() != "" || !a.IsGlobalUnicast() || PodsIPv6().Contains(a) {
		return fmt.Errorf("%q is no IPv6 address at which other hosts reach a host, such as 2001:db8::1", a)
	}
	return nil
}

package lab

import "net/netip"

// IPv6 gives the IPv6 address of a host of a lab, by its IPv4 address. Each lab has a /64 of its own in a private network (RFC 4193): that of
// 10.99.3.0/24 is fd6c:6162:a63:300::/64, and host 10.99.3.11 is ::b there.
func IPv6(a netip.Addr) netip.Addr {
	b := a.As4()
	return netip.AddrFrom16([16]byte{0xfd, 'l', 'a', 'b', b[0], b[1], b[2], 15: b[3]})
}

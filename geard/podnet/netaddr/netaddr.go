// Package netaddr has the fixed addresses of the pods' network, for those who plan and need no netlink.
package netaddr

import "net/netip"

// Prefix is the pods' network, the same on every host and never routed between them.
func Prefix() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 127, 0, 0}), 16) }

// Gateway is the bridge's own address: the pods' way out and their DNS server.
func Gateway() netip.Addr { return netip.AddrFrom4([4]byte{10, 127, 0, 1}) }

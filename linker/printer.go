package linker

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"gearmesh.dev/api"
)

// word is a part of a rule: a match or a target. Words are constants of this package or made by
// the functions below, whose arguments cannot hold a space or a newline. They are written as
// iptables-save writes them, so that what is read back can be compared as text.
type word string

const (
	accept     word = "-j ACCEPT"
	drop       word = "-j DROP"
	back       word = "-j RETURN"
	masquerade word = "-j MASQUERADE"
	reset      word = "-j REJECT --reject-with tcp-reset"

	overTCP  word = "-p tcp"
	toOthers word = "-m addrtype ! --dst-type LOCAL"
	known    word = "-m conntrack --ctstate RELATED,ESTABLISHED"
	wasDNAT  word = "-m conntrack --ctstate DNAT"
	asked    word = "-m conntrack --ctdir ORIGINAL"
	seldom   word = "-m limit --limit 6/min"
	astray   word = "-m rpfilter --invert" // from where no answer would go
)

func from(p netip.Prefix) word   { return word("-s " + p.String()) }
func to(p netip.Prefix) word     { return word("-d " + p.String()) }
func in(i iface) word            { return word("-i " + string(i)) }
func notIn(i iface) word         { return word("! -i " + string(i)) }
func out(i iface) word           { return word("-o " + string(i)) }
func call(chain string) word     { return word("-j " + chain) }
func dnat(a netip.AddrPort) word { return word("-j DNAT --to-destination " + a.String()) }
func dnatHost(a netip.Addr) word { return word("-j DNAT --to-destination " + a.String()) }
func snat(a netip.Addr) word     { return word("-j SNAT --to-source " + a.String()) }

// tell gives a packet to whoever listens to RefusedGroup, with the interface's name.
func tell(i iface) word {
	return word("-j NFLOG --nflog-prefix " + string(i) + " --nflog-group " + strconv.Itoa(RefusedGroup))
}

// dport matches a protocol and a destination port.
func dport(p api.Protocol, port uint16) word {
	return word(fmt.Sprintf("-p %s -m %s --dport %d", p, p, port))
}

// dports matches a protocol and a range of destination ports.
func dports(p api.Protocol, first, last uint16) word {
	return word(fmt.Sprintf("-p %s -m %s --dport %d:%d", p, p, first, last))
}

// because notes in a rule whose it is, such as "link:db"; iptables-save puts quotes around a colon.
func because(kind string, n api.Name) word {
	return word(`-m comment --comment "` + kind + ":" + string(n) + `"`)
}

// share matches that many packets of so many by chance. The kernel keeps the probability as a multiple of
// 2^-31 (xt_statistic.h); rounding here as it does makes the text that iptables-save prints.
func share(n, of int) word {
	p := math.Round((1<<31)*float64(n)/float64(of)) / (1 << 31)
	return word("-m statistic --mode random --probability " + strconv.FormatFloat(p, 'f', 11, 64))
}

// add appends a rule to c.
func (c *chain) add(words ...word) {
	parts := make([]string, len(words))
	for i, w := range words {
		parts[i] = string(w)
	}
	c.rules = append(c.rules, strings.Join(parts, " "))
}

func filter(c ...chain) table { return ordered("filter", c) }
func nat(c ...chain) table    { return ordered("nat", c) }
func raw(c ...chain) table    { return ordered("raw", c) }

// ordered gives a table with its chains sorted by name, the order in which Read gives them too.
func ordered(name string, chains []chain) table {
	slices.SortFunc(chains, func(a, b chain) int { return strings.Compare(a.name, b.name) })
	return table{name: name, chains: chains}
}

// host gives the prefix of one address.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// iface is the name of a network interface, checked by checkIface.
type iface string

// checkIface accepts a name of 1 to 15 letters, digits and hyphens (IFNAMSIZ is 16). A final plus
// stands for all interfaces whose names begin so (iptables(8), --in-interface).
func checkIface(name string) (iface, error) {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-"
	stem := strings.TrimSuffix(name, "+")
	if stem == "" || len(name) > 15 || strings.Trim(stem, letters) != "" || stem[0] == '-' {
		return "", fmt.Errorf("interface %q: 1 to 15 of a-z, 0-9 and inner hyphens are needed, such as %q", name, "gear0")
	}
	return iface(name), nil
}

// checkAddr accepts an IPv4 address that a host or pod can have.
func checkAddr(a netip.Addr) error {
	switch {
	case !a.IsValid():
		return errors.New("an address is needed")
	case !a.Is4():
		return fmt.Errorf("address %s: IPv4 is needed", a)
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("address %s is not that of a host or pod", a)
	}
	return nil
}

// checkPort accepts a protocol and a port.
func checkPort(p api.Protocol, port uint16) error {
	if p != api.TCP && p != api.UDP {
		return fmt.Errorf("protocol %q: tcp or udp is needed", p)
	}
	if port == 0 {
		return errors.New("port 0: 1 to 65535 is needed")
	}
	return nil
}

package linker

import (
	"encoding/binary"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Sizes of what iptables extensions keep in the kernel, rounded up to 8 bytes (XT_ALIGN in linux/netfilter/x_tables.h).
const (
	sizeComment   = 256 // xt_comment.h
	sizeConntrack = 168 // xt_conntrack.h, xt_conntrack_mtinfo3
	sizeStatistic = 24  // xt_statistic.h
	sizeDNAT      = 48  // nf_nat.h, nf_nat_range2
	sizeSNAT      = 24  // nf_nat.h, nf_nat_ipv4_multi_range_compat
	sizeSNAT6     = 40  // nf_nat.h, nf_nat_range
	sizeReject    = 8   // ipt_REJECT.h, ip6t_REJECT.h
)

// binaryRule is a rule in the form in which iptables-nft keeps it in the kernel: expressions of nf_tables, those
// for which it has no native form wrapped as x_tables extensions. Reading it back, iptables-save prints the text again.
type binaryRule struct {
	family   uint8 // unix.AF_INET or AF_INET6
	protocol uint8 // 0 for any

	out, proto, from, to, rest []*nl.RtAttr // iptables writes them in this order, whatever that of the words

	target *nl.RtAttr
}

// express gives a rule's binary form; false when it has a word that rules of links do not have. It is iptables'
// own form (nft_ipv4_add and add_match in iptables/nft-ipv4.c and nft.c of 1.8.9), of which NewWriter's
// trial makes sure.
func express(family uint8, rule string) (binaryRule, bool) {
	r := binaryRule{family: family}
	words := strings.Fields(rule)
	for len(words) >= 2 {
		n := r.word(words)
		if n == 0 {
			return r, false
		}
		words = words[n:]
	}
	return r, len(words) == 0 && r.target != nil
}

// word adds the first word of a rule and its arguments, and gives how many strings it has taken; 0 for one it does not know.
func (r *binaryRule) word(w []string) int {
	ok, n := false, 2
	switch arg := w[1]; w[0] {
	case "-p":
		ok = r.overProtocol(arg)
	case "-s":
		r.from, ok = r.prefix(arg, 12, 8)
	case "-d":
		r.to, ok = r.prefix(arg, 16, 24)
	case "-o":
		r.out, ok = iface(arg).express()
	case "-m":
		ok = arg == "tcp" || arg == "udp" || arg == "comment" || arg == "statistic" || arg == "conntrack"
	case "--dport":
		ok = r.dport(arg)
	case "--comment":
		ok = r.comment(arg)
	case "--ctdir":
		ok = r.direction(arg)
	case "--ctstate":
		ok = r.state(arg)
	case "--mode":
		n, ok = 4, len(w) > 3 && arg == "random" && w[2] == "--probability" && r.chance(w[3])
	case "-j":
		n, ok = 4, len(w) == 4 && r.jump(arg, w[2], w[3])
	}
	if !ok {
		return 0
	}
	return n
}

func (r *binaryRule) overProtocol(name string) bool {
	r.protocol = map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}[name]
	r.proto = []*nl.RtAttr{meta(unix.NFT_META_L4PROTO), equal([]byte{r.protocol})}
	return r.protocol != 0
}

// prefix compares an address, which is at a place of its own in the header of each family. A part of it that is
// no whole number of bytes would need a mask.
func (r *binaryRule) prefix(arg string, at4, at6 int32) ([]*nl.RtAttr, bool) {
	p, err := netip.ParsePrefix(arg)
	if err != nil || p.Bits()%8 != 0 || p.Bits() == 0 || p.Addr().Is4() != (r.family == unix.AF_INET) {
		return nil, false
	}
	at := at4
	if r.family == unix.AF_INET6 {
		at = at6
	}
	want := p.Addr().AsSlice()[:p.Bits()/8]
	return []*nl.RtAttr{payload(unix.NFT_PAYLOAD_NETWORK_HEADER, at, len(want)), equal(want)}, true
}

func (i iface) express() ([]*nl.RtAttr, bool) {
	if _, err := checkIface(string(i)); err != nil || strings.HasSuffix(string(i), "+") {
		return nil, false
	}
	return []*nl.RtAttr{meta(unix.NFT_META_OIFNAME), equal(nl.ZeroTerminated(string(i)))}, true
}

func (r *binaryRule) dport(arg string) bool {
	port, err := strconv.ParseUint(arg, 10, 16)
	r.rest = append(r.rest, payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2), equal(binary.BigEndian.AppendUint16(nil, uint16(port))))
	return err == nil && r.protocol != 0
}

func (r *binaryRule) comment(quoted string) bool {
	s, err := strconv.Unquote(quoted)
	info := make([]byte, sizeComment)
	copy(info, s)
	r.rest = append(r.rest, extension("match", unix.NFTA_MATCH_NAME, "comment", 0, info))
	return err == nil && len(s) < sizeComment
}

// direction matches packets that go the way of their flow's first (XT_CONNTRACK_DIRECTION).
func (r *binaryRule) direction(arg string) bool {
	const flags, direction = 146, 1 << 12
	info := make([]byte, sizeConntrack)
	binary.NativeEndian.PutUint16(info[flags:], direction)
	r.rest = append(r.rest, extension("match", unix.NFTA_MATCH_NAME, "conntrack", 3, info))
	return arg == "ORIGINAL"
}

// state matches packets of flows whose destination has been translated (XT_CONNTRACK_STATE, XT_CONNTRACK_STATE_DNAT).
func (r *binaryRule) state(arg string) bool {
	const flags, states, state, dnat = 146, 150, 1 << 0, 1 << 7
	info := make([]byte, sizeConntrack)
	binary.NativeEndian.PutUint16(info[flags:], state)
	binary.NativeEndian.PutUint16(info[states:], dnat)
	r.rest = append(r.rest, extension("match", unix.NFTA_MATCH_NAME, "conntrack", 3, info))
	return arg == "DNAT"
}

// chance matches by chance. iptables leaves the number in the place of another mode's counter too.
func (r *binaryRule) chance(arg string) bool {
	p, err := strconv.ParseFloat(arg, 64)
	info := make([]byte, sizeStatistic)
	for _, at := range []int{4, 12} {
		binary.NativeEndian.PutUint32(info[at:], uint32(math.Round(p*(1<<31))))
	}
	r.rest = append(r.rest, extension("match", unix.NFTA_MATCH_NAME, "statistic", 0, info))
	return err == nil && 0 <= p && p <= 1
}

// jump sets the target, with its one option.
func (r *binaryRule) jump(target, option, value string) bool {
	var info []byte
	var revision int32
	switch target + " " + option {
	case "DNAT --to-destination":
		info, revision = r.toDestination(value), 2
	case "SNAT --to-source":
		info, revision = r.toSource(value)
	case "REJECT --reject-with":
		info = r.rejection(value)
	}
	r.target = extension("target", unix.NFTA_TARGET_NAME, target, revision, info)
	return info != nil
}

// What a range of NAT has (nf_nat.h).
const (
	natIPs   = 1 // NF_NAT_RANGE_MAP_IPS
	natPorts = 2 // NF_NAT_RANGE_PROTO_SPECIFIED
)

// toDestination gives a range of one address, and of one port where there is one: flags, then first and last of each.
func (r *binaryRule) toDestination(value string) []byte {
	flags := uint32(natIPs | natPorts)
	a, err := netip.ParseAddrPort(value)
	if bare, e := netip.ParseAddr(value); e == nil {
		a, err, flags = netip.AddrPortFrom(bare, 0), nil, natIPs
	}
	if err != nil || !r.has(a.Addr()) {
		return nil
	}
	info := make([]byte, sizeDNAT)
	binary.NativeEndian.PutUint32(info, flags)
	copy(info[4:], a.Addr().AsSlice())
	copy(info[20:], a.Addr().AsSlice())
	binary.BigEndian.PutUint16(info[36:], a.Port())
	binary.BigEndian.PutUint16(info[38:], a.Port())
	return info
}

// toSource gives one range of one address, and the revision of the target that it is for.
func (r *binaryRule) toSource(value string) ([]byte, int32) {
	a, err := netip.ParseAddr(value)
	if err != nil || !r.has(a) {
		return nil, 0
	}
	if a.Is6() {
		info := make([]byte, sizeSNAT6)
		binary.NativeEndian.PutUint32(info, natIPs)
		copy(info[4:], a.AsSlice())
		copy(info[20:], a.AsSlice())
		return info, 1
	}
	info := make([]byte, sizeSNAT)
	binary.NativeEndian.PutUint32(info, 1)
	binary.NativeEndian.PutUint32(info[4:], natIPs)
	copy(info[8:], a.AsSlice())
	copy(info[12:], a.AsSlice())
	return info, 0
}

// has tells whether an address is of the rule's version of IP.
func (r *binaryRule) has(a netip.Addr) bool { return a.Is4() == (r.family == unix.AF_INET) }

// rejection gives how a packet is answered (enum ipt_reject_with, ip6t_reject_with).
func (r *binaryRule) rejection(with string) []byte {
	codes := map[string]uint32{"icmp-port-unreachable": 3, "tcp-reset": 7}
	if r.family == unix.AF_INET6 {
		codes = map[string]uint32{"icmp6-port-unreachable": 4, "tcp-reset": 6}
	}
	code, ok := codes[with]
	if !ok {
		return nil
	}
	info := make([]byte, sizeReject)
	binary.NativeEndian.PutUint32(info, code)
	return info
}

// attrs gives what a message that makes the rule has, besides where it goes. Targets such as tcp-reset ask for the protocol.
func (r binaryRule) attrs() []*nl.RtAttr {
	list := nested(unix.NFTA_RULE_EXPRESSIONS)
	for _, part := range [][]*nl.RtAttr{r.out, r.proto, r.from, r.to, r.rest, {counter(), r.target}} {
		for _, e := range part {
			list.AddChild(e)
		}
	}
	if r.protocol == 0 {
		return []*nl.RtAttr{list}
	}
	return []*nl.RtAttr{list, nested(unix.NFTA_RULE_COMPAT,
		number(unix.NFTA_RULE_COMPAT_PROTO, int32(r.protocol)), number(unix.NFTA_RULE_COMPAT_FLAGS, 0))}
}

// expression gives one expression of a rule.
func expression(name string, data ...*nl.RtAttr) *nl.RtAttr {
	return nested(unix.NFTA_LIST_ELEM, text(unix.NFTA_EXPR_NAME, name), nested(unix.NFTA_EXPR_DATA, data...))
}

// meta loads what is known of a packet besides its bytes.
func meta(key int32) *nl.RtAttr {
	return expression("meta", number(unix.NFTA_META_KEY, key), number(unix.NFTA_META_DREG, unix.NFT_REG_1))
}

// payload loads n bytes of a header.
func payload(base, offset int32, n int) *nl.RtAttr {
	return expression("payload", number(unix.NFTA_PAYLOAD_DREG, unix.NFT_REG_1), number(unix.NFTA_PAYLOAD_BASE, base),
		number(unix.NFTA_PAYLOAD_OFFSET, offset), number(unix.NFTA_PAYLOAD_LEN, int32(n)))
}

// equal compares what was loaded.
func equal(want []byte) *nl.RtAttr {
	return expression("cmp", number(unix.NFTA_CMP_SREG, unix.NFT_REG_1), number(unix.NFTA_CMP_OP, unix.NFT_CMP_EQ),
		nested(unix.NFTA_CMP_DATA, nl.NewRtAttr(unix.NFTA_DATA_VALUE, want)))
}

func counter() *nl.RtAttr {
	zero := make([]byte, 8)
	return expression("counter", nl.NewRtAttr(unix.NFTA_COUNTER_BYTES, zero), nl.NewRtAttr(unix.NFTA_COUNTER_PACKETS, zero))
}

// extension gives an extension of x_tables: a match or a target, whose attributes follow each other in the same order.
func extension(kind string, name int, what string, revision int32, info []byte) *nl.RtAttr {
	return expression(kind, text(name, what), number(name+1, revision), nl.NewRtAttr(name+2, info))
}

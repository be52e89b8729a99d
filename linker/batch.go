package linker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// errStrange says that a change is none that this file can write, or that a namespace is not as it was said to be.
// iptables-restore can, and knows what to do.
var errStrange = errors.New("the rules are not as they were known")

// step is one message of a batch, without its acknowledgement.
type step struct {
	kind, flags int
	family      uint8
	attrs       []*nl.RtAttr
}

// rewriting gives the changes that turn a table from was to is, which has the same chains: those that differ are emptied and
// filled again. The counters of their rules begin at 0, as with iptables-restore.
func rewriting(family uint8, was, is table) ([]step, error) {
	var all []step
	for i, c := range is.chains {
		if slices.Equal(was.chains[i].rules, c.rules) {
			continue
		}
		in := []*nl.RtAttr{text(unix.NFTA_RULE_TABLE, is.name), text(unix.NFTA_RULE_CHAIN, c.name)}
		all = append(all, step{unix.NFT_MSG_DELRULE, 0, family, in})
		for _, line := range c.rules {
			r, ok := express(family, line)
			if !ok {
				return nil, fmt.Errorf("%w: rule %q has another form", errStrange, line)
			}
			all = append(all, step{unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE | unix.NLM_F_APPEND, family, append(in[:2:2], r.attrs()...)})
		}
	}
	return all, nil
}

// batch gives the messages of changes that the kernel takes whole or not at all, and not at all when the
// generation is another one by then (nfnetlink_rcv_batch in net/netfilter/nfnetlink.c). The last one is acknowledged.
func batch(generation uint32, changes []step) []byte {
	subsystem := binary.NativeEndian.Uint16([]byte{0, unix.NFNL_SUBSYS_NFTABLES}) // in network order
	out := message(unix.NFNL_MSG_BATCH_BEGIN, 0, nl.Nfgenmsg{ResId: subsystem}, number(unix.NFNL_BATCH_GENID, int32(generation)))
	for i, c := range changes {
		if i == len(changes)-1 {
			c.flags |= unix.NLM_F_ACK
		}
		out = append(out, message(unix.NFNL_SUBSYS_NFTABLES<<8|c.kind, c.flags, nl.Nfgenmsg{NfgenFamily: c.family}, c.attrs...)...)
	}
	return append(out, message(unix.NFNL_MSG_BATCH_END, 0, nl.Nfgenmsg{ResId: subsystem})...)
}

// generation gives a number that moves with every change of nf_tables in the namespace, whoever makes it. While it stands still, what was
// seen before is still there. It says nothing of the rules of iptables-legacy.
func (l *line) generation() (uint32, error) {
	answers, err := l.ask(unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC)
	if err != nil {
		return 0, fmt.Errorf("asking for the generation of nf_tables: %w", err)
	}
	for _, answer := range answers {
		if v := attribute(answer, unix.NFTA_GEN_ID); len(v) == 4 {
			return binary.BigEndian.Uint32(v), nil
		}
	}
	return 0, errors.New("asking for the generation of nf_tables: the kernel gave none")
}

// jumps tells whether the first rule of c's hook is the plain jump to c, as Apply makes it.
func (l *line) jumps(family uint8, table string, c chain) (bool, error) {
	rules, err := l.ask(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, family, text(unix.NFTA_RULE_TABLE, table), text(unix.NFTA_RULE_CHAIN, c.hook))
	if err != nil {
		return false, fmt.Errorf("reading chain %q of table %q: %w", c.hook, table, err)
	}
	if len(rules) == 0 {
		return false, nil
	}
	return jumpOf(attribute(rules[0], unix.NFTA_RULE_EXPRESSIONS)) == c.name, nil
}

// jumpOf gives where a rule jumps that counts and jumps, and nothing else; else "".
func jumpOf(expressions []byte) string {
	list, err := nl.ParseRouteAttr(expressions)
	if err != nil || len(list) != 2 || named(list[0].Value) != "counter" || named(list[1].Value) != "immediate" {
		return ""
	}
	verdict := attribute(attribute(attribute(list[1].Value, unix.NFTA_EXPR_DATA), unix.NFTA_IMMEDIATE_DATA), unix.NFTA_DATA_VERDICT)
	if code := attribute(verdict, unix.NFTA_VERDICT_CODE); len(code) != 4 || int32(binary.BigEndian.Uint32(code)) != unix.NFT_JUMP {
		return ""
	}
	return unix.ByteSliceToString(attribute(verdict, unix.NFTA_VERDICT_CHAIN))
}

// named gives the name of an expression.
func named(expression []byte) string {
	return unix.ByteSliceToString(attribute(expression, unix.NFTA_EXPR_NAME))
}

// attribute gives the value of one attribute; nil when it is not there.
func attribute(attrs []byte, kind uint16) []byte {
	list, err := nl.ParseRouteAttr(attrs)
	if err != nil {
		return nil
	}
	for _, a := range list {
		if a.Attr.Type&nl.NLA_TYPE_MASK == kind {
			return a.Value
		}
	}
	return nil
}

package linker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What Keep makes: a table of nf_tables that iptables has no name for.
const (
	keptTable = "gear-keep"
	keptChain = "prerouting"
	whenDNAT  = -100 // NF_IP_PRI_NAT_DST in linux/netfilter_ipv4.h
)

// Keep sees to it that open flows keep their translation, in the caller's namespace, whatever happens to the
// rules of iptables. The kernel tracks connections only as long as any rule asks about them, and translates as long as
// there is any chain of the type nat (nf_ct_netns_get in net/netfilter/nf_conntrack_proto.c, nf_nat_register_fn in nf_nat_core.c).
// When somebody flushes iptables, the packets of an open flow to a host port thus reach the host itself, which knows of
// no such connection and resets it. So there is a chain of that type with a rule that asks and decides nothing, in a table
// that iptables does not touch.
//
// It is of use with NFT only: iptables-legacy has its chains for ever. Doing it again changes nothing. six says that flows of IPv6 are
// kept too.
func Keep(six bool) error {
	err := keep(unix.AF_INET)
	if err == nil && six {
		err = keep(unix.AF_INET6)
	}
	return err
}

func keep(family uint8) error {
	s, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("keeping the translation of open flows: %w", err)
	}
	defer s.Close()
	if err := s.SetReceiveTimeout(&unix.Timeval{Sec: 5}); err != nil {
		return err
	}
	if err := unix.Sendto(s.GetFd(), keepBatch(family), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("keeping the translation of open flows: %w", err)
	}
	// The kernel takes the batch whole or not at all. A chain that is there already is as good.
	if err := acknowledged(s, 3); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("keeping the translation of open flows: %w", err)
	}
	return nil
}

// keepBatch gives the messages that make the table, its chain and its rule: a batch, as nf_tables wants every change.
func keepBatch(family uint8) []byte {
	hook := nested(unix.NFTA_CHAIN_HOOK, number(unix.NFTA_HOOK_HOOKNUM, unix.NF_INET_PRE_ROUTING), number(unix.NFTA_HOOK_PRIORITY, whenDNAT))
	ask := nested(unix.NFTA_LIST_ELEM, text(unix.NFTA_EXPR_NAME, "ct"),
		nested(unix.NFTA_EXPR_DATA, number(unix.NFTA_CT_DREG, unix.NFT_REG_1), number(unix.NFTA_CT_KEY, unix.NFT_CT_STATE)))
	subsystem := binary.NativeEndian.Uint16([]byte{0, unix.NFNL_SUBSYS_NFTABLES}) // in network order
	return slices.Concat(
		message(unix.NFNL_MSG_BATCH_BEGIN, 0, nl.Nfgenmsg{ResId: subsystem}),
		change(family, unix.NFT_MSG_NEWTABLE, 0, text(unix.NFTA_TABLE_NAME, keptTable)),
		change(family, unix.NFT_MSG_NEWCHAIN, unix.NLM_F_EXCL, text(unix.NFTA_CHAIN_TABLE, keptTable), text(unix.NFTA_CHAIN_NAME, keptChain),
			hook, text(unix.NFTA_CHAIN_TYPE, "nat")),
		change(family, unix.NFT_MSG_NEWRULE, unix.NLM_F_APPEND, text(unix.NFTA_RULE_TABLE, keptTable), text(unix.NFTA_RULE_CHAIN, keptChain),
			nested(unix.NFTA_RULE_EXPRESSIONS, ask)),
		message(unix.NFNL_MSG_BATCH_END, 0, nl.Nfgenmsg{ResId: subsystem}))
}

// change gives a message that makes something, and is to be acknowledged.
func change(family uint8, kind, flags int, attrs ...*nl.RtAttr) []byte {
	return message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, unix.NLM_F_CREATE|unix.NLM_F_ACK|flags, nl.Nfgenmsg{NfgenFamily: family}, attrs...)
}

func text(kind int, s string) *nl.RtAttr { return nl.NewRtAttr(kind, nl.ZeroTerminated(s)) }

func number(kind int, n int32) *nl.RtAttr {
	return nl.NewRtAttr(kind, binary.BigEndian.AppendUint32(nil, uint32(n)))
}

func nested(kind int, attrs ...*nl.RtAttr) *nl.RtAttr {
	a := nl.NewRtAttr(kind|unix.NLA_F_NESTED, nil)
	for _, child := range attrs {
		a.AddChild(child)
	}
	return a
}

// message gives one message as it goes to the kernel.
func message(kind, flags int, head nl.Nfgenmsg, attrs ...*nl.RtAttr) []byte {
	m := nl.NetlinkRequest{NlMsghdr: unix.NlMsghdr{Type: uint16(kind), Flags: uint16(unix.NLM_F_REQUEST | flags)}}
	m.AddData(&head)
	for _, a := range attrs {
		m.AddData(a)
	}
	return m.Serialize()
}

// acknowledged reads n answers, and gives their errors.
func acknowledged(s *nl.NetlinkSocket, n int) error {
	var errs []error
	for len(errs) < n {
		messages, _, err := s.Receive()
		if err != nil {
			return err
		}
		for _, m := range messages {
			if code, ok := result(m); ok && code != 0 {
				errs = append(errs, code)
			} else if ok {
				errs = append(errs, nil)
			}
		}
	}
	return errors.Join(errs...)
}

// result gives the error number of an acknowledgement; 0 is none.
func result(m syscall.NetlinkMessage) (unix.Errno, bool) {
	if m.Header.Type != unix.NLMSG_ERROR || len(m.Data) < 4 {
		return 0, false
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(m.Data))), true
}

package linker

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"gearmesh.dev/internal/hostexec"
)

// Chosen tells which kind of iptables is this host's own choice.
func Chosen(ctx context.Context) (Variant, error) {
	out, err := hostexec.Run(ctx, hostexec.Cmd{Argv: []string{"iptables", "--version"}})
	if err != nil {
		return HostChoice, fmt.Errorf("asking which iptables this host has: %w", err)
	}
	if strings.Contains(string(out), "nf_tables") {
		return NFT, nil
	}
	return Legacy, nil
}

// nftaGenID is the attribute that holds the number (linux/netfilter/nf_tables.h).
const nftaGenID = 1

// Generation gives a number that moves with every change of nf_tables in the caller's namespace,
// whoever makes it. While it stands still, what was seen before is still there, and need not be read
// again. It says nothing of the rules of iptables-legacy.
func Generation() (uint32, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC})
	answers, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return 0, fmt.Errorf("asking for the generation of nf_tables: %w", err)
	}
	for _, answer := range answers {
		if len(answer) < nl.SizeofNfgenmsg {
			continue
		}
		attrs, err := nl.ParseRouteAttr(answer[nl.SizeofNfgenmsg:])
		if err != nil {
			return 0, fmt.Errorf("reading the generation of nf_tables: %w", err)
		}
		for _, a := range attrs {
			if a.Attr.Type&nl.NLA_TYPE_MASK == nftaGenID && len(a.Value) == 4 {
				return binary.BigEndian.Uint32(a.Value), nil
			}
		}
	}
	return 0, fmt.Errorf("reading the generation of nf_tables: the kernel gave none")
}

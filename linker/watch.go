package linker

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// groupNFTables is the multicast group that hears of every change (NFNLGRP_NFTABLES in linux/netfilter/nfnetlink.h).
const groupNFTables = 7

// Watch calls changed after each change of nf_tables in the caller's namespace, whoever makes it, until ctx ends. A
// burst is several calls. It hears nothing of iptables-legacy.
func Watch(ctx context.Context, changed func()) error {
	s, err := nl.Subscribe(unix.NETLINK_NETFILTER, groupNFTables)
	if err != nil {
		return fmt.Errorf("watching nf_tables: %w", err)
	}
	stop := context.AfterFunc(ctx, s.Close)
	defer func() {
		if stop() {
			s.Close()
		}
	}()
	for {
		_, _, err := s.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil && !errors.Is(err, unix.ENOBUFS): // more news than there is room for is news too
			return fmt.Errorf("watching nf_tables: %w", err)
		}
		changed()
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// groupNFTables is the multicast group that hears of every change (NFNLGRP_NFTABLES in linux/netfilter/nfnetlink.h).
const groupNFTables = 7

// rulesIn asks the kernel for the rules in some network namespaces.
type rulesIn []*nl.NetlinkSocket

// add opens the namespace behind a file.
func (r *rulesIn) add(file string) error {
	ns, err := netns.GetFromPath(file)
	if err != nil {
		return fmt.Errorf("asking for the rules of %q: %w", file, err)
	}
	defer ns.Close()
	s, err := nl.GetNetlinkSocketAt(ns, netns.None(), unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("asking for the rules of %q: %w", file, err)
	}
	*r = append(*r, s)
	return nil
}

func (r rulesIn) close() {
	for _, s := range r {
		s.Close()
	}
}

// leads tells whether the links of a namespace lead to a backend.
func (r rulesIn) leads(space int, to netip.AddrPort) (bool, error) {
	chain, err := r.chain(space)
	return bytes.Contains(chain, translation(to)), err
}

// chain gives the rules of the chain of links, as the kernel has them.
func (r rulesIn) chain(space int) ([]byte, error) {
	ask := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP)
	ask.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET})
	ask.AddData(nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated("nat")))
	ask.AddData(nl.NewRtAttr(unix.NFTA_RULE_CHAIN, nl.ZeroTerminated("GEAR-LINKS")))
	ask.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: {Socket: r[space]}}
	rules, err := ask.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return nil, fmt.Errorf("asking for the rules of a namespace: %w", err)
	}
	return bytes.Join(rules, nil), nil
}

// ruleWatch hears from the kernel of each change of the rules in a few network namespaces. It polls nothing, so that it takes no time
// from those that it watches; of many it would, since each change anywhere goes by all who listen.
type ruleWatch struct {
	rulesIn
	epoll  int
	events []*nl.NetlinkSocket // in the order of rulesIn
}

func newRuleWatch() (*ruleWatch, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &ruleWatch{epoll: fd}, err
}

func (w *ruleWatch) close() {
	w.rulesIn.close()
	for _, s := range w.events {
		s.Close()
	}
	_ = unix.Close(w.epoll)
}

// add watches the namespace behind a file.
func (w *ruleWatch) add(file string) error {
	if err := w.rulesIn.add(file); err != nil {
		return err
	}
	ns, err := netns.GetFromPath(file)
	if err != nil {
		return fmt.Errorf("watching the rules of %q: %w", file, err)
	}
	defer ns.Close()
	events, err := nl.SubscribeAt(ns, netns.None(), unix.NETLINK_NETFILTER, groupNFTables)
	if err != nil {
		return fmt.Errorf("watching the rules of %q: %w", file, err)
	}
	w.events = append(w.events, events)
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(len(w.events) - 1)}
	return unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, events.GetFd(), &e)
}

// forget drops the news until now.
func (w *ruleWatch) forget() error {
	for _, s := range w.events {
		if err := drain(s.GetFd()); err != nil {
			return err
		}
	}
	return nil
}

// wait gives when the rules of each namespace were changed so that done is content with the namespace; the time is that of the news.
func (w *ruleWatch) wait(ctx context.Context, done func(space int) (bool, error)) ([]time.Time, error) {
	at, left := make([]time.Time, len(w.events)), len(w.events)
	events := make([]unix.EpollEvent, 256)
	for left > 0 {
		n, err := unix.EpollWait(w.epoll, events, 100)
		now := time.Now()
		if err := ctx.Err(); err != nil {
			return at, fmt.Errorf("the rules of %d of %d namespaces were not changed: %w", left, len(at), err)
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return at, err
		}
		for _, e := range events[:max(n, 0)] {
			i := int(e.Fd)
			if err := drain(w.events[i].GetFd()); err != nil {
				return at, err
			}
			if !at[i].IsZero() {
				continue
			}
			ok, err := done(i)
			if err != nil {
				return at, err
			}
			if ok {
				at[i], left = now, left-1
			}
		}
	}
	return at, nil
}

// drain reads what there is to read.
func drain(fd int) error {
	buf := make([]byte, 64<<10)
	for {
		_, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS): // more news than there is room for is news too
			return err
		}
	}
}

// translation gives what a DNAT to one address and port has in the kernel: first and last of both (nf_nat_range2 in linux/netfilter/nf_nat.h).
func translation(to netip.AddrPort) []byte {
	var out []byte
	for range 2 {
		out = append(append(out, to.Addr().AsSlice()...), make([]byte, 12)...)
	}
	for range 2 {
		out = binary.BigEndian.AppendUint16(out, to.Port())
	}
	return out
}

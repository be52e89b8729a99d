package realhost

import (
	"errors"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// addressNews tells whether the addresses of the host may have changed. The kernel writes each change into a socket, which is looked at when somebody
// asks: that costs a system call, and a list of the addresses a hundred times as much.
type addressNews struct {
	socket *nl.NetlinkSocket // nil when there is none: then they may always have changed
	sure   time.Time         // until when no news is good news
}

// newsLast is how long nothing but the socket is trusted.
const newsLast = time.Minute

// watchAddresses begins to listen.
func watchAddresses() *addressNews {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return &addressNews{}
	}
	return &addressNews{socket: s}
}

// any tells whether there was a change since it was last asked. The first time there was.
func (n *addressNews) any() bool {
	if n.socket == nil {
		return true
	}
	changed := time.Now().After(n.sure)
	for buf := make([]byte, 4096); ; changed = true {
		_, _, err := unix.Recvfrom(n.socket.GetFd(), buf, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		switch {
		case err == nil, errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOBUFS): // more than there is room for is news too
			continue
		case !errors.Is(err, unix.EAGAIN):
			n.socket.Close()
			n.socket = nil
			return true
		}
		break
	}
	if changed {
		n.sure = time.Now().Add(newsLast)
	}
	return changed
}

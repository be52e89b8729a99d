package linker

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A program whose flow ends sees a reset when it next sends, and most programs connect again then. One that only waits for an answer would
// hear of nothing before its keepalive, which may be hours. So the sockets of ended flows that are still there after
// abortDelay are ended by the kernel (SOCK_DESTROY, tcp_abort in net/ipv4/tcp.c). Not at once: the program is then told
// ECONNABORTED, which not all take for a reason to connect again (redis-cli ends).

// abortDelay is how long programs have to notice themselves that a flow has ended.
const abortDelay = 2 * time.Second

// aborter ends the sockets of a pod's programs whose flows end. A kernel that cannot, answers so, and the program hears of it later.
type aborter struct {
	path    string // of the pod's namespace; "" for the host's, where the sockets are not a pod's
	socket  *nl.SocketHandle
	waiting [][]byte // sockets, as struct inet_diag_req_v2
}

// note remembers the socket that started a flow, when it is here: by its cookie, since its ports may be another's soon.
func (a *aborter) note(start netlink.IPTuple) {
	if a.path == "" || start.Protocol != unix.IPPROTO_TCP || a.open() != nil {
		return
	}
	from, ok1 := addrOf(start.SrcIP)
	to, ok2 := addrOf(start.DstIP)
	if !ok1 || !ok2 {
		return
	}
	id := socketID(netip.AddrPortFrom(from, start.SrcPort), netip.AddrPortFrom(to, start.DstPort))
	found, err := a.ask(nl.SOCK_DIAG_BY_FAMILY, 0, id)
	if err != nil || len(found) == 0 || len(found[0]) < cookieEnd-4 {
		return
	}
	// struct inet_diag_msg has the same identity, four bytes sooner.
	a.waiting = append(a.waiting, append(bytes.Clone(id[:cookieStart]), found[0][cookieStart-4:cookieEnd-4]...))
}

// begin ends what is left of the noted sockets after abortDelay, in the background. It must not be used after that.
func (a *aborter) begin() {
	if len(a.waiting) == 0 {
		a.close()
		return
	}
	go func() {
		defer a.close()
		time.Sleep(abortDelay)
		for _, id := range a.waiting {
			_, _ = a.ask(nl.SOCK_DESTROY, unix.NLM_F_ACK, id) // most have gone
		}
	}()
}

// ask sends a request about a socket. One that has an answer must not ask for an acknowledgement too: that would stay unread, and be
// taken for the answer to the next one.
func (a *aborter) ask(what, flags int, id []byte) ([][]byte, error) {
	r := nl.NewNetlinkRequest(what, flags)
	r.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_INET_DIAG: a.socket}
	r.AddRawData(id)
	return r.Execute(unix.NETLINK_INET_DIAG, 0)
}

// Where the cookie is in struct inet_diag_req_v2 (linux/inet_diag.h), at its end.
const (
	cookieStart = 48
	cookieEnd   = 56
)

// socketID names a TCP socket (struct inet_diag_req_v2).
func socketID(local, remote netip.AddrPort) []byte {
	family := byte(unix.AF_INET6)
	if local.Addr().Is4() {
		family = unix.AF_INET
	}
	id := []byte{family, unix.IPPROTO_TCP, 0, 0, 0xff, 0xff, 0xff, 0xff} // in any state
	id = binary.BigEndian.AppendUint16(id, local.Port())
	id = binary.BigEndian.AppendUint16(id, remote.Port())
	for _, a := range []netip.Addr{local.Addr(), remote.Addr()} {
		var field [16]byte // an IPv4 address is the first four bytes
		copy(field[:], a.AsSlice())
		id = append(id, field[:]...)
	}
	id = append(id, 0, 0, 0, 0)                                       // any interface
	return append(id, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff) // any cookie (INET_DIAG_NOCOOKIE)
}

func (a *aborter) open() error {
	if a.socket != nil {
		return nil
	}
	ns, err := netns.GetFromPath(a.path)
	if err != nil {
		return err
	}
	defer ns.Close()
	s, err := nl.GetNetlinkSocketAt(ns, netns.None(), unix.NETLINK_INET_DIAG)
	if err == nil {
		a.socket = &nl.SocketHandle{Socket: s}
	}
	return err
}

func (a *aborter) close() {
	if a.socket != nil {
		a.socket.Close()
	}
}

package dnsd

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The size of a batch: datagrams that one system call takes from a socket, and their length. A longer
// query is cut, and so no query.
const (
	batchLen = 32
	queryLen = 1280
)

// batch is a set of datagrams that one system call receives and one sends (recvmmsg(2), sendmmsg(2)).
// A reply goes to the address that its query came from in the form in which the kernel gave it.
// golang.org/x/net has such calls too, but makes an address on the heap for every datagram.
type batch struct {
	raw   syscall.RawConn
	in    [batchLen]message
	out   [batchLen]message
	from  [batchLen]unix.RawSockaddrInet6 // or, as long or shorter, RawSockaddrInet4
	bytes [batchLen]struct{ in, out unix.Iovec }
	bufs  []byte

	receiver, sender func(fd uintptr) bool // made once: each would cost memory

	n       int // received
	replies int // to be sent
	done    int // of them, sent
	err     error
}

// message is struct mmsghdr.
type message struct {
	header unix.Msghdr
	n      uint32
}

func newBatch(raw syscall.RawConn) *batch {
	b := &batch{raw: raw, bufs: make([]byte, batchLen*(queryLen+maxUDP))}
	b.receiver, b.sender = b.receiveNow, b.sendNow
	for i := range batchLen {
		b.bytes[i].in.Base = &b.bufs[i*(queryLen+maxUDP)]
		b.bytes[i].in.SetLen(queryLen)
		b.in[i].header.Iov, b.out[i].header.Iov = &b.bytes[i].in, &b.bytes[i].out
		b.in[i].header.SetIovlen(1)
		b.out[i].header.SetIovlen(1)
	}
	return b
}

// receive waits for datagrams and takes those that are there.
func (b *batch) receive() error {
	for i := range batchLen {
		b.in[i].header.Name = (*byte)(unsafe.Pointer(&b.from[i]))
		b.in[i].header.Namelen = unix.SizeofSockaddrInet6
	}
	b.replies, b.n = 0, 0
	if err := b.raw.Read(b.receiver); err != nil {
		return err
	}
	return b.err
}

// receiveNow tells whether it is done; if not, the runtime calls it again when there is something.
func (b *batch) receiveNow(fd uintptr) bool {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.in[0])), batchLen, unix.MSG_DONTWAIT, 0, 0)
		switch b.err = nil; errno {
		case 0:
			b.n = int(n)
			return true
		case unix.EAGAIN:
			return false
		case unix.EINTR:
		default:
			b.err = errno
			return true
		}
	}
}

// query gives the ith datagram and a buffer for its reply.
func (b *batch) query(i int) (query, reply []byte) {
	at := i * (queryLen + maxUDP)
	end := at + queryLen
	return b.bufs[at : at+int(b.in[i].n)], b.bufs[end : end : end+maxUDP]
}

// asker gives who sent the ith datagram.
func (b *batch) asker(i int) netip.Addr {
	a := &b.from[i]
	if a.Family == unix.AF_INET {
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(a)).Addr)
	}
	return netip.AddrFrom16(a.Addr).Unmap()
}

// port gives the whole address of the ith sender, to send to later.
func (b *batch) port(i int) netip.AddrPort {
	a := &b.from[i]
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&a.Port))[:]) // at one place in both forms
	at := b.asker(i)
	if a.Family == unix.AF_INET6 && a.Scope_id != 0 {
		at = at.WithZone(strconv.Itoa(int(a.Scope_id)))
	}
	return netip.AddrPortFrom(at, port)
}

// reply takes note of the reply to the ith datagram, which is in its buffer.
func (b *batch) reply(i int, reply []byte) {
	n := b.replies
	b.bytes[n].out.Base = &reply[0]
	b.bytes[n].out.SetLen(len(reply))
	b.out[n].header.Name, b.out[n].header.Namelen = b.in[i].header.Name, b.in[i].header.Namelen
	b.replies++
}

// send sends the replies. One that cannot be sent is lost: it will be asked for again.
func (b *batch) send() error {
	b.done = 0
	if b.replies == 0 {
		return nil
	}
	return b.raw.Write(b.sender)
}

func (b *batch) sendNow(fd uintptr) bool {
	for b.done < b.replies {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&b.out[b.done])), uintptr(b.replies-b.done), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			b.done += int(n)
		case unix.EAGAIN:
			return false
		case unix.EINTR:
		default:
			b.done++ // such as EPERM of a firewall, or a forged port 0
		}
	}
	return true
}

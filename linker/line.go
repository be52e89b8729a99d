package linker

import (
	"errors"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// line is a netfilter socket in a network namespace. Each of its calls is one system call: when a request has been sent, the
// kernel has done it, and its answer is there to be read. So the socket needs no poller.
type line struct {
	fd  int
	buf []byte // of lineBuffer
}

// lineBuffer holds any part of an answer: the kernel gives at most 32 KiB at a time (netlink_dump in net/netlink/af_netlink.c).
const lineBuffer = 32 << 10

// openLine makes the socket of a line, in the calling thread's namespace.
func openLine() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return -1, err
	}
	// An answer that is lost must not stop the caller for ever.
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, largestBatch)
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// largestBatch is how many bytes may be sent at once. A rule has some 700.
const largestBatch = 32 << 20

// clear throws away answers that nobody has waited for: a batch that was refused may have several.
func (l *line) clear() error {
	for {
		switch _, _, err := unix.Recvfrom(l.fd, l.buf, unix.MSG_DONTWAIT); {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS): // some were lost
			return err
		}
	}
}

func (l *line) send(messages []byte) error {
	return unix.Sendto(l.fd, messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
}

// receive gives the next messages. They are good until the next call.
func (l *line) receive() ([]syscall.NetlinkMessage, error) {
	for {
		n, _, err := unix.Recvfrom(l.fd, l.buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return syscall.ParseNetlinkMessage(l.buf[:n])
	}
}

// ask gives the answers to a question about nf_tables, without their heads.
func (l *line) ask(kind, flags int, family uint8, attrs ...*nl.RtAttr) ([][]byte, error) {
	return l.request(unix.NFNL_SUBSYS_NFTABLES, kind, flags, family, attrs...)
}

// request gives the answers of a part of netfilter.
func (l *line) request(subsystem, kind, flags int, family uint8, attrs ...*nl.RtAttr) ([][]byte, error) {
	if err := l.send(message(subsystem<<8|kind, flags, nl.Nfgenmsg{NfgenFamily: family}, attrs...)); err != nil {
		return nil, err
	}
	var answers [][]byte
	for {
		messages, err := l.receive()
		if err != nil {
			return nil, err
		}
		for _, m := range messages {
			if code, ok := result(m); ok && code != 0 {
				return nil, code
			}
			if m.Header.Type == unix.NLMSG_DONE || m.Header.Type == unix.NLMSG_ERROR {
				return answers, nil
			}
			if len(m.Data) < nl.SizeofNfgenmsg {
				return nil, errors.New("an answer of the kernel is too short")
			}
			answers = append(answers, append([]byte(nil), m.Data[nl.SizeofNfgenmsg:]...))
			if m.Header.Flags&unix.NLM_F_MULTI == 0 {
				return answers, nil
			}
		}
	}
}

// acknowledge reads whether the kernel has done what was sent.
func (l *line) acknowledge() error {
	messages, err := l.receive()
	if err != nil {
		return err
	}
	for _, m := range messages {
		if code, ok := result(m); ok && code != 0 {
			return code
		}
	}
	return nil
}

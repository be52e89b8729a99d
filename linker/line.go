package linker

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// line is a netfilter socket in a network namespace. Each of its calls is one system call: when a request has been sent, the
// kernel has done it, and its answer is there to be read. So the socket needs no poller.
type line struct {
	fd  int
	buf []byte
}

// lineBuffer holds any part of an answer: the kernel gives at most 32 KiB at a time (netlink_dump in net/netlink/af_netlink.c).
const lineBuffer = 32 << 10

// dial opens a line in a namespace; "" means the caller's.
func dial(path string) (*line, error) {
	fd, err := socketIn(path)
	if err != nil {
		return nil, fmt.Errorf("opening a netfilter socket in namespace %q: %w", path, err)
	}
	l := &line{fd: fd, buf: make([]byte, lineBuffer)}
	// An answer that is lost must not stop the caller for ever.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// socketIn makes a socket in a namespace. A socket belongs to the namespace that its maker's thread is in.
func socketIn(path string) (int, error) {
	if path == "" {
		return netfilterSocket()
	}
	there, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(there)
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return -1, err
	}
	defer unix.Close(home)
	fd, err := -1, unix.Setns(there, unix.CLONE_NEWNET)
	if err == nil {
		fd, err = netfilterSocket()
	}
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		return -1, errors.Join(err, back) // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return fd, err
}

func netfilterSocket() (int, error) {
	return unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
}

func (l *line) close() error { return unix.Close(l.fd) }

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
	if err := l.send(message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags, nl.Nfgenmsg{NfgenFamily: family}, attrs...)); err != nil {
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

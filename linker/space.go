package linker

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// space is a network namespace whose rules a Writer looks after. Its sockets stay open: opening one costs ten times what a question
// does, and closing it after a change waits until the kernel has freed what the change replaced, 10 ms and more
// (nft_rcv_nl_event in net/netfilter/nf_tables_api.c).
type space struct {
	mu      sync.Mutex // one at a time works there
	inode   uint64     // of the namespace: another one may get its name
	sockets []int      // in the order below; none once closed
	tables  []place    // that it has rules of ours in
	left    mark       // of the rules as they were last left; 0 for never
	sure    bool       // they were read and found right since somebody else can have changed them
}

// mark tells two states of a namespace's rules apart. It is never 0.
type mark uint64

// The sockets of a space. Those of the internet are for iptables-legacy alone.
const (
	lineSocket = iota
	inetSocket
	inet6Socket
)

// place is a table of one IP version.
type place struct {
	family uint8 // unix.AF_INET or AF_INET6
	table  string
}

// places gives the tables of rules.
func places(all []family) []place {
	var out []place
	for _, f := range all {
		for _, t := range f.want {
			out = append(out, place{f.number(), t.name})
		}
	}
	return out
}

// inodeOf tells namespaces apart that had the same name, as long as a socket keeps the older one.
func inodeOf(netns string) (uint64, error) {
	info, err := os.Stat(cmp.Or(netns, ownNamespace))
	if err != nil {
		return 0, err
	}
	return info.Sys().(*syscall.Stat_t).Ino, nil
}

// ownNamespace is the calling thread's, which "" means too. That of /proc/self is the first thread's, which may have been left in another.
const ownNamespace = "/proc/thread-self/ns/net"

// openSpace opens the sockets of a namespace.
func openSpace(netns string, v Variant, ip ipVersions) (*space, error) {
	s := &space{}
	kinds := []func() (int, error){openLine}
	if v == Legacy {
		kinds = append(kinds, openInet(unix.AF_INET))
	}
	if v == Legacy && ip.v6 {
		kinds = append(kinds, openInet(unix.AF_INET6))
	}
	err := inNamespace(netns, func() (err error) {
		if s.inode, err = inodeOf(""); err != nil {
			return err
		}
		for _, open := range kinds {
			fd, err := open()
			if err != nil {
				return err
			}
			s.sockets = append(s.sockets, fd)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening sockets in namespace %q: %w", netns, err), s.closeLocked())
	}
	return s, nil
}

func openInet(family int) func() (int, error) {
	return func() (int, error) { return unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) }
}

// mark gives that of the rules as they are. One of nf_tables is a question of two system calls.
func (s *space) mark(l *line) (mark, error) {
	if len(s.sockets) == 1 {
		g, err := l.generation()
		return mark(g), err
	}
	sum := mark(1)
	for _, p := range s.tables {
		socket := inetSocket
		if p.family == unix.AF_INET6 {
			socket = inet6Socket
		}
		m, err := tableMark(s.sockets[socket], p)
		if err != nil {
			return 0, fmt.Errorf("looking at table %q: %w", p.table, err)
		}
		sum = sum*31 + m
	}
	return max(sum, 1), nil
}

// moved notes that this writer has just changed the rules. Whether somebody else had changed them before stays to be seen.
func (s *space) moved(before, after mark) {
	if s.left == before {
		s.left = after
	}
}

func (s *space) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closeLocked()
}

func (s *space) closeLocked() error {
	var errs []error
	for _, fd := range s.sockets {
		errs = append(errs, unix.Close(fd))
	}
	s.sockets = nil
	return errors.Join(errs...)
}

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// netspace is a thread in a network namespace. It lives as long as the process.
type netspace struct {
	calls chan func()
	file  *os.File // the namespace; nil when it was there already
}

// enterSpace gives a thread in the namespace behind a file, or in a new one when that is empty.
func enterSpace(file string) (*netspace, error) {
	s := &netspace{calls: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocks it
		err := s.enter(file)
		if ready <- err; err != nil {
			return
		}
		for call := range s.calls {
			call()
		}
	}()
	return s, <-ready
}

func (s *netspace) enter(file string) (err error) {
	if file == "" {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a network namespace: %w", err)
		}
		s.file, err = os.Open("/proc/thread-self/ns/net")
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
}

// do calls f on the thread.
func (s *netspace) do(f func() error) error {
	done := make(chan error)
	s.calls <- func() { done <- f() }
	return <-done
}

// otherHost makes a network namespace that is a host on a cable to this one.
func otherHost(own, other string) (*netspace, error) {
	s, err := enterSpace("")
	if err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "wan0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(s.file.Fd()))}); err != nil {
		return nil, fmt.Errorf("laying a cable to another host: %w", err)
	}
	return s, errors.Join(address("wan0", own), s.do(func() error { return address("eth0", other) }))
}

// address gives an interface of the calling thread's namespace an address, and sets it up.
func address(name, prefix string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(prefix)
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrReplace(link, a), netlink.LinkSetUp(link))
}

package linker

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
)

// socket is where a program waits for others.
type socket struct {
	protocol api.Protocol
	at       netip.AddrPort
}

// takes tells whether a program that connects to a link's own place would reach the socket if there were no link.
func (s socket) takes(l api.LinkTarget) bool {
	if s.protocol != l.Protocol || s.at.Port() != l.Port {
		return false
	}
	for _, a := range locals(l) {
		if s.at.Addr().Unmap() == a || s.at.Addr().IsUnspecified() {
			return true
		}
	}
	return false
}

// listening gives the sockets of a namespace that wait for others (proc_pid_net(5)).
func listening(path string) ([]socket, error) {
	var out []socket
	err := inNamespace(path, func() error {
		for file, p := range map[string]api.Protocol{"tcp": api.TCP, "tcp6": api.TCP, "udp": api.UDP, "udp6": api.UDP} {
			f, err := os.Open("/proc/thread-self/net/" + file)
			if errors.Is(err, fs.ErrNotExist) {
				continue // a kernel without IPv6
			}
			if err != nil {
				return err
			}
			found, err := parseSockets(f, p)
			f.Close()
			if err != nil {
				return fmt.Errorf("reading /proc/net/%s: %w", file, err)
			}
			out = append(out, found...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for listeners in namespace %q: %w", path, err)
	}
	return out, nil
}

// parseSockets reads /proc/net/tcp and the like: a head line, then a line for each socket with its number, its own address, the
// other side's, and its state, of which 0A is listening and, for UDP, 07 is not connected (tcp(7), enum in linux/net/tcp_states.h).
func parseSockets(r io.Reader, p api.Protocol) ([]socket, error) {
	waits := map[api.Protocol]string{api.TCP: "0A", api.UDP: "07"}[p]
	var out []socket
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 4 || words[0] == "sl" || words[3] != waits {
			continue
		}
		at, err := parseSocketAddr(words[1])
		if err != nil {
			return nil, err
		}
		out = append(out, socket{p, at})
	}
	return out, lines.Err()
}

// parseSocketAddr reads an address as the kernel prints it: 32-bit words in the machine's order, then the port.
func parseSocketAddr(s string) (netip.AddrPort, error) {
	addr, port, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(addr)
	if err != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, fmt.Errorf("address %q: 8 or 32 hexadecimal digits are needed", s)
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q: %w", s, err)
	}
	a, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(a, uint16(n)), nil
}

// inNamespace calls f on a thread that is in a network namespace and ends with f.
func inNamespace(path string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: no other goroutine shall run there
		ns, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(ns)
			err = unix.Setns(ns, unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

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
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
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

// listening gives the sockets of a namespace that wait for others by these protocols.
func listening(path string, protocols ...api.Protocol) (out []socket, err error) {
	err = inNamespace(path, func() error {
		for _, p := range protocols {
			found, err := waiting(p)
			if err != nil {
				return err
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

// waiting gives the sockets that wait for others, in the calling thread's namespace.
func waiting(p api.Protocol) ([]socket, error) {
	if p == api.TCP {
		if found, err := askTCP(); err == nil { // else the kernel cannot be asked
			return found, nil
		}
	}
	return readSockets(p)
}

// askTCP asks for the TCP sockets that wait for others, in the calling thread's namespace. /proc has them too, but the kernel goes through all
// connections of the machine for that (sock_diag(7)).
func askTCP() ([]socket, error) {
	const listen = 1 << 10 // TCP_LISTEN in linux/net/tcp_states.h
	var out []socket
	for _, any := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		ask := socketID(netip.AddrPortFrom(any, 0), netip.AddrPortFrom(any, 0))
		binary.NativeEndian.PutUint32(ask[4:], listen)
		r := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
		r.AddRawData(ask)
		answers, err := r.Execute(unix.NETLINK_INET_DIAG, 0)
		if err != nil {
			return nil, err
		}
		for _, m := range answers { // struct inet_diag_msg: its port is at 4, its address at 8
			if len(m) < 24 {
				return nil, fmt.Errorf("a socket is told of in %d bytes", len(m))
			}
			at, _ := netip.AddrFromSlice(m[8 : 8+any.BitLen()/8])
			out = append(out, socket{api.TCP, netip.AddrPortFrom(at, binary.BigEndian.Uint16(m[4:]))})
		}
	}
	return out, nil
}

// readSockets reads the sockets that wait for others, in the calling thread's namespace (proc_pid_net(5)).
func readSockets(p api.Protocol) ([]socket, error) {
	var out []socket
	for _, file := range []string{string(p), string(p) + "6"} {
		f, err := os.Open("/proc/thread-self/net/" + file)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		found, err := parseSockets(f, p)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("reading /proc/net/%s: %w", file, err)
		}
		out = append(out, found...)
	}
	return out, nil
}

// ListensIPv6 names those of a pod's ports on which somebody in its namespace waits over IPv6.
func ListensIPv6(path string, ports []api.HostPort) ([]api.Name, error) {
	var protocols []api.Protocol // those of the ports: looking costs by what the machine has
	for _, p := range ports {
		if !slices.Contains(protocols, p.Protocol) {
			protocols = append(protocols, p.Protocol)
		}
	}
	sockets, err := listening(path, protocols...)
	if err != nil {
		return nil, err
	}
	var out []api.Name
	for _, p := range ports {
		if slices.ContainsFunc(sockets, func(s socket) bool { return s.takesIPv6(p) }) {
			out = append(out, p.Name)
		}
	}
	return out, nil
}

// takesIPv6 tells whether what comes to a port of the pod over IPv6 reaches the socket.
func (s socket) takesIPv6(p api.HostPort) bool {
	a := s.at.Addr()
	return s.protocol == p.Protocol && s.at.Port() == p.Port && a.Is6() && (a.IsUnspecified() || api.PodsIPv6().Contains(a))
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

// inNamespace calls f on a thread that is in a network namespace and ends with f; "" is the caller's.
func inNamespace(path string, f func() error) error {
	if path == "" {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: no other goroutine shall run there
		ns, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer func() { _ = unix.Close(ns) }()
			err = unix.Setns(ns, unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

package router

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"gearmesh.dev/api"
)

// answerTime is how long HAProxy may take for one answer.
const answerTime = 10 * time.Second

// maxAnswer bounds one answer, in bytes: the state of half a million slots.
const maxAnswer = 64 << 20

// session is an interactive connection to HAProxy's runtime socket (management.txt, 9.3): a command a
// line, and each answer ends with an empty line and a prompt.
type session struct {
	conn net.Conn
	pid  int    // of the worker that answers
	head string // the HeadID that it runs
}

// openSession connects and asks which worker answers.
func openSession(ctx context.Context, socket string) (*session, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("connecting to HAProxy: %w", err)
	}
	s := &session{conn: conn}
	if _, err = s.ask("prompt"); err == nil {
		err = s.identify()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

func (s *session) close() { s.conn.Close() }

// ask sends one command and gives its answer, trimmed.
func (s *session) ask(command string) (string, error) {
	if err := s.conn.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return "", fmt.Errorf("asking HAProxy: %w", err)
	}
	if _, err := s.conn.Write([]byte(command + "\n")); err != nil {
		return "", fmt.Errorf("asking HAProxy %q: %w", command, err)
	}
	var answer []byte
	buf := make([]byte, 64<<10)
	for !bytes.HasSuffix(answer, []byte("\n> ")) {
		n, err := s.conn.Read(buf)
		if err != nil {
			return "", fmt.Errorf("reading HAProxy's answer to %q: %w", command, err)
		}
		if answer = append(answer, buf[:n]...); len(answer) > maxAnswer {
			return "", fmt.Errorf("reading HAProxy's answer to %q: more than %d bytes", command, maxAnswer)
		}
	}
	return strings.TrimSpace(string(answer[:len(answer)-2])), nil
}

// identify reads the worker's pid and the head it runs.
func (s *session) identify() error {
	answer, err := s.ask("show info")
	if err != nil {
		return err
	}
	for line := range strings.Lines(answer) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "Pid":
			if s.pid, err = strconv.Atoi(value); err != nil {
				return fmt.Errorf("reading HAProxy's pid: %w", err)
			}
		case "description":
			s.head = value
		}
	}
	if s.pid == 0 {
		return fmt.Errorf("HAProxy's answer to %q has no pid: %q", "show info", answer)
	}
	return nil
}

// do sends a change's command and fails when the answer is not the one of success.
func (s *session) do(command string) error {
	answer, err := s.ask(command)
	if err != nil {
		return err
	}
	if done := answer == "" || strings.Contains(command, " addr ") && strings.HasSuffix(answer, "by 'stats socket command'") &&
		!strings.HasPrefix(answer, "Invalid"); !done {
		return fmt.Errorf("HAProxy refused %q: %q", command, answer)
	}
	return nil
}

// running asks HAProxy what it runs. Backends that are not ours, by their names, are left out.
func (s *session) running(mapFile string) (Config, error) {
	c := Config{HeadID: s.head, MapFile: mapFile}
	servers, err := s.ask("show servers state")
	if err != nil {
		return c, err
	}
	if c.Backends, err = parseServers(servers); err != nil {
		return c, err
	}
	hosts, err := s.ask("show map " + mapFile)
	if err != nil {
		return c, err
	}
	c.Hosts = parseMap(hosts)
	c.readMarkers()
	return c, nil
}

// Columns of "show stat": what waits and what runs in a backend.
const (
	colName, colKind, colQueued, colCurrent = 0, 1, 2, 4
)

// idle tells whether no request is in a backend: none that waits, runs, or may be sent once more.
func (s *session) idle(backend string) (bool, error) {
	const backends = 2 // the kind of lines that are asked for
	answer, err := s.ask(fmt.Sprintf("show stat %s %d -1", backend, backends))
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(answer) {
		f := strings.Split(line, ",")
		if len(f) > colCurrent && f[colName] == backend && f[colKind] == "BACKEND" {
			return f[colQueued] == "0" && f[colCurrent] == "0", nil
		}
	}
	return false, fmt.Errorf("HAProxy's answer about %q is not understood: %q", backend, answer)
}

// Columns of "show servers state", version 1, and the bits of the administrative state that mean
// maintenance: forced, inherited, by DNS (management.txt, 9.3).
const (
	colBackend, colServer, colAddr, colAdmin, colPort = 1, 3, 4, 6, 18
	stateColumns                                      = 19
	adminMaint                                        = 0x01 | 0x02 | 0x20
)

// parseServers reads the answer to "show servers state". A slot's state is as Backend.Slots has it.
func parseServers(text string) ([]Backend, error) {
	byID := map[string]*Backend{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < stateColumns || f[0] == "#" || !ownsID(f[colBackend]) {
			continue
		}
		b := byID[f[colBackend]]
		if b == nil {
			b = &Backend{ID: f[colBackend]}
			byID[b.ID] = b
		}
		if f[colServer] != slotName(len(b.Slots)) {
			return nil, fmt.Errorf("HAProxy runs a server %q in %q that is not ours", f[colServer], b.ID)
		}
		slot, err := parseSlot(f[colAddr], f[colPort], f[colAdmin])
		if err != nil {
			return nil, fmt.Errorf("reading HAProxy's server %s/%s: %w", b.ID, f[colServer], err)
		}
		b.Slots = append(b.Slots, slot)
	}
	var out []Backend
	for _, b := range byID {
		out = append(out, *b)
	}
	slices.SortFunc(out, func(a, b Backend) int { return compareIDs(a.ID, b.ID) })
	return out, nil
}

func parseSlot(addr, port, admin string) (netip.AddrPort, error) {
	bits, err := strconv.Atoi(admin)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("administrative state: %w", err)
	}
	if bits&adminMaint != 0 {
		return netip.AddrPort{}, nil
	}
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address: %w", err)
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("port: %w", err)
	}
	return netip.AddrPortFrom(a, uint16(p)), nil
}

// parseMap reads the answer to "show map": an id, a host name and a backend a line.
func parseMap(text string) []Host {
	var out []Host
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 && strings.HasPrefix(f[0], "0x") {
			out = append(out, Host{Name: api.Hostname(f[1]), Backend: f[2]})
		}
	}
	slices.SortFunc(out, func(a, b Host) int { return strings.Compare(string(a.Name), string(b.Name)) })
	return out
}

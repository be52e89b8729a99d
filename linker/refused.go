package linker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/hostexec"
)

// Refused gives how many packets each Egress has refused, by its interface: since it was laid, or somebody emptied the rules.
func (v Variant) Refused(ctx context.Context, netns string) (map[string]uint64, error) {
	out, err := hostexec.Run(ctx, hostexec.Cmd{Argv: []string{v.command("iptables", "save"), "-c", "-t", "filter"}, NetNS: netns})
	if err != nil {
		return nil, fmt.Errorf("reading the counters of namespace %q: %w", netns, err)
	}
	return parseRefused(out), nil
}

// parseRefused adds up the counters of the rules that refuse: "[packets:bytes] -A GEAR-NO-gv… … -j REJECT …".
func parseRefused(text []byte) map[string]uint64 {
	out := map[string]uint64{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		counters, rule, _ := strings.Cut(lines.Text(), " ")
		name, ours := strings.CutPrefix(rule, "-A "+refusePrefix)
		name, match, _ := strings.Cut(name, " ")
		var packets, size uint64
		if n, _ := fmt.Sscanf(counters, "[%d:%d]", &packets, &size); n != 2 || !ours || !strings.Contains(match, "-j REJECT") {
			continue
		}
		out[name] += packets
	}
	return out
}

// Refusal is a packet that an Egress has refused.
type Refusal struct {
	Interface string       // of the pod
	Protocol  api.Protocol // empty for others than TCP and UDP
	From, To  netip.AddrPort
}

// WatchRefused calls refused for packets that the Egress of pods in the caller's namespace refuse, until ctx ends. The kernel gives
// it a few a minute of each pod.
func WatchRefused(ctx context.Context, refused func(Refusal)) error {
	s, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("listening for refused packets: %w", err)
	}
	stop := context.AfterFunc(ctx, s.Close)
	defer func() {
		if stop() {
			s.Close()
		}
	}()
	if err := joinGroup(s); err != nil {
		return fmt.Errorf("listening for refused packets: %w", err)
	}
	for {
		messages, _, err := s.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOBUFS): // some were lost
			continue
		case err != nil:
			return fmt.Errorf("listening for refused packets: %w", err)
		}
		for _, m := range messages {
			if r, ok := refusalOf(m.Header.Type, m.Data); ok {
				refused(r)
			}
		}
	}
}

// What linux/netfilter/nfnetlink_log.h names so.
const (
	logPacket      = 0 // NFULNL_MSG_PACKET
	logConfig      = 1 // NFULNL_MSG_CONFIG
	logPayload     = 9 // NFULA_PAYLOAD
	logPrefix      = 10
	logConfigCmd   = 1 // NFULA_CFG_CMD
	logConfigMode  = 2
	logConfigBind  = 1
	logCopyPacket  = 2
	logCopiedBytes = 64 // the heads are enough
)

// joinGroup binds the socket to RefusedGroup.
func joinGroup(s *nl.NetlinkSocket) error {
	group := nl.Nfgenmsg{ResId: binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, RefusedGroup))}
	mode := append(binary.BigEndian.AppendUint32(nil, logCopiedBytes), logCopyPacket, 0)
	for _, attr := range []*nl.RtAttr{nl.NewRtAttr(logConfigCmd, []byte{logConfigBind}), nl.NewRtAttr(logConfigMode, mode)} {
		m := message(unix.NFNL_SUBSYS_ULOG<<8|logConfig, unix.NLM_F_ACK, group, attr)
		if err := unix.Sendto(s.GetFd(), m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		if err := acknowledged(s, 1); err != nil {
			return err
		}
	}
	return nil
}

// refusalOf reads a message of the kernel: the prefix of the rule, and the packet's IPv4 head and ports.
func refusalOf(kind uint16, data []byte) (Refusal, bool) {
	if kind != unix.NFNL_SUBSYS_ULOG<<8|logPacket || len(data) < nl.SizeofNfgenmsg {
		return Refusal{}, false
	}
	attrs := append(bytes.Clone(data[nl.SizeofNfgenmsg:]), make([]byte, 3)...) // the parser wants the last one padded, as all others are
	attrs = attrs[:len(attrs)&^3]
	r := Refusal{Interface: unix.ByteSliceToString(attribute(attrs, logPrefix))}
	p := attribute(attrs, logPayload)
	if _, err := checkIface(r.Interface); err != nil || len(p) < 20 || p[0]>>4 != 4 {
		return Refusal{}, false
	}
	head := int(p[0]&15) * 4
	r.Protocol = map[byte]api.Protocol{unix.IPPROTO_TCP: api.TCP, unix.IPPROTO_UDP: api.UDP}[p[9]]
	var from, to uint16
	if r.Protocol != "" && len(p) >= head+4 {
		from, to = binary.BigEndian.Uint16(p[head:]), binary.BigEndian.Uint16(p[head+2:])
	}
	r.From = netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:16])), from)
	r.To = netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[16:20])), to)
	return r, true
}

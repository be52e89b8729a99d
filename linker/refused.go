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
)

// Refused gives how many packets each Egress has refused, by its interface: since it was laid, or somebody emptied the rules.
func (v Variant) Refused(ctx context.Context, netns string) (map[string]uint64, error) {
	out := map[string]uint64{}
	for _, f := range families(Rules{}) {
		text, err := v.save(ctx, netns, f.tool, "-c", "-t", "filter")
		if err != nil {
			return nil, err
		}
		addRefused(out, []byte(text))
	}
	return out, nil
}

// addRefused adds up the counters of the rules that refuse: "[packets:bytes] -A GEAR-NO-gv… … -j REJECT …".
func addRefused(out map[string]uint64, text []byte) {
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

// refusalOf reads a message of the kernel: the prefix of the rule, and the packet's head and ports.
func refusalOf(kind uint16, data []byte) (Refusal, bool) {
	if kind != unix.NFNL_SUBSYS_ULOG<<8|logPacket || len(data) < nl.SizeofNfgenmsg {
		return Refusal{}, false
	}
	attrs := append(bytes.Clone(data[nl.SizeofNfgenmsg:]), make([]byte, 3)...) // the parser wants the last one padded, as all others are
	attrs = attrs[:len(attrs)&^3]
	r := Refusal{Interface: unix.ByteSliceToString(attribute(attrs, logPrefix))}
	if _, err := checkIface(r.Interface); err != nil {
		return Refusal{}, false
	}
	h, ok := headOf(attribute(attrs, logPayload))
	if !ok {
		return Refusal{}, false
	}
	r.Protocol = map[byte]api.Protocol{unix.IPPROTO_TCP: api.TCP, unix.IPPROTO_UDP: api.UDP}[h.protocol]
	var from, to uint16
	if r.Protocol != "" && len(h.rest) >= 4 {
		from, to = binary.BigEndian.Uint16(h.rest), binary.BigEndian.Uint16(h.rest[2:])
	}
	r.From, r.To = netip.AddrPortFrom(h.from, from), netip.AddrPortFrom(h.to, to)
	return r, true
}

// head is what a packet's head says, and what is after it.
type head struct {
	protocol byte
	from, to netip.Addr
	rest     []byte
}

// headOf reads a packet (RFC 791, RFC 8200). Of one that has further heads of IPv6 the first one is the protocol.
func headOf(p []byte) (head, bool) {
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		after := min(int(p[0]&15)*4, len(p))
		return head{p[9], netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20])), p[after:]}, true
	case len(p) >= 40 && p[0]>>4 == 6:
		return head{p[6], netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40])), p[40:]}, true
	}
	return head{}, false
}

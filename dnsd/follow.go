package dnsd

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// follows tells whether the addresses of the name that was asked for are to be made known before the asker has them.
func (w *worker) follows(v View) bool {
	return w.server.config.Tell != nil && v.Pod != nil && v.Pod.Follows != nil && (w.qtype == dns.TypeA || w.qtype == dns.TypeAAAA) &&
		v.Pod.Follows(strings.TrimSuffix(string(w.name), "."))
}

// answer gives an answer that may be known already, or that of other servers.
func (w *worker) answer(ctx context.Context) (*answer, error) {
	view := w.server.config.Source.View(w.asker)
	if w.follows(view) {
		if a, out := w.decide(view, time.Now()); out == replied {
			return a, nil
		}
	}
	return w.server.forward.ask(ctx, w.key())
}

// tell makes the addresses in a reply known, where its asker follows the name.
func (w *worker) tell(ctx context.Context, reply []byte) error {
	if !w.follows(w.server.config.Source.View(w.asker)) {
		return nil
	}
	var m dns.Msg
	if err := m.Unpack(reply); err != nil {
		return err
	}
	var addrs []netip.Addr
	var ttl uint32
	for _, rr := range m.Answer {
		var raw net.IP
		switch rr := rr.(type) {
		case *dns.A:
			raw = rr.A.To4()
		case *dns.AAAA:
			raw = rr.AAAA.To16()
		}
		if addr, ok := netip.AddrFromSlice(raw); ok {
			addrs, ttl = append(addrs, addr), max(ttl, rr.Header().Ttl)
		}
	}
	if len(addrs) == 0 {
		return nil
	}
	return w.server.config.Tell(ctx, w.asker, strings.TrimSuffix(string(w.name), "."), addrs, time.Duration(ttl)*time.Second)
}

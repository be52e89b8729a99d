package dnsd

import (
	"context"
	"fmt"
	"iter"
	"math"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// secondary tells whether an asker may have the whole zone.
func (s *Server) secondary(asker netip.Addr) bool {
	return slices.ContainsFunc(s.config.Secondaries, func(a netip.AddrPort) bool { return a.Addr().Unmap() == asker })
}

// decideTransfer answers AXFR and IXFR: only secondaries get the zone, of our domain, over TCP. One that
// asks for the changes over UDP is told the serial (RFC 1995, section 2).
func (w *worker) decideTransfer(v View) (*answer, outcome) {
	switch {
	case v.Zone == nil:
		return failure(dns.RcodeServerFailure), replied
	case !w.server.secondary(w.asker):
		return failure(dns.RcodeRefused), replied
	case string(w.name) != v.Zone.domain:
		return failure(dns.RcodeNotAuth), replied
	case w.tcp:
		return nil, transfer
	case w.qtype == dns.TypeIXFR:
		a, _ := v.answer(w.name, dns.TypeSOA)
		return a, replied
	}
	return failure(dns.RcodeRefused), replied
}

// messageSize is about how big a message of a transfer gets, before its names are compressed. One more record
// still fits.
const messageSize = 16 << 10

// sendZone sends all records of our domain, in messages that begin and end with the SOA (RFC 5936,
// section 2.2). Changes are not kept: IXFR gets the whole zone too (RFC 1995, section 4).
func (s *Server) sendZone(c *net.TCPConn, w *worker) error {
	z := s.config.Source.View(w.asker).Zone
	m, size, sent := new(dns.Msg), 0, 0
	flush := func() error {
		m.Authoritative = true
		a, err := pack(string(w.name), w.qtype, m)
		if err != nil {
			return fmt.Errorf("packing a part of the zone: %w", err)
		}
		m, size, sent = new(dns.Msg), 0, sent+len(m.Answer)
		return s.send(c, w.write(nil, a.fixed(0), time.Now()))
	}
	for rr := range z.all() {
		m.Answer = append(m.Answer, rr)
		if size += dns.Len(rr); size >= messageSize {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(m.Answer) > 0 {
		if err := flush(); err != nil {
			return err
		}
	}
	s.config.Logger.Info("the zone is transferred", "to", w.asker, "serial", z.serial, "records", sent)
	return nil
}

// all gives every record of our domain in the order of the names, between two SOA.
func (z *Zone) all() iter.Seq[dns.RR] {
	return func(yield func(dns.RR) bool) {
		if !yield(z.soa(z.domain)) {
			return
		}
		for _, name := range z.inside() {
			for _, t := range []uint16{dns.TypeNS, dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT} {
				for _, rr := range z.records(z.nodes[name], name, t, false, math.MaxInt).Answer {
					if !yield(rr) {
						return
					}
				}
			}
		}
		yield(z.soa(z.domain))
	}
}

// inside gives the names of our domain, sorted.
func (z *Zone) inside() []string {
	out := make([]string, 0, len(z.nodes))
	for name := range z.nodes {
		if l := z.owner([]byte(name)); l != nil && l.name == z.domain {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// How a secondary is told of a change: at most once a second, and again when it does not answer
// (RFC 1996, section 3.6).
const (
	notifyEvery = time.Second
	notifyWait  = 3 * time.Second
	notifyTries = 5
)

// notifyChanges tells a secondary of each new serial, until ctx ends. What it is not told it finds out
// when it refreshes.
func (s *Server) notifyChanges(ctx context.Context, at netip.AddrPort) {
	var told uint32
	for pause(ctx, notifyEvery) {
		z := s.config.Source.View(at.Addr()).Zone
		if z == nil || z.serial == told {
			continue
		}
		if err := s.notify(ctx, at, z); err != nil && ctx.Err() == nil {
			s.config.Logger.Warn("a secondary DNS server is not told of a change", "server", at, "serial", z.serial, "error", err)
		}
		told = z.serial
	}
}

// notify tells a secondary of a serial.
func (s *Server) notify(ctx context.Context, at netip.AddrPort, z *Zone) (err error) {
	m := new(dns.Msg).SetNotify(z.domain)
	m.Answer = []dns.RR{z.soa(z.domain)}
	client := dns.Client{Timeout: notifyWait, Dialer: &net.Dialer{Timeout: notifyWait, LocalAddr: s.self(at)}}
	for range notifyTries {
		var got *dns.Msg
		if got, _, err = client.ExchangeContext(ctx, m, at.String()); err == nil && got.Rcode == dns.RcodeSuccess {
			return nil
		}
		if err == nil {
			return fmt.Errorf("it answers %s to a NOTIFY", dns.RcodeToString[got.Rcode])
		}
		if !pause(ctx, notifyWait) {
			return ctx.Err()
		}
	}
	return err
}

// self gives the address that a secondary knows this server by, or nil for any.
func (s *Server) self(to netip.AddrPort) net.Addr {
	for _, l := range s.config.Listen {
		if a := l.Addr(); a.Is4() == to.Addr().Is4() && !a.IsUnspecified() {
			return &net.UDPAddr{IP: a.AsSlice(), Zone: a.Zone()}
		}
	}
	return nil
}

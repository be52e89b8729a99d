// Package dnsd is the DNS server of a host: it answers for the cluster's names from memory, and
// forwards other names for the hosts of the cluster and their pods.
//
// Names, with gear.internal as the domain:
//
//	web.shop.gear.internal              A, AAAA: hosts with a ready endpoint of service web of project shop; SRV: every ready endpoint
//	_http._tcp.web.shop.gear.internal   SRV: the ready endpoints of port http; A: their hosts
//	web-x7k2f.pod.shop.gear.internal    A: the host of a pod; SRV: its ready ports
//	db1.host.gear.internal              A: a host
//	shop.example.com                    A: the hosts with a living router, when it is an alias
//	7.2.0.192.in-addr.arpa              PTR: a host
//	nearest.web.shop.gear.internal      A, AAAA: of web's hosts the one that answers, else those in its zone, else all; SRV: all, nearest first
//
// Services, pods, hosts and aliases have a TXT record that says what they are. The domain has SOA and NS, so
// that it can be delegated to the hosts, and transferred to secondaries.
//
// What is told depends on who asks (View). A pod with the search domain shop.gear.internal asks for
// "db"; when it has a link to db it gets the link's loopback address. Every record has a TTL of 5 s.
//
// A query is read (question), an answer is decided (View.answer, or the forwarder) and packed once (answer), and
// what differs between askers is patched in: id, flags, the case of the name, order, EDNS and cookie (question.write).
//
// Sources: RFC 1035, 1995 and 5936 (transfers), 1996 (NOTIFY), 2308 (negative answers), 2782 (SRV), 6891 (EDNS), 7766
// (TCP), 7873 (cookies), 8020 (nothing under a missing name), 8482 (ANY), 8767 (serving stale), and
// dnsflagday.net/2020 for the size of datagrams.
package dnsd

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Config says where a Server listens and what it knows.
type Config struct {
	Listen    []netip.AddrPort        // UDP and TCP of each; addresses may come up later. Port 0 picks one
	Source    Source                  // what askers see
	Upstreams func() []netip.AddrPort // servers for other names; none when nil. See ResolvConf
	Split     []Route                 // domains that have servers of their own, which alone are asked for them
	Logger    *slog.Logger            // nothing is logged when nil
	Limits    Limits                  // DefaultLimits() when zero

	// Tell is called with the addresses of a name that a pod follows (Pod.Follows), before it is told of them; the answer waits for it, and
	// is SERVFAIL after an error. Nothing is called when nil.
	Tell func(ctx context.Context, pod netip.Addr, name string, addrs []netip.Addr, ttl time.Duration) error

	// Secondaries are servers that may have the whole zone, and are told of changes. None when empty.
	Secondaries []netip.AddrPort
}

// Server answers DNS queries. It is made by New and used by one Run.
type Server struct {
	config    Config
	udp       []*net.UDPConn
	tcp       []*net.TCPListener
	forward   *forwarder
	strangers *rateLimit
	pods      *rateLimit
	secret    cipher.Block // of cookies
	streams   *streamCount
	work      sync.WaitGroup // everything that Run started
}

// New binds the addresses. An address that the host does not have yet is bound all the same.
func New(c Config) (*Server, error) {
	if c.Source == nil || len(c.Listen) == 0 {
		return nil, errors.New("dnsd: a Source and an address to listen on are needed")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Limits == (Limits{}) {
		c.Limits = DefaultLimits()
	}
	s, err := newServer(c)
	if err != nil {
		return nil, err
	}
	for _, a := range c.Listen {
		if err := s.bind(a); err != nil {
			s.close()
			return nil, fmt.Errorf("dnsd: listening on %s: %w (another DNS server there? ss -lnup 'sport = :53' shows it)", a, err)
		}
	}
	return s, nil
}

// newServer makes a server without sockets.
func newServer(c Config) (*Server, error) {
	secret, err := newSecret()
	if err != nil {
		return nil, fmt.Errorf("dnsd: making the secret of cookies: %w", err)
	}
	s := &Server{config: c, secret: secret, streams: newStreamCount(c.Limits), strangers: newRateLimit(c.Limits.StrangerRate, 24, 56), pods: newRateLimit(c.Limits.PodRate, 32, 128)}
	s.forward = newForwarder(c, &s.work)
	return s, nil
}

// Addrs gives the addresses it listens on.
func (s *Server) Addrs() []netip.AddrPort {
	var out []netip.AddrPort
	for _, l := range s.tcp {
		out = append(out, l.Addr().(*net.TCPAddr).AddrPort())
	}
	return out
}

// Run serves until ctx ends, and returns when all its goroutines have.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, c := range s.udp {
		s.work.Go(func() { defer cancel(); s.serveUDP(ctx, c) })
	}
	for _, l := range s.tcp {
		s.work.Go(func() { defer cancel(); s.serveTCP(ctx, l) })
	}
	for _, a := range s.config.Secondaries {
		s.work.Go(func() { s.notifyChanges(ctx, a) })
	}
	<-ctx.Done()
	s.close()
	s.work.Wait()
	return nil
}

func (s *Server) close() {
	for _, c := range s.udp {
		c.Close()
	}
	for _, l := range s.tcp {
		l.Close()
	}
}

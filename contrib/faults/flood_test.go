package main

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/dnsd"
	"gearmesh.dev/internal/freeport"
)

// What F22 counts is what a real server does: a stranger's flood is mostly dropped, and its slow connections are few.
func TestFloodOfNames(t *testing.T) {
	zone := dnsd.NewZone(api.Directory{Hosts: []api.HostEntry{{Name: "h1", Address: netip.MustParseAddr("192.0.2.1")}}}, dnsd.Options{})
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), freeport.Row(t, 1)) // of TCP and UDP
	s, err := dnsd.New(dnsd.Config{Listen: []netip.AddrPort{at}, Source: dnsd.Static{Zone: zone}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	full, cut, err := flood(s.Addrs()[0])
	if err != nil || full < 100 || full > 2000 || cut < full {
		t.Errorf("%d whole answers, %d cut, %v", full, cut, err)
	}
	kept, err := slowClients(s.Addrs()[0], []byte{0}, 100*time.Millisecond)
	if err != nil || kept < 1 || kept > 32 {
		t.Errorf("%d connections, %v", kept, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

package dnsd

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestFollow asks as a pod, and looks at what is told before the answer.
func TestFollow(t *testing.T) {
	w := newWorld(t, nil)
	pod := NewPod("gear.internal", "shop", nil)
	pod.Follows = func(name string) bool {
		return name == "www.example" || name == "bad.example" || name == "gone.example"
	}
	var mu sync.Mutex
	var told []netip.Addr
	tell := func(_ context.Context, asker netip.Addr, name string, addrs []netip.Addr, ttl time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, addrs...)
		if name == "bad.example" || asker != ip("127.0.0.1") || ttl < time.Minute {
			return errors.New("no")
		}
		return nil
	}
	at := serve(t, Config{Source: Static{Zone: table().View(ip("127.0.0.1")).Zone, Pod: &pod, Recurse: true}, Tell: tell,
		Upstreams: func() []netip.AddrPort { return []netip.AddrPort{w.at} }})
	for _, c := range []struct {
		network, name string
		qtype         uint16
		rcode         int
		told          int
	}{
		{"udp", "www.example.", dns.TypeA, dns.RcodeSuccess, 1},
		{"udp", "WWW.example.", dns.TypeA, dns.RcodeSuccess, 1}, // from the cache
		{"tcp", "www.example.", dns.TypeA, dns.RcodeSuccess, 1},
		{"udp", "www.example.", dns.TypeAAAA, dns.RcodeSuccess, 1},
		{"udp", "www.example.", dns.TypeTXT, dns.RcodeSuccess, 0},
		{"udp", "other.test.", dns.TypeA, dns.RcodeSuccess, 0},
		{"udp", "gone.example.", dns.TypeA, dns.RcodeNameError, 0},
		{"udp", "bad.example.", dns.TypeA, dns.RcodeServerFailure, 1},
	} {
		mu.Lock()
		told = nil
		mu.Unlock()
		client := dns.Client{Net: c.network, Timeout: time.Minute}
		m, _, err := client.Exchange(new(dns.Msg).SetQuestion(c.name, c.qtype), at.String())
		if err != nil || m.Rcode != c.rcode {
			t.Fatalf("%s %s: %v, %v", c.network, c.name, m, err)
		}
		mu.Lock()
		if len(told) != c.told || c.told > 0 && !slices.Contains(told, map[uint16]netip.Addr{dns.TypeA: ip("198.51.100.7"), dns.TypeAAAA: ip("2001:db8::7")}[c.qtype]) {
			t.Errorf("%s %s: told of %v, want %d", c.network, c.name, told, c.told)
		}
		mu.Unlock()
	}
}

//go:build root

package linker_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/linker"
)

// wipe does what somebody does who starts a firewall anew: every rule and every chain of iptables goes.
func (s space) wipe(t testing.TB) {
	t.Helper()
	for _, table := range []string{"nat", "filter", "mangle", "raw"} {
		for _, tool := range []string{"iptables-nft", "ip6tables-nft"} {
			s.run(t, tool, "-t", table, "-F")
			s.run(t, tool, "-t", table, "-X")
		}
	}
}

func keep() error { return linker.Keep(true) }

func TestOpenFlowsOutliveTheRules(t *testing.T) {
	c := newDual(t, linker.NFT)
	c.b.do(t, keep)
	open, six := c.a.session(t, "tcp", "192.0.2.2:20000"), c.a.session(t, "tcp", "[2001:db8::2]:20000")
	open.expect(t, "b0", "192.0.2.1")
	six.expect(t, "b0", "2001:db8::1")
	c.b.wipe(t)
	open.expect(t, "b0", "192.0.2.1")
	six.expect(t, "b0", "2001:db8::1")
	c.a.refused(t, "tcp", "192.0.2.2:20000")
	c.applyHost(t, c.b, c.cb)
	open.expect(t, "b0", "192.0.2.1")
	c.a.session(t, "tcp", "192.0.2.2:20000").expect(t, "b0", "192.0.2.1")
}

func TestKeepIsDoneOnce(t *testing.T) {
	s := newSpace(t)
	generation := func() (g uint32) {
		s.do(t, func() (err error) { g, err = linker.Generation(); return err })
		return g
	}
	first := generation()
	s.do(t, keep)
	kept := generation()
	if kept == first {
		t.Error("it makes nothing")
	}
	s.do(t, keep)
	s.run(t, "iptables-nft", "-t", "nat", "-N", "SOMEBODY")
	s.wipe(t)
	wiped := generation()
	s.do(t, keep)
	if again := generation(); again != wiped {
		t.Error("it is made anew after iptables took away all that it knows")
	}
	if have := s.run(t, "iptables-nft-save"); strings.Contains(have, "gear-keep") {
		t.Errorf("iptables sees it:\n%s", have)
	}
}

func TestWatchHearsOfChanges(t *testing.T) {
	s := newSpace(t)
	ctx, cancel := context.WithCancel(t.Context())
	heard, ended := make(chan struct{}, 100), make(chan error, 1)
	go func() {
		ended <- s.try(func() error {
			return linker.Watch(ctx, func() {
				select {
				case heard <- struct{}{}:
				default:
				}
			})
		})
	}()
	for range 300 { // it may not listen yet
		s.run(t, "iptables-nft", "-N", "SOMEBODY")
		s.run(t, "iptables-nft", "-X", "SOMEBODY")
		if heardSoon(heard) {
			break
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(heard) == 0 && !t.Failed() {
		t.Error("it heard of nothing")
	}
}

// heardSoon waits a moment for news, and leaves them there.
func heardSoon(news chan struct{}) bool {
	for range 20 {
		if len(news) > 0 {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

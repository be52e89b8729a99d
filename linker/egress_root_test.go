//go:build root

package linker_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
	"gearmesh.dev/linker"
)

// TestEgress holds one of two pods to a list, with real traffic.
func TestEgress(t *testing.T) {
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		c := newClusterWith(t, v, true)
		held, free := c.pa[0], c.pa[1]
		c.stranger.serve(t, "s", ":80")
		c.stranger.serve(t, "t", ":81")
		c.a.serve(t, "dns", "10.127.0.1:53")
		far, near := link("far", 1, 5432, "192.0.2.2:20001"), link("near", 2, 5433, "192.0.2.1:20001")
		c.applyPod(t, held, far, udp(far), near, udp(near))
		for _, network := range []string{"tcp", "udp"} {
			held.session(t, network, "192.0.2.66:80").expect(t, "s", "192.0.2.1")
		}
		open := held.session(t, "tcp", "192.0.2.66:81")
		open.expect(t, "t", "")

		before := c.ca
		c.ca.Open = []linker.OpenPort{{Protocol: api.TCP, Port: 80}}
		c.hold(&linker.Egress{Interface: "gv10"})
		said := c.listen(t)
		c.applyHost(t, c.a, c.ca)
		if ended, err := linker.Flush(t.Context(), c.a.path, before, c.ca); err != nil || ended[linker.ReasonEgress] == 0 {
			t.Errorf("flushing ended %v, %v; want the open flow among them", ended, err)
		}
		if _, err := open.ask("hello"); err == nil {
			t.Error("an open connection goes on")
		}
		for _, network := range []string{"tcp", "udp"} {
			held.refused(t, network, "192.0.2.66:80")
			held.refused(t, network, "192.0.2.1:80") // a port that others may reach
			held.refused(t, network, "10.127.0.11:5432")
			held.session(t, network, "127.0.0.1:5432").expect(t, "b1", "192.0.2.1")
			held.session(t, network, "127.0.0.1:5433").expect(t, "a1", "")
			held.session(t, network, "10.127.0.1:53").expect(t, "dns", "")
			free.session(t, network, "192.0.2.66:80").expect(t, "s", "")
		}
		r := told(t, said, func() { held.refused(t, "udp", "192.0.2.66:80") })
		if r.Interface != "gv10" || r.From.Addr() != held.addr || r.To.Port() == 0 {
			t.Errorf("told of %+v", r)
		}
		n := c.refusedBy(t, "gv10")
		if n < 6 {
			t.Errorf("%d packets counted, want 6 or more", n)
		}

		c.hold(&linker.Egress{Interface: "gv10", Allow: []linker.Allowed{
			{Net: netip.MustParsePrefix("192.0.2.64/28"), Protocol: api.TCP, Ports: []uint16{80, 8080}},
			{Net: netip.MustParsePrefix("0.0.0.0/0"), Protocol: api.UDP, Ports: []uint16{80}}}})
		c.applyHost(t, c.a, c.ca)
		if kept := c.refusedBy(t, "gv10"); kept < n {
			t.Errorf("%d packets counted after a change, %d before", kept, n)
		}
		for _, network := range []string{"tcp", "udp"} {
			held.session(t, network, "192.0.2.66:80").expect(t, "s", "192.0.2.1")
			held.refused(t, network, "192.0.2.66:81")
		}
		if again, err := v.Drifted(t.Context(), c.a.path, c.plan(t)); err != nil || again {
			t.Errorf("a second Apply would change something: %v, %v", again, err)
		}
		c.forged(t, held)
	})
}

// forged shows that a pod that is root of its namespace gets no further by taking its links' address.
func (c *cluster) forged(t *testing.T, held labPod) {
	held.run(t, "ip", "addr", "add", linker.LinkSource(held.addr).String()+"/32", "dev", "lo")
	err := held.try(func() error {
		d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: linker.LinkSource(held.addr).AsSlice()}}
		conn, err := d.Dial("tcp", "192.0.2.66:81")
		if err == nil {
			conn.Close()
		}
		return err
	})
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("from its links' address the pod gets %v, want it refused", err)
	}
}

func (c *cluster) hold(e *linker.Egress) {
	pods := append([]linker.HostPod(nil), c.ca.Pods...)
	pods[0].Egress = e
	c.ca.Pods = pods
}

func (c *cluster) plan(t *testing.T) linker.Rules {
	t.Helper()
	r, err := linker.HostPlan(c.ca)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (c *cluster) refusedBy(t *testing.T, i string) uint64 {
	t.Helper()
	n, err := c.variant.Refused(t.Context(), c.a.path)
	if err != nil {
		t.Fatal(err)
	}
	return n[i]
}

// listen gives what host a's kernel tells of refused packets.
func (c *cluster) listen(t *testing.T) <-chan linker.Refusal {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	said, done := make(chan linker.Refusal, 64), make(chan error, 1)
	go func() {
		done <- c.a.try(func() error { return linker.WatchRefused(ctx, func(r linker.Refusal) { said <- r }) })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return said
}

// told gives the first refusal that is told. It has more packets refused until then: who tells may not have listened at first.
func told(t *testing.T, said <-chan linker.Refusal, refuse func()) linker.Refusal {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); refuse() {
		select {
		case r := <-said:
			return r
		case <-time.After(time.Second):
		}
	}
	t.Error("nobody is told of a refused packet")
	return linker.Refusal{}
}

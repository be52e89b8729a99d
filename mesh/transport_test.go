package mesh

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

func listenHere(t *testing.T) *transport {
	t.Helper()
	tr, err := listen(netip.MustParseAddrPort("127.0.0.1:0"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	return tr
}

func (t *transport) address() memberlist.Address {
	ip, port, _ := t.FinalAdvertiseAddr("", 0)
	return memberlist.Address{Addr: (&net.TCPAddr{IP: ip, Port: port}).String()}
}

// TestTransportPackets: each datagram comes whole, up to the longest, and stays as it was when others follow.
func TestTransportPackets(t *testing.T) {
	a, b := listenHere(t), listenHere(t)
	var got []*memberlist.Packet
	texts := [][]byte{[]byte("one"), bytes.Repeat([]byte("x"), 60_000), []byte("three")}
	for _, text := range texts {
		if _, err := a.WriteToAddress(text, b.address()); err != nil {
			t.Fatal(err)
		}
		got = append(got, <-b.PacketCh())
	}
	for i, p := range got {
		if !bytes.Equal(p.Buf, texts[i]) || cap(p.Buf) > 2*len(texts[i])+64 || p.From.String() != a.address().Addr || p.Timestamp.IsZero() {
			t.Errorf("packet %d has %d bytes in %d, is from %v", i, len(p.Buf), cap(p.Buf), p.From)
		}
	}
	if _, err := a.WriteTo([]byte("x"), "no address"); err == nil {
		t.Error("a datagram went nowhere without an error")
	}
}

func TestTransportStreams(t *testing.T) {
	a, b := listenHere(t), listenHere(t)
	c, err := a.DialAddressTimeout(b.address(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	other := <-b.StreamCh()
	defer other.Close()
	if c.LocalAddr().String() != other.RemoteAddr().String() {
		t.Errorf("%v came from %v", c.LocalAddr(), other.RemoteAddr())
	}
}

// TestTransportShutdown: it ends with a datagram and a connection that nobody has taken, and gives its port back.
func TestTransportShutdown(t *testing.T) {
	a, b := listenHere(t), listenHere(t)
	for range 3 {
		if _, err := a.WriteToAddress([]byte("x"), b.address()); err != nil {
			t.Fatal(err)
		}
		c, err := a.DialAddressTimeout(b.address(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	at := netip.MustParseAddrPort(b.address().Addr)
	for range 2 {
		if err := b.Shutdown(); err != nil {
			t.Fatal(err)
		}
	}
	again, err := listen(at, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Shutdown(); err != nil {
		t.Error(err)
	}
}

package mesh

import (
	"errors"
	"math"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// lossy is a real transport that loses packets at random.
type lossy struct {
	*memberlist.NetTransport
	loss float64
	lost atomic.Int64
}

var _ memberlist.NodeAwareTransport = (*lossy)(nil)

func (l *lossy) drop(segments float64) bool {
	if rand.Float64() < math.Pow(1-l.loss, segments) {
		return false
	}
	l.lost.Add(1)
	return true
}

func (l *lossy) WriteTo(b []byte, addr string) (time.Time, error) {
	return l.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (l *lossy) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if l.drop(1) {
		return time.Now(), nil
	}
	return l.NetTransport.WriteToAddress(b, a)
}

func (l *lossy) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return l.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

func (l *lossy) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if l.drop(5) {
		time.Sleep(timeout)
		return nil, errors.New("lost")
	}
	return l.NetTransport.DialAddressTimeout(a, timeout)
}

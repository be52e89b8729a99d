//go:build root

package linker

import (
	"net"
	"slices"
	"testing"

	"gearmesh.dev/api"
)

// What the kernel says of TCP sockets that wait is what /proc has of them, also beside open connections.
func TestListenersAreAskedAsRead(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"} {
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		asked, err := askTCP()
		if err != nil {
			t.Fatal(err)
		}
		read, err := readSockets(api.TCP)
		if err != nil {
			t.Fatal(err)
		}
		own := func(s socket) bool { return s.at.String() == l.Addr().String() }
		if i, j := slices.IndexFunc(asked, own), slices.IndexFunc(read, own); i < 0 || j < 0 || asked[i] != read[j] {
			t.Errorf("%s: asked %v, read %v", l.Addr(), asked, read)
		}
		if slices.ContainsFunc(asked, func(s socket) bool { return s.at.String() == c.LocalAddr().String() }) {
			t.Errorf("%s: a connection counts as a listener", c.LocalAddr())
		}
	}
}

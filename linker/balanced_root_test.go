//go:build root

package linker_test

import (
	"net/netip"
	"testing"

	"gearmesh.dev/api"
)

// A balanced link leads to the balancer of the pod's host, and nobody else gets there: not the same pod past its link, not a
// pod with another balanced link whose root has made rules of its own, not a neighbour of the host.
func TestBalancedLink(t *testing.T) {
	eachWay(t, func(t *testing.T, c *cluster) {
		balanced := func(port uint16) api.LinkTarget {
			return with(link("db", 1, 5432, "192.0.2.2:20000"), func(l *api.LinkTarget) {
				l.Mode, l.Via = api.LinkBalanced, netip.AddrPortFrom(netip.MustParseAddr("10.127.0.1"), port)
			})
		}
		c.a.serve(t, "db", "10.127.0.1:30000")
		c.a.serve(t, "other", "10.127.0.1:30001")
		c.ca.Pods[0].Balanced, c.ca.Pods[1].Balanced = []uint16{30000}, []uint16{30001}
		c.applyHost(t, c.a, c.ca)
		c.applyPod(t, c.pa[0], balanced(30000))
		c.applyPod(t, c.pa[1], balanced(30001))
		c.pa[0].session(t, "tcp", "127.0.0.1:5432").expect(t, "db", "")
		c.pa[1].session(t, "tcp", "127.0.0.1:5432").expect(t, "other", "")
		c.pa[0].refused(t, "tcp", "10.127.0.1:30000")
		c.applyPod(t, c.pa[1], balanced(30000))
		c.pa[1].refused(t, "tcp", "127.0.0.1:5432")
		c.stranger.batch(t, "route add 10.127.0.1/32 via 192.0.2.1")
		c.stranger.unheard(t, "10.127.0.1:30000")
		c.ca.Pods[0].Balanced = nil
		c.applyHost(t, c.a, c.ca)
		c.pa[0].refused(t, "tcp", "127.0.0.1:5432")
	})
}

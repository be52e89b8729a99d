package mesh

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

// BenchmarkDetection measures how long a host that loses power stays in the links of all others
// (go test -run '^$' -bench Detection -benchtime 20x -v ./mesh). It logs; it asserts no time.
func BenchmarkDetection(b *testing.B) {
	for name, size := range map[string]int{"3": 3, "5": 5} {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for b.Loop() {
				took = append(took, detect(b, size))
			}
			report(b, took)
		})
	}
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds(), "s/median")
	b.ReportMetric(took[len(took)-1].Seconds(), "s/worst")
	b.Logf("%d runs: %v", len(took), took)
}

func detect(t testing.TB, size int) time.Duration {
	c := newCluster(t)
	nodes := c.startAll(size)
	time.Sleep(time.Duration(1000+rand.IntN(1000)) * time.Millisecond)
	nodes[size-1].stop()
	victim, start := nodes[size-1].config.Name, time.Now()
	for _, n := range nodes[:size-1] {
		c.await(n, "the dead host is down", func() bool { return n.Down(victim) })
	}
	took := time.Since(start)
	for _, n := range nodes {
		n.stop()
	}
	return took
}

func TestDetectionIsLogged(t *testing.T) {
	t.Logf("5 hosts: %v", detect(t, 5))
}

// BenchmarkLoss counts false failures of 5 hosts under packet loss, for a minute each
// (go test -run '^$' -bench Loss -benchtime 1x -v ./mesh).
func BenchmarkLoss(b *testing.B) {
	for name, loss := range map[string]float64{"10%": 0.1, "30%": 0.3} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				c, events := startLossy(b, 5, loss)
				pause(context.Background(), time.Minute)
				b.ReportMetric(float64(c.log.count("EventMemberFailed")), "failures")
				b.Logf("%d failures seen, %d suspicions, %d refutations, %d packets lost",
					c.log.count("EventMemberFailed"), c.log.count("Suspect "), c.log.count("Refuting"), events())
			}
		})
	}
}

// startLossy starts nodes whose transport loses packets, and TCP connections as often as the
// five segments that a ping over TCP needs would see a loss.
func startLossy(b *testing.B, size int, loss float64) (*cluster, func() int64) {
	c := newCluster(b)
	var lost []*lossy
	var nodes []*Node
	for i := 1; i <= size; i++ {
		cfg := c.config(i).withDefaults()
		ring, err := cfg.keyring()
		if err != nil {
			b.Fatal(err)
		}
		sc := cfg.serf(make(chan serf.Event, 1<<16), ring)
		inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{cfg.Address.String()}, BindPort: int(cfg.Port), Logger: sc.Logger})
		if err != nil {
			b.Fatal(err)
		}
		l := &lossy{NetTransport: inner, loss: loss}
		sc.MemberlistConfig.Transport = l
		lost = append(lost, l)
		s, err := serf.Create(sc)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { s.Shutdown() })
		n := &Node{config: cfg, serf: s, dirty: make(chan struct{}, 1)}
		n.peers.init()
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		n.peers.set([]netip.Addr{c.addr(1), c.addr(2)})
	}
	for slices.ContainsFunc(nodes, func(n *Node) bool { return len(n.alive()) < size }) {
		for _, n := range nodes {
			n.tryJoin(context.Background())
		}
	}
	return c, func() (sum int64) {
		for _, l := range lost {
			sum += l.lost.Load()
		}
		return sum
	}
}

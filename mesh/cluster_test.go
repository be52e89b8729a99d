package mesh

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/freeport"
)

// cluster is a set of real nodes on loopback addresses of their own.
type cluster struct {
	t    testing.TB
	port uint16
	net  byte // 127.77.net.x
	log  *recorder
	tune func(*Tuning) // when a test changes it
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	// A port that the kernel gives to nobody, of TCP or of UDP, and a network that other tests do not use.
	return &cluster{t: t, port: freeport.Row(t, 1), net: byte(1 + rand.IntN(250)), log: &recorder{}}
}

func (c *cluster) addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 77, c.net, byte(i)}) }

func (c *cluster) config(i int) Config {
	tuning := LAN()
	if c.tune != nil {
		c.tune(&tuning)
	}
	return Config{Tuning: tuning, Name: api.Name(fmt.Sprintf("h%d", i)), Address: c.addr(i), Port: c.port, Key: []byte(strings.Repeat("k", KeyLen)),
		Tags: Tags{Role: "host", Version: "1.0", API: netip.AddrPortFrom(c.addr(i), 7444)}, Logger: slog.New(c.log)}
}

// start starts a node that is closed with the test.
func (c *cluster) start(cfg Config, peers ...int) *Node {
	c.t.Helper()
	n, err := Start(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { n.stop() })
	var at []netip.Addr
	for _, p := range peers {
		at = append(at, c.addr(p))
	}
	n.Join(at)
	return n
}

// stop ends nodes before the test does.
func (c *cluster) stop(nodes ...*Node) {
	for _, n := range nodes {
		if err := n.stop(); err != nil {
			c.t.Error(err)
		}
	}
}

// startAll starts n nodes that all know each other.
func (c *cluster) startAll(n int) []*Node {
	c.t.Helper()
	var nodes []*Node
	for i := 1; i <= n; i++ {
		nodes = append(nodes, c.start(c.config(i), 1))
	}
	for _, node := range nodes {
		c.await(node, "all are members", func() bool { return count(node, Alive) == n })
	}
	return nodes
}

// await waits for what a node will see sooner or later.
func (c *cluster) await(n *Node, what string, is func() bool) time.Duration {
	c.t.Helper()
	start, limit := time.Now(), time.After(3*time.Minute)
	for !is() {
		select {
		case <-limit:
			c.t.Fatalf("%s: still not so: %s\nmembers %+v", n.config.Name, what, n.Members())
		case <-n.Changed():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return time.Since(start)
}

func count(n *Node, s State) int {
	c := 0
	for _, m := range n.Members() {
		if m.State == s {
			c++
		}
	}
	return c
}

func state(n *Node, name api.Name) State {
	all := n.Members()
	if i := slices.IndexFunc(all, func(m Member) bool { return m.Name == name }); i >= 0 {
		return all[i].State
	}
	return ""
}

// recorder is a slog handler that keeps every line.
type recorder struct {
	mu    sync.Mutex
	lines []string
}

func (r *recorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *recorder) WithGroup(string) slog.Handler            { return r }
func (r *recorder) Handle(_ context.Context, line slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line.Level.String()+" "+line.Message)
	return nil
}

func (r *recorder) count(part string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := 0
	for _, l := range r.lines {
		if strings.Contains(l, part) {
			c++
		}
	}
	return c
}

//go:build root

package linker_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/linker"
)

// probePeriod is how often the test looks for a leak.
const probePeriod = 50 * time.Millisecond

// glanceTime is how long a look may take: nobody answers some of them.
const glanceTime = 4 * probePeriod

// A pod goes and another one gets its address, while a pod with a link and a host that has not heard of it go on with old and new
// connections: nobody ever reaches the new pod.
func TestNoLeakWhileAddressesAreReused(t *testing.T) {
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		c := newClusterWith(t, v, true)
		db := link("db", 1, 5432, "192.0.2.2:20000")
		old := []api.LinkTarget{db, udp(db)}
		rules := c.applyPod(t, c.pa[0], old...)
		var probes []func() string
		for _, network := range []string{"tcp", "udp"} {
			for at, from := range map[string]space{"127.0.0.1:5432": c.pa[0].space, "192.0.2.2:20000": c.a.space} {
				open := from.session(t, network, at)
				open.expect(t, "b0", "")
				probes = append(probes, func() string { return open.glance() }, func() string { return from.glance(network, at) })
			}
		}
		found := watch(t, probes)
		for end := time.Now().Add(patience); found.by("b0") == 0 && time.Now().Before(end); time.Sleep(probePeriod) {
		}

		// The endpoint is withdrawn, then the pod goes, then its rules, then another pod comes: the order of docs/architecture.md.
		c.retarget(t, c.pa[0], rules, old, []api.LinkTarget{with(db, func(l *api.LinkTarget) { l.Backends = nil }), with(udp(db), func(l *api.LinkTarget) { l.Backends = nil })})
		time.Sleep(4 * probePeriod)
		c.b.batch(t, "link del gv20")
		next := c.cb
		next.Pods = c.cb.Pods[1:]
		c.applyHost(t, c.b, next)
		if _, err := linker.Flush(t.Context(), c.b.path, c.cb, next); err != nil {
			t.Fatal(err)
		}
		other := c.b.pod(t, 20)
		other.serve(t, "other", ":5432")
		reused := next
		reused.Pods = append([]linker.HostPod{{Address: other.addr, Ports: []api.HostPort{
			{Name: "main", Protocol: api.TCP, Port: 5432, HostPort: 20007}, {Name: "udp", Protocol: api.UDP, Port: 5432, HostPort: 20007}}}}, next.Pods...)
		c.applyHost(t, c.b, reused)
		if _, err := linker.Flush(t.Context(), c.b.path, next, reused); err != nil {
			t.Fatal(err)
		}
		c.a.session(t, "tcp", "192.0.2.2:20007").expect(t, "other", "") // it is really there
		time.Sleep(10 * probePeriod)
		answers := found.end()
		if answers["other"] > 0 || answers["b0"] == 0 {
			t.Errorf("answers by server: %v; want some by b0, who is gone, and none by other, who has its address", answers)
		}
	})
}

// found is what probes find.
type found struct {
	mu      sync.Mutex
	answers map[string]int // by server
	end     func() map[string]int
}

func (f *found) by(server string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.answers[server]
}

// watch calls each probe every probePeriod, until it is asked to end.
func watch(t *testing.T, probes []func() string) *found {
	var wg sync.WaitGroup
	f, stop := &found{answers: map[string]int{}}, make(chan struct{})
	for _, probe := range probes {
		wg.Go(func() {
			tick := time.NewTicker(probePeriod)
			defer tick.Stop()
			for {
				server := probe()
				f.mu.Lock()
				f.answers[server]++
				f.mu.Unlock()
				select {
				case <-stop:
					return
				case <-tick.C:
				}
			}
		})
	}
	end := sync.OnceFunc(func() { close(stop); wg.Wait() })
	t.Cleanup(end)
	f.end = func() map[string]int { end(); return f.answers }
	return f
}

// glance asks on an open session and gives who answers; "" when nobody does at once.
func (c *session) glance() string {
	_ = c.SetDeadline(time.Now().Add(glanceTime)) // what cannot be set shows in the write
	if _, err := fmt.Fprintln(c, "hello"); err != nil {
		return ""
	}
	n, _ := c.Read(c.buf[:])
	server, _, _ := strings.Cut(string(c.buf[:n]), " ")
	return server
}

// glance asks on a new session.
func (s space) glance(network, addr string) string {
	c, err := s.dial(network, addr, glanceTime)
	if err != nil {
		return ""
	}
	defer c.Close()
	return (&session{Conn: c}).glance()
}

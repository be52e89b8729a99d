package router

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/loop"
)

// Balancer keeps the HAProxy that carries a host's balanced links.
type Balancer struct {
	mu     sync.Mutex
	d      *driver
	master string
	links  map[string]api.BalancedLink // by the id of the backend
	down   func(netip.Addr) bool
	left   map[string]time.Time // slots that nobody uses: since when; the zero time when their connections have been ended
}

// BalancerOptions are what a Balancer needs. HAProxy and the times have the defaults of Options.
type BalancerOptions struct {
	Settings   Settings // for RenderLinks
	Master     string   // socket of HAProxy's master process (-S)
	Supervisor Supervisor
	Logger     *slog.Logger
	HAProxy    string
	MinReload  time.Duration
	Audit      time.Duration
	Still      time.Duration
}

// NewBalancer gives the Balancer of a host. It starts nothing.
func NewBalancer(o BalancerOptions) (*Balancer, error) {
	o.Settings = o.Settings.Default()
	if err := o.Settings.Validate(); err != nil {
		return nil, err
	}
	if len(o.Settings.Bind) != 1 || o.Settings.LastPort < o.Settings.Bind[0].Port() {
		return nil, errors.New("balancer: one address with a range of ports is needed")
	}
	b := &Balancer{master: o.Master, left: map[string]time.Time{}}
	b.d = newDriver(Options{Settings: o.Settings, Supervisor: o.Supervisor, Logger: o.Logger, HAProxy: o.HAProxy, MinReload: o.MinReload, Audit: o.Audit, Still: o.Still})
	b.d.ends = b.ends
	return b, nil
}

// Balance makes HAProxy carry these links and no others, starting it when it does not run, and returns when it does. Connections to a
// backend that is gone end when the link's policy is cut, or when down says of its host that it is down, and else when
// they have lasted for the link's MaxDrain.
func (b *Balancer) Balance(ctx context.Context, links []api.BalancedLink, down func(netip.Addr) bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := os.MkdirAll(b.d.o.Settings.Dir, 0o755); err != nil {
		return fmt.Errorf("making the balancer's directory: %w", err)
	}
	b.want(links, down)
	for {
		again := b.d.pass(ctx)
		if b.d.pid != 0 && Diff(b.d.running, *b.d.wanted).Empty() {
			return b.endOld(ctx)
		}
		loop.Sleep(ctx, again)
		if ctx.Err() != nil {
			return fmt.Errorf("HAProxy does not carry all %d targets of balanced links yet; its unit and the agent's log say why: %w", len(links), ctx.Err())
		}
	}
}

func (b *Balancer) want(links []api.BalancedLink, down func(netip.Addr) bool) {
	c := RenderLinks(links, b.d.o.Settings)
	b.d.wanted, b.down, b.links = &c, down, map[string]api.BalancedLink{}
	for _, l := range links {
		b.links[linkID(l)] = l
	}
	for _, s := range c.Skipped[:min(len(c.Skipped), maxLogged)] {
		b.d.o.Logger.Warn("balancer: left out", "what", s)
	}
}

// ends ends the connections to what goes with c: at once where nothing else follows in its slot, and before it follows where it does.
func (b *Balancer) ends(running Config, c *Change) {
	var first, last []string
	for i, was := range running.Backends {
		l, wanted := b.links[cmp.Or(was.For, was.ID)]
		for j, s := range was.Slots {
			after := c.After.Backends[i].Slots[j]
			server := was.ID + "/" + slotName(j)
			switch end := "shutdown sessions server " + server; {
			case b.overdue(server, after.IsValid(), wanted, l.MaxDrain.Std()):
				last = append(last, end)
			case !s.IsValid() || after == s || wanted && l.Retarget != api.Cut && !b.down(s.Addr()):
			case after.IsValid():
				first = append(first, end)
			default:
				last = append(last, end)
			}
		}
	}
	c.Commands = append(append(first, c.Commands...), last...)
}

// overdue tells whether the connections that a slot was left with have lasted for long enough. It says so once.
func (b *Balancer) overdue(server string, inUse, wanted bool, most time.Duration) bool {
	if inUse || !wanted || most <= 0 {
		delete(b.left, server)
		return false
	}
	since, known := b.left[server]
	if !known {
		b.left[server] = time.Now()
		return false
	}
	if since.IsZero() || time.Since(since) < most {
		return false
	}
	b.left[server] = time.Time{}
	return true
}

package linker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
)

// Writer changes the rules of many namespaces quickly: it hands them to the kernel itself, in the form in which
// iptables-nft does, instead of starting an iptables-restore for each. Where that cannot be done, and for all that is
// not a change of a pod's links, it is the Variant that it was made of. It is safe for concurrent use.
type Writer struct {
	variant Variant

	mu    sync.Mutex
	tried bool
	why   error // why it does not write itself
}

// NewWriter gives a Writer for a kind of iptables. Whether it can write itself is tried at the first need.
func NewWriter(v Variant) *Writer { return &Writer{variant: v} }

// Update is Variant.Update: the same rules come out, as iptables-save shows them.
func (w *Writer) Update(ctx context.Context, netns string, old, r Rules) error {
	if w.Direct(ctx) == nil && direct(netns, old, r) == nil {
		return nil
	}
	return w.variant.Update(ctx, netns, old, r)
}

// direct does what Update does without a process. After an error nothing has changed.
func direct(netns string, old, r Rules) error {
	moves, err := moving(families(old), families(r))
	if err != nil || len(moves) == 0 {
		return err
	}
	l, err := dial(netns)
	if err != nil {
		return err
	}
	if err := errors.Join(l.move(moves), l.close()); err != nil {
		return fmt.Errorf("writing the rules of namespace %q: %w", netns, err)
	}
	return nil
}

// moved is a table that is to be rewritten.
type moved struct {
	family uint8
	table
}

// moving gives the tables that differ. All of their chains and hooks have to be there already.
func moving(before, after []family) ([]moved, error) {
	var all []moved
	for i, f := range after {
		number := uint8(unix.AF_INET)
		if f.tool == "ip6tables" {
			number = unix.AF_INET6
		}
		for _, name := range names(before[i].want, f.want) {
			was, is := find(before[i].want, name), find(f.want, name)
			if !sameShape(was, is) {
				return nil, errStrange
			}
			if !sameTable(was, is) {
				all = append(all, moved{number, is})
			}
		}
	}
	return all, nil
}

// move rewrites tables whose jumps are right. Between looking at those and writing nobody can change
// anything unseen: the generation would be another one.
func (l *line) move(tables []moved) error {
	generation, err := l.generation()
	if err != nil {
		return err
	}
	var changes []step
	for _, t := range tables {
		for _, c := range t.chains {
			if c.hook == "" {
				continue
			}
			if ok, err := l.jumps(t.family, t.name, c); err != nil || !ok {
				return errors.Join(err, errStrange)
			}
		}
		more, err := rewriting(t.family, t.table)
		if err != nil {
			return err
		}
		changes = append(changes, more...)
	}
	if err := l.send(batch(generation, changes)); err != nil {
		return err
	}
	return l.acknowledge()
}

// Direct tells why w starts iptables-restore for each change; nil when it need not. It asks which
// iptables this host has, and tries its own writing once in a namespace of its own.
func (w *Writer) Direct(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tried {
		return w.why
	}
	err := w.try(ctx)
	if ctx.Err() != nil {
		return ctx.Err() // it says nothing of this host
	}
	w.tried, w.why = true, err
	return err
}

func (w *Writer) try(ctx context.Context) error {
	v := w.variant
	if v == HostChoice {
		var err error
		if v, err = Chosen(ctx); err != nil {
			return err
		}
	}
	if v != NFT {
		return fmt.Errorf("this host has iptables-%s, whose rules are written by iptables-restore", v)
	}
	return inScratch(func(netns string) error { return w.trial(ctx, netns) })
}

// trial lets iptables lay rules, changes them directly, and asks iptables what it finds.
func (w *Writer) trial(ctx context.Context, netns string) error {
	from, to, err := samples()
	if err != nil {
		return err
	}
	if err := w.variant.Apply(ctx, netns, from); err != nil {
		return err
	}
	if err := direct(netns, from, to); err != nil {
		return fmt.Errorf("trying to write rules without iptables-restore: %w", err)
	}
	drifted, err := w.variant.Drifted(ctx, netns, to)
	if err == nil && drifted {
		err = errors.New("trying to write rules without iptables-restore: this iptables reads them differently")
	}
	return err
}

// samples gives two sets of rules with everything that the rules of links are made of.
func samples() (from, to Rules, err error) {
	pod, backend := netip.AddrFrom4([4]byte{10, 127, 255, 254}), netip.AddrFrom4([4]byte{192, 0, 2, 1})
	link := func(n byte, p api.Protocol, backends ...netip.AddrPort) api.LinkTarget {
		return api.LinkTarget{Service: "trial", Local: netip.AddrFrom4([4]byte{127, 1, 0, n}), Port: 5432, Protocol: p, Localhost: n == 1, Backends: backends}
	}
	a, b, c := netip.AddrPortFrom(backend, 20000), netip.AddrPortFrom(backend, 20001), netip.AddrPortFrom(backend.Next(), 20000)
	if from, err = PodPlan(pod, []api.LinkTarget{link(1, api.TCP, a), link(2, api.UDP), link(3, api.TCP)}); err != nil {
		return from, to, err
	}
	to, err = PodPlan(pod, []api.LinkTarget{link(1, api.TCP, a, b, c), link(1, api.UDP), link(2, api.UDP, b), link(3, api.TCP), link(4, api.UDP, a, c)})
	return from, to, err
}

// inScratch calls f with a network namespace that nobody else knows, and that ends with it.
func inScratch(f func(netns string) error) error {
	type made struct {
		ns  *os.File
		err error
	}
	space := make(chan made)
	go func() {
		runtime.LockOSThread() // and never unlocks it: the thread ends with this function
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			space <- made{err: err}
			return
		}
		ns, err := os.Open("/proc/thread-self/ns/net")
		space <- made{ns, err}
	}()
	m := <-space
	if m.err != nil {
		return fmt.Errorf("making a network namespace for a trial: %w", m.err)
	}
	defer m.ns.Close()
	return f(fmt.Sprintf("/proc/self/fd/%d", m.ns.Fd()))
}

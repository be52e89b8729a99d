package linker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
)

// Direct tells why w starts iptables-restore for each change; nil when it need not. It asks which
// iptables this host has, and tries its own writing once in a namespace of its own.
func (w *Writer) Direct(ctx context.Context) error {
	if err := w.learn(ctx); err != nil {
		return err
	}
	return w.why
}

// Kind tells what w's kind of iptables is on this host: NFT or Legacy, or HostChoice when that cannot be found out.
func (w *Writer) Kind(ctx context.Context) (Variant, error) {
	if err := w.learn(ctx); err != nil {
		return HostChoice, err
	}
	return w.kind, nil
}

// learn finds out about this host, once.
func (w *Writer) learn(ctx context.Context) error {
	w.learning.Lock()
	defer w.learning.Unlock()
	if w.learned {
		return nil
	}
	w.ip = versions()
	err := w.try(ctx)
	if ctx.Err() != nil {
		return ctx.Err() // it says nothing of this host
	}
	w.learned, w.why = true, err
	return nil
}

func (w *Writer) try(ctx context.Context) (err error) {
	if w.kind = w.variant; w.kind == HostChoice {
		if w.kind, err = Chosen(ctx); err != nil {
			return err
		}
	}
	if w.kind != NFT {
		return fmt.Errorf("this host has iptables-%s, whose rules are written by iptables-restore", w.kind)
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
	s, err := openSpace(netns, NFT, w.ip)
	if err != nil {
		return err
	}
	err = s.update(&line{s.sockets[lineSocket], make([]byte, lineBuffer)}, w.ip.families(from), w.ip.families(to))
	if err := errors.Join(err, s.close()); err != nil {
		return fmt.Errorf("trying to write rules without iptables-restore: %w", err)
	}
	drifted, err := w.variant.Drifted(ctx, netns, to)
	if err == nil && drifted {
		err = errors.New("trying to write rules without iptables-restore: this iptables reads them differently")
	}
	return err
}

// TryIPv6 tells why this host cannot hold pods in bounds over IPv6; nil when it can. A kernel may have IPv6 without its NAT or rpfilter.
func TryIPv6(ctx context.Context) error {
	at := netip.AddrFrom4([4]byte{10, 127, 0, 2})
	of := HostConfig{Bridge: "gv+", PodNet: netip.PrefixFrom(at, 16), Address: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Address6: sampleIPv6(),
		Pods: []HostPod{{Address: at, Egress: &Egress{Interface: "gv0"}}}}
	host, err := HostPlan(of)
	if err != nil {
		return err
	}
	_, pod, err := samples()
	if err != nil {
		return err
	}
	return inScratch(func(netns string) error {
		return errors.Join(Apply(ctx, netns, Rules{v6: host.v6}), Apply(ctx, netns, Rules{v6: pod.v6}))
	})
}

// sampleIPv6 gives an address that no host has (RFC 3849).
func sampleIPv6() netip.Addr { return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}) }

// samples gives two sets of rules with everything that the rules of links are made of.
func samples() (from, to Rules, err error) {
	pod, backend := netip.AddrFrom4([4]byte{10, 127, 255, 254}), netip.AddrFrom4([4]byte{192, 0, 2, 1})
	link := func(n byte, p api.Protocol, backends ...netip.AddrPort) api.LinkTarget {
		l := api.LinkTarget{Service: "trial", Local: netip.AddrFrom4([4]byte{127, 1, 0, n}), Port: 5432, Protocol: p, Localhost: n == 1, Backends: backends, IPv6: true}
		for _, b := range backends {
			l.Backends6 = append(l.Backends6, netip.AddrPortFrom(sampleIPv6(), b.Port()))
		}
		return l
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

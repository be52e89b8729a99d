//go:build root

package linker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"gearmesh.dev/api"
	"gearmesh.dev/linker"
)

// steps gives sets of links that follow each other in a pod: no, one and many backends, both protocols, many links,
// names and addresses as long as they may be.
func steps() [][]api.LinkTarget {
	long := strings.Repeat("x", 63)
	many := func(n int) (out []string) {
		for i := range n {
			out = append(out, fmt.Sprintf("255.255.%d.254:65535", 100+i))
		}
		return out
	}
	var all []api.LinkTarget
	for i := range 50 {
		all = append(all, with(link(fmt.Sprintf("s%d", i), byte(i+1), uint16(5000+i), many(i%7)...), func(l *api.LinkTarget) {
			l.Localhost = i%3 == 0
			if i%2 == 0 {
				l.Protocol = api.UDP
			}
			if i%5 == 0 {
				for k := range l.Backends {
					l.Weights = append(l.Weights, 1+k*333%1000)
				}
			}
		}))
	}
	one := link("db", 1, 5432, "192.0.2.2:20001")
	return [][]api.LinkTarget{
		{}, {one}, {link("db", 1, 5432)}, {link("db", 1, 5432, many(64)...)}, {one, udp(one)}, {udp(link("db", 1, 5432))},
		{udp(link(long, 255, 65535, many(64)...)), link(long, 255, 1)}, all, {link("a", 1, 80, many(3)...), link("b", 2, 81)}, {one}, {},
	}
}

// steps6 gives the same in a pod with IPv6: of some links all backends have it, of others some or none. There is always a link, so that the pod
// has the same tables.
func steps6() [][]api.LinkTarget {
	var out [][]api.LinkTarget
	for n, links := range steps() {
		next := []api.LinkTarget{six(link("mark", 250, 9999))}
		for i, l := range links {
			l.IPv6 = true
			for k := range l.Backends {
				at := netip.AddrPort{}
				if (k+n)%(1+i%3) == 0 {
					at = netip.MustParseAddrPort(fmt.Sprintf("[2001:db8::%x:%x]:65535", i, k))
				}
				l.Backends6 = append(l.Backends6, at)
			}
			next = append(next, l)
		}
		out = append(out, next)
	}
	return out
}

func podRules(t testing.TB, links []api.LinkTarget) linker.Rules {
	t.Helper()
	r, err := linker.PodPlan(addr("10.127.0.5"), links)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Both writers leave the same rules, as iptables-save shows them and byte for byte in the kernel, whatever comes after whatever.
func TestWritersAgree(t *testing.T) {
	t.Run("IPv4", func(t *testing.T) { writersAgree(t, steps()) })
	t.Run("dual", func(t *testing.T) { writersAgree(t, steps6()) })
}

func writersAgree(t *testing.T, all [][]api.LinkTarget) {
	bySave, byHand := bare(t), bare(t)
	old := podRules(t, all[0])
	for _, s := range []space{bySave, byHand} {
		s.others(t, linker.NFT)
		if err := linker.NFT.Apply(t.Context(), s.path, old); err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		all = append(all, all[r.IntN(11)])
	}
	for i, links := range all {
		next := podRules(t, links)
		if err := linker.NFT.Update(t.Context(), bySave.path, old, next); err != nil {
			t.Fatal(err)
		}
		if err := linker.Direct(byHand.path, old, next); err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		for _, save := range []string{"iptables-nft-save", "ip6tables-nft-save"} {
			if a, b := undated(bySave.run(t, save)), undated(byHand.run(t, save)); a != b {
				t.Fatalf("step %d: %s gives\n%s, with iptables-restore\n%s", i, save, b, a)
			}
		}
		if got, err := linker.NFT.Read(t.Context(), byHand.path); err != nil || !got.Equal(next) {
			t.Fatalf("step %d: got %v\n%s, want\n%s", i, err, got, next)
		}
		if a, b := bySave.expressions(t), byHand.expressions(t); !slices.Equal(a, b) {
			t.Fatalf("step %d: the kernel has\n%q, with iptables-restore\n%q", i, b, a)
		}
		old = next
	}
}

// undated leaves out the comments of iptables-save, which have the time.
func undated(save string) string {
	var b strings.Builder
	for line := range strings.Lines(save) {
		if line[0] != '#' {
			b.WriteString(line)
		}
	}
	return b.String()
}

// expressions gives the rules of s as the kernel has them, without their handles and positions.
func (s space) expressions(t testing.TB) []string {
	t.Helper()
	var rules []string
	s.do(t, func() error {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			ask := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP)
			ask.AddData(&nl.Nfgenmsg{NfgenFamily: family})
			answers, err := ask.Execute(unix.NETLINK_NETFILTER, 0)
			if err != nil {
				return err
			}
			for _, answer := range answers {
				attrs, err := nl.ParseRouteAttr(answer[nl.SizeofNfgenmsg:])
				if err != nil {
					return err
				}
				var keep []string
				for _, a := range attrs {
					if kind := a.Attr.Type & nl.NLA_TYPE_MASK; kind != unix.NFTA_RULE_HANDLE && kind != unix.NFTA_RULE_POSITION {
						keep = append(keep, fmt.Sprintf("%d %x", kind, a.Value))
					}
				}
				rules = append(rules, strings.Join(keep, "; "))
			}
		}
		return nil
	})
	return rules
}

// What is not as it was known is left to iptables, and comes out right.
func TestWriterLeavesTheUnknownToIptables(t *testing.T) {
	w := linker.NewWriter(linker.NFT)
	if err := w.Direct(t.Context()); err != nil {
		t.Fatal(err)
	}
	old, next := podRules(t, steps()[3]), podRules(t, steps()[4])
	for name, script := range map[string]string{
		"flushed":        "iptables-nft -t nat -F",
		"chain deleted":  "iptables-nft -t nat -F; iptables-nft -t nat -X",
		"jump gone":      "iptables-nft -t nat -D OUTPUT -j GEAR-LINKS",
		"jump displaced": "iptables-nft -t nat -I OUTPUT -j ACCEPT",
		"jump narrowed":  "iptables-nft -t nat -D OUTPUT 1; iptables-nft -t nat -I OUTPUT -p tcp -j GEAR-LINKS",
		"goto":           "iptables-nft -t nat -D OUTPUT 1; iptables-nft -t nat -I OUTPUT -g GEAR-LINKS",
		"other jump":     "iptables-nft -t nat -D POSTROUTING 1",
		"table deleted":  "nft delete table ip nat",
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpace(t)
			if err := linker.NFT.Apply(t.Context(), s.path, old); err != nil {
				t.Fatal(err)
			}
			s.run(t, "sh", "-ec", script)
			if err := linker.Direct(s.path, old, next); err == nil {
				t.Error("it is written directly all the same")
			}
			if err := w.Update(t.Context(), s.path, old, next); err != nil {
				t.Fatal(err)
			}
			if drift, err := linker.NFT.Drifted(t.Context(), s.path, next); drift || err != nil {
				t.Errorf("drifted %v, %v", drift, err)
			}
		})
	}
	host, err := linker.HostPlan(hostConfig())
	if err != nil {
		t.Fatal(err)
	}
	s := newSpace(t)
	if err := w.Update(t.Context(), s.path, linker.Rules{}, host); err != nil {
		t.Fatal(err)
	}
	if drift, err := linker.NFT.Drifted(t.Context(), s.path, host); drift || err != nil {
		t.Errorf("the rules of a host: drifted %v, %v", drift, err)
	}
}

func TestWriterOfLegacy(t *testing.T) {
	w := linker.NewWriter(linker.Legacy)
	if err := w.Direct(t.Context()); err == nil || !strings.Contains(err.Error(), "iptables-legacy") {
		t.Errorf("it writes directly: %v", err)
	}
	s := newSpace(t)
	old, next := podRules(t, steps()[1]), podRules(t, steps()[3])
	if err := linker.Legacy.Apply(t.Context(), s.path, old); err != nil {
		t.Fatal(err)
	}
	if err := w.Update(t.Context(), s.path, old, next); err != nil {
		t.Fatal(err)
	}
	if drift, err := linker.Legacy.Drifted(t.Context(), s.path, next); drift || err != nil {
		t.Errorf("drifted %v, %v", drift, err)
	}
}

// Writers that meet in a namespace on the same errand do not disturb each other.
func TestWritersAtOnce(t *testing.T) {
	w := linker.NewWriter(linker.HostChoice)
	s := newSpace(t)
	old, next := podRules(t, steps()[1]), podRules(t, steps()[3])
	for range 5 {
		if err := linker.Apply(t.Context(), s.path, old); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for _, update := range []func(context.Context, string, linker.Rules, linker.Rules) error{w.Update, linker.Update, w.Update, w.Update} {
			wg.Go(func() {
				if err := update(t.Context(), s.path, old, next); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if drift, err := linker.Drifted(t.Context(), s.path, next); drift || err != nil {
			t.Fatalf("drifted %v, %v", drift, err)
		}
	}
}

// bare gives a namespace without a name, which costs less than one with.
func bare(t testing.TB) space {
	t.Helper()
	made := make(chan error)
	var ns *os.File
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			ns, err = os.Open("/proc/thread-self/ns/net")
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	return space{path: fmt.Sprintf("/proc/self/fd/%d", ns.Fd())}
}

// cpu gives the processor time of this process and its children.
func cpu(t testing.TB) time.Duration {
	t.Helper()
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

// Each of 1,000 pods has one link, whose one backend becomes another.
func BenchmarkRetarget1000(b *testing.B) {
	pods := 1000
	if s := os.Getenv("NL_PODS"); s != "" {
		fmt.Sscan(s, &pods)
	}
	all := make([]space, pods)
	plans := [2]linker.Rules{bigPlan(b, 1, 1), bigPlan(b, 1, 2)}
	limit := make(chan bool, 4)
	var laying sync.WaitGroup
	for i := range all {
		all[i] = bare(b)
		limit <- true
		laying.Go(func() {
			defer func() { <-limit }()
			if err := linker.Lay(b.Context(), all[i].path, plans[0]); err != nil {
				b.Error(err)
			}
		})
	}
	laying.Wait()
	w := linker.NewWriter(linker.HostChoice)
	if err := w.Direct(b.Context()); err != nil {
		b.Fatal(err)
	}
	at := 0
	for _, way := range []struct {
		name   string
		update func(context.Context, string, linker.Rules, linker.Rules) error
	}{{"iptables-restore", linker.Update}, {"netlink", w.Update}} {
		for _, workers := range []int{1, 2, 8} {
			b.Run(fmt.Sprintf("%s/workers=%d", way.name, workers), func(b *testing.B) {
				before := cpu(b)
				for b.Loop() {
					relinkWith(b, way.update, all, workers, plans[at], plans[1-at])
					at = 1 - at
				}
				b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N*pods), "cpu-us/pod")
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*pods), "us/pod")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

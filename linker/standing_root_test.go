//go:build root

package linker_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gearmesh.dev/linker"
)

// is checks the standing of a namespace.
func is(t *testing.T, w *linker.Writer, s space, want linker.Standing, after string) {
	t.Helper()
	if got := w.Standing(t.Context(), s.path); got != want {
		t.Errorf("after %s: %s, want %s", after, got, want)
	}
}

// lay lays rules with w, which is then sure of them.
func lay(t *testing.T, w *linker.Writer, s space, r linker.Rules) {
	t.Helper()
	if err := w.Apply(t.Context(), s.path, r); err != nil {
		t.Fatal(err)
	}
	is(t, w, s, linker.Stands, "laying them")
}

// What others do to the rules of a namespace is noticed, and what packets count is not.
func TestStandingOfRulesThatOthersChange(t *testing.T) {
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		w, s := linker.NewWriter(v), newSpace(t)
		rules := podRules(t, steps()[2]) // a link that refuses
		is(t, w, s, linker.Unsure, "nothing")
		lay(t, w, s, rules)
		s.do(t, func() error {
			if _, err := net.DialTimeout("tcp", "127.1.0.1:5432", time.Second); err == nil {
				t.Error("the link refuses nobody")
			}
			return nil
		})
		is(t, w, s, linker.Stands, "a packet")
		v4, v6 := "iptables-"+string(v), "ip6tables-"+string(v)
		for _, script := range []string{
			v4 + " -t nat -F", v4 + " -F", v4 + " -t raw -F", v6 + " -F", v4 + " -t nat -F GEAR-SNAT", v4 + " -t filter -D INPUT -j GEAR-REJECT",
			v4 + " -t raw -R GEAR-RAW 1 -d 126.0.0.0/8 ! -i lo -j DROP", // of the same size
			v4 + " -P INPUT DROP",
		} {
			s.run(t, "sh", "-ec", script)
			is(t, w, s, linker.Touched, script)
			lay(t, w, s, rules)
		}
	})
}

// A change of its own leaves nothing to look at again, and does not hide what others have done before it.
func TestStandingOfChanges(t *testing.T) {
	w, s := linker.NewWriter(linker.NFT), newSpace(t)
	old, next := podRules(t, steps()[1]), podRules(t, steps()[3])
	lay(t, w, s, old)
	for range 3 {
		if err := w.Update(t.Context(), s.path, old, next); err != nil {
			t.Fatal(err)
		}
		is(t, w, s, linker.Stands, "a change")
		old, next = next, old
	}
	s.run(t, "iptables-nft", "-t", "filter", "-F")
	if err := w.Update(t.Context(), s.path, old, next); err != nil {
		t.Fatal(err)
	}
	if got := w.Standing(t.Context(), s.path); got == linker.Stands {
		t.Error("a change of one table hides that another one was flushed")
	}
	lay(t, w, s, next)
	if drift, err := linker.NFT.Drifted(t.Context(), s.path, next); drift || err != nil {
		t.Errorf("drifted %v, %v", drift, err)
	}
}

// A change that the kernel refuses at several places at once leaves nothing behind that the next question takes for its answer.
func TestStandingAfterARefusedChange(t *testing.T) {
	w, s := linker.NewWriter(linker.NFT), newSpace(t)
	plan := func(port uint16) linker.Rules {
		t.Helper()
		c := hostConfig()
		c.Pods[1].Ports[0].HostPort = port
		r, err := linker.HostPlan(c)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	lay(t, w, s, plan(20001))
	s.run(t, "sh", "-ec", "for c in PREROUTING OUTPUT PORTS; do iptables-nft -t nat -F GEAR-$c; done; iptables-nft -t nat -X GEAR-PORTS")
	if err := linker.Direct(s.path, plan(20001), plan(20003)); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v; want the kernel to miss the chain", err)
	}
	if err := w.Update(t.Context(), s.path, plan(20001), plan(20003)); err != nil {
		t.Fatal(err)
	}
	lay(t, w, s, plan(20003))
}

func TestStandingOfNamespacesThatGo(t *testing.T) {
	w, s, other := linker.NewWriter(linker.HostChoice), newSpace(t), newSpace(t)
	name := space{path: filepath.Join(t.TempDir(), "name")}
	is(t, w, name, linker.Gone, "nothing")
	point := func(to space) {
		t.Helper()
		_ = os.Remove(name.path)
		if err := os.Symlink(to.path, name.path); err != nil {
			t.Fatal(err)
		}
	}
	rules := podRules(t, nil)
	point(s)
	lay(t, w, name, rules)
	point(other)
	is(t, w, name, linker.Unsure, "another namespace has its name")
	lay(t, w, name, rules)
	if err := os.Remove(name.path); err != nil {
		t.Fatal(err)
	}
	is(t, w, name, linker.Gone, "it has gone")
}

// No sockets are left in namespaces that nobody uses, and a namespace whose sockets were closed is opened again.
func TestKeepClosesSockets(t *testing.T) {
	open := func() int {
		t.Helper()
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		w, s, other := linker.NewWriter(v), newSpace(t), newSpace(t)
		is(t, w, s, linker.Unsure, "nothing") // also learns of the host
		if err := w.Keep(func(string) bool { return false }); err != nil {
			t.Fatal(err)
		}
		before := open()
		lay(t, w, s, podRules(t, nil))
		one := open()
		lay(t, w, other, podRules(t, nil))
		if err := w.Keep(func(netns string) bool { return netns == s.path }); err != nil {
			t.Fatal(err)
		}
		if now := open(); now != one || now <= before {
			t.Errorf("%d files are open, want %d and more than %d", now, one, before)
		}
		is(t, w, s, linker.Stands, "another one was closed")
		is(t, w, other, linker.Unsure, "its sockets were closed")
	})
}

// What it costs to look at 50 namespaces.
func BenchmarkStanding50(b *testing.B) {
	for _, v := range []linker.Variant{linker.NFT, linker.Legacy} {
		w, all := linker.NewWriter(v), make([]space, 50)
		for i := range all {
			all[i] = bare(b)
			if err := w.Apply(b.Context(), all[i].path, podRules(b, steps()[1])); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(string(v), func(b *testing.B) {
			before := cpu(b)
			for b.Loop() {
				for _, s := range all {
					if w.Standing(b.Context(), s.path) != linker.Stands {
						b.Fatal("they have changed")
					}
				}
			}
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-us/op")
		})
	}
}

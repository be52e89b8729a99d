//go:build root

package linker_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/hostexec"
	"gearmesh.dev/linker"
)

// plans gives one set of rules of each kind.
func plans(t testing.TB) map[string]linker.Rules {
	t.Helper()
	pod, err := linker.PodPlan(addr("10.127.0.5"), []api.LinkTarget{
		link("db", 1, 5432, "192.0.2.2:20001", "192.0.2.3:20001", "192.0.2.4:20001", "192.0.2.5:1", "192.0.2.6:1", "192.0.2.7:1", "192.0.2.8:1"),
		link("gone", 2, 80), udp(link("dns", 3, 53, "192.0.2.2:20002")), udp(link("gone", 2, 80))})
	if err != nil {
		t.Fatal(err)
	}
	host, err := linker.HostPlan(hostConfig())
	if err != nil {
		t.Fatal(err)
	}
	dual, err := linker.HostPlan(dualConfig())
	if err != nil {
		t.Fatal(err)
	}
	return map[string]linker.Rules{"pod": pod, "host": host, "dual": dual, "none": {}}
}

// others puts rules of other programs into s, Docker's among them, and gives a function that gives
// all of theirs.
func (s space) others(t testing.TB, v linker.Variant) func() string {
	t.Helper()
	_, err := hostexec.Run(t.Context(), hostexec.Cmd{NetNS: s.path, Argv: []string{"iptables-" + string(v) + "-restore"}, Stdin: []byte(`*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER-USER - [0:0]
-A INPUT -p tcp -m tcp --dport 9 -m comment --comment "not -j GEAR-INPUT" -j DROP
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -j RETURN
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
COMMIT
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
COMMIT
`)})
	if err != nil {
		t.Fatal(err)
	}
	return func() string {
		var keep []string
		for line := range strings.Lines(s.run(t, "iptables-"+string(v)+"-save")) {
			if line[0] != '#' && !strings.Contains(strings.ReplaceAll(line, "not -j GEAR-", ""), "GEAR-") {
				keep = append(keep, line)
			}
		}
		return strings.Join(keep, "")
	}
}

func TestApplyPutsThePlanAndNothingElse(t *testing.T) {
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		s := newSpace(t)
		others := s.others(t, v)
		before := others()
		for _, name := range []string{"host", "pod", "none", "pod", "dual", "host", "dual"} { // each over the one before
			want := plans(t)[name]
			if err := v.Apply(t.Context(), s.path, want); err != nil {
				t.Fatal(err)
			}
			got, err := v.Read(t.Context(), s.path)
			if err != nil || !got.Equal(want) {
				t.Fatalf("%s: got %v\n%s, want\n%s", name, err, got, want)
			}
			if drift, err := v.Drifted(t.Context(), s.path, want); drift || err != nil {
				t.Errorf("%s: drifted %v, %v", name, drift, err)
			}
			if after := others(); after != before {
				t.Errorf("%s: rules of others were\n%s, are\n%s", name, before, after)
			}
		}
		if err := v.Apply(t.Context(), s.path, linker.Rules{}); err != nil {
			t.Fatal(err)
		}
		all := s.run(t, "iptables-"+string(v)+"-save") + s.run(t, "ip6tables-"+string(v)+"-save")
		if strings.Contains(strings.ReplaceAll(all, "not -j GEAR-", ""), "GEAR-") || others() != before {
			t.Errorf("no rules left\n%s", all)
		}
	})
}

func TestSecondApplyWritesNothing(t *testing.T) {
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		s := newSpace(t)
		want := plans(t)["pod"]
		// A rewritten rule counts from 0, so counters tell.
		counters := func() string {
			return s.run(t, "sh", "-c", "(iptables-"+string(v)+"-save -c; ip6tables-"+string(v)+"-save -c) | grep -e '-A GEAR'")
		}
		if err := v.Apply(t.Context(), s.path, want); err != nil {
			t.Fatal(err)
		}
		s.refused(t, "tcp", "127.0.0.1:80")
		s.refused(t, "tcp", "[::1]:80")
		before := counters()
		if !strings.Contains(before, "[1:60]") || !strings.Contains(before, "[1:80]") {
			t.Fatalf("no rule has counted the refused packets:\n%s", before)
		}
		for _, again := range []func() error{
			func() error { return v.Apply(t.Context(), s.path, want) },
			func() error { return v.Update(t.Context(), s.path, want, want) },
		} {
			if err := again(); err != nil {
				t.Fatal(err)
			}
			if after := counters(); after != before {
				t.Errorf("rules were\n%s, are\n%s", before, after)
			}
		}
	})
}

func TestApplyRepairs(t *testing.T) {
	damage := map[string]string{
		"flushed tables":   "iptables -F; iptables -t nat -F; iptables -t raw -F",
		"chains deleted":   "iptables -F; iptables -X; iptables -t nat -F; iptables -t nat -X; iptables -t raw -F; iptables -t raw -X",
		"restored":         "printf '*filter\n:INPUT ACCEPT\n-A INPUT -j ACCEPT\nCOMMIT\n' | iptables-restore",
		"jump displaced":   "iptables -I FORWARD -j ACCEPT",
		"jump twice":       "iptables -A FORWARD -j GEAR-FORWARD",
		"jump of another":  "iptables -A FORWARD -i eth7 -j GEAR-FORWARD",
		"jump gone":        "iptables -t nat -D OUTPUT -j GEAR-OUTPUT",
		"rule gone":        "iptables -t nat -D GEAR-PORTS 2",
		"rule more":        "iptables -I GEAR-INPUT -j ACCEPT",
		"chain more":       "iptables -N GEAR-OLD; iptables -N GEAR-OLDER; iptables -A GEAR-OLD -j GEAR-OLDER; iptables -A OUTPUT -j GEAR-OLD",
		"table more":       "iptables -t mangle -N GEAR-OLD; iptables -t mangle -A OUTPUT -j GEAR-OLD",
		"IPv6 flushed":     "ip6tables -F",
		"IPv6 NAT flushed": "ip6tables -t nat -F; ip6tables -t raw -F",
		"IPv6 jump twice":  "ip6tables -t raw -A PREROUTING -j GEAR-RAW",
		"IPv6 jump gone":   "ip6tables -D FORWARD -j GEAR-FORWARD",
		"IPv6 rule gone":   "ip6tables -t nat -D GEAR-PORTS 2",
		"IPv6 rule more":   "ip6tables -I GEAR-MEMBERS -j ACCEPT",
		"everything twice": "iptables -F; ip6tables -F; ip6tables -X",
	}
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		s := newSpace(t)
		want := plans(t)["dual"]
		if err := v.Apply(t.Context(), s.path, want); err != nil {
			t.Fatal(err)
		}
		for name, script := range damage {
			script = strings.NewReplacer("ip6tables", "ip6tables-"+string(v), "iptables", "iptables-"+string(v)).Replace(script)
			s.run(t, "sh", "-ec", script)
			if drift, err := v.Drifted(t.Context(), s.path, want); !drift || err != nil {
				t.Errorf("%s: drifted %v, %v; want true", name, drift, err)
			}
			if err := v.Apply(t.Context(), s.path, want); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if drift, err := v.Drifted(t.Context(), s.path, want); drift || err != nil {
				t.Errorf("%s: after Apply: drifted %v, %v; want false", name, drift, err)
			}
		}
	})
}

func TestUpdate(t *testing.T) {
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		s := newSpace(t)
		var old linker.Rules
		for i := range 6 {
			var to []string
			for n := range i % 4 {
				to = append(to, fmt.Sprintf("192.0.2.%d:20001", n+1))
			}
			r, err := linker.PodPlan(addr("10.127.0.5"), []api.LinkTarget{link("db", 1, 5432, to...)})
			if err != nil {
				t.Fatal(err)
			}
			if i == 3 { // somebody else was here
				s.run(t, "iptables-"+string(v), "-t", "nat", "-F")
			}
			if err := v.Update(t.Context(), s.path, old, r); err != nil {
				t.Fatal(err)
			}
			if drift, err := v.Drifted(t.Context(), s.path, r); drift || err != nil {
				t.Fatalf("step %d: drifted %v, %v", i, drift, err)
			}
			old = r
		}
	})
}

func TestApplyAtOnce(t *testing.T) {
	eachVariant(t, func(t *testing.T, v linker.Variant) {
		s := newSpace(t)
		want := plans(t)["pod"]
		if err := v.Apply(t.Context(), s.path, want); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := v.Apply(t.Context(), s.path, want); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if drift, err := v.Drifted(t.Context(), s.path, want); drift || err != nil {
			t.Errorf("drifted %v, %v", drift, err)
		}
	})
}

func TestApplyWithoutNamespace(t *testing.T) {
	err := linker.Apply(t.Context(), "/run/netns/no-such-namespace", plans(t)["pod"])
	if err == nil || !strings.Contains(err.Error(), "no-such-namespace") {
		t.Errorf("got %v, want the namespace named", err)
	}
}

// bigPlan is a pod with one link to n backends.
func bigPlan(b *testing.B, n, seed int) linker.Rules {
	b.Helper()
	l := link("db", 1, 5432)
	for i := range n {
		l.Backends = append(l.Backends, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(seed), byte(i >> 8), byte(i)}), 20001))
	}
	r, err := linker.PodPlan(addr("10.127.0.5"), []api.LinkTarget{l})
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func BenchmarkUpdate1000Rules(b *testing.B) {
	s := newSpace(b)
	plans := [2]linker.Rules{bigPlan(b, 500, 1), bigPlan(b, 500, 2)} // two rules a backend
	if err := linker.Apply(b.Context(), s.path, plans[0]); err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		if err := linker.Update(b.Context(), s.path, plans[i%2], plans[(i+1)%2]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApply1000Rules(b *testing.B) {
	s := newSpace(b)
	plans := [2]linker.Rules{bigPlan(b, 500, 1), bigPlan(b, 500, 2)}
	for i := 0; b.Loop(); i++ {
		if err := linker.Apply(b.Context(), s.path, plans[i%2]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRelink200Pods(b *testing.B) {
	const pods = 200
	var all []space
	plans := [2]linker.Rules{bigPlan(b, 2, 1), bigPlan(b, 2, 2)}
	for range pods {
		s := newSpace(b)
		if err := linker.Apply(b.Context(), s.path, plans[0]); err != nil {
			b.Fatal(err)
		}
		all = append(all, s)
	}
	for _, workers := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			at := 0
			for b.Loop() {
				relink(b, all, workers, plans[at], plans[1-at])
				at = 1 - at
			}
			if at == 1 {
				relink(b, all, workers, plans[1], plans[0])
			}
		})
	}
}

// relink updates all namespaces, several at a time.
func relink(b *testing.B, all []space, workers int, old, next linker.Rules) {
	relinkWith(b, linker.Update, all, workers, old, next)
}

// relinkWith is relink with an update of one's own.
func relinkWith(b *testing.B, update func(context.Context, string, linker.Rules, linker.Rules) error, all []space, workers int, old, next linker.Rules) {
	work := make(chan space)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for s := range work {
				if err := update(b.Context(), s.path, old, next); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for _, s := range all {
		work <- s
	}
	close(work)
	wg.Wait()
}

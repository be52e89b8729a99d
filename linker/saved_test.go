package linker

import (
	"encoding/binary"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/hostexec"
)

func TestFailedLine(t *testing.T) {
	const text = "*nat\n:GEAR-A - [0:0]\n-A GEAR-A -j NOPE\nCOMMIT\n"
	for _, stderr := range []string{
		"iptables-restore: line 3 failed",
		"iptables-nft-restore v1.8.9 (nf_tables): Chain 'NOPE' does not exist\nError occurred at line: 3\nTry `iptables-restore -h'",
		"iptables-nft-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (Invalid argument): rule in chain GEAR-A",
	} {
		if got := failedLine(&hostexec.ExitError{Stderr: stderr}, text); got != "-A GEAR-A -j NOPE" {
			t.Errorf("%q: got line %q", stderr, got)
		}
	}
	for _, stderr := range []string{"", "line 99 failed", "line 99999999999999999999 failed"} {
		if got := failedLine(&hostexec.ExitError{Stderr: stderr}, text); got != "" {
			t.Errorf("%q: got line %q, want none", stderr, got)
		}
	}
}

func TestParseSavedRefusesRulesOutsideATable(t *testing.T) {
	if _, err := parseSaved("# fine\n-A INPUT -j ACCEPT\n"); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v, want the line named", err)
	}
}

// FuzzParseSaved checks that what is read, whatever others wrote, is repaired in one step: the text touches
// other chains by jumps to ours only, and it deletes only rules that were there.
func FuzzParseSaved(f *testing.F) {
	f.Add("*nat\n:OUTPUT ACCEPT [0:0]\n:GEAR-LINKS - [0:0]\n-A OUTPUT -j GEAR-LINKS\n-A GEAR-LINKS -j RETURN\nCOMMIT\n")
	f.Add("*filter\n:INPUT ACCEPT\n:GEAR-OLD -\n-A INPUT -i eth7 -g GEAR-OLD\n-A INPUT -j GEAR-OLD\nCOMMIT\n*raw\nCOMMIT\n")
	f.Add("*filter\n:GEAR- -\n-A\n-A  \n:\n*\n")
	plan, err := PodPlan(netip.MustParseAddr("10.127.0.5"), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		have, err := parseSaved(text)
		if err != nil {
			return
		}
		for line := range strings.Lines(repairs(have, plan.v4)) {
			line = strings.TrimSuffix(line, "\n")
			if rule, ok := strings.CutPrefix(line, "-D "); ok && !strings.Contains(text, "-A "+rule) {
				t.Errorf("deletes %q, which was not there", rule)
			}
			for _, verb := range []string{"-A ", "-F ", "-X ", ":"} {
				if name, ok := strings.CutPrefix(line, verb); ok && !strings.HasPrefix(name, prefix) {
					t.Errorf("%q is about a chain of others", line)
				}
			}
		}
	})
}

// grammar is every line that a plan may print.
var grammar = regexp.MustCompile(`^(#.*|\*(nat|filter|raw)|COMMIT|:GEAR-[A-Z]+ - \[0:0\]|-I [A-Z]+ 1 -j GEAR-[A-Z]+|-A GEAR-[A-Z]+ [-!a-z0-9A-Z.:,/"+\[\] ]+)$`)

// FuzzPlans makes plans of hostile values. A plan is refused, or has the lines its input asks for and no others.
func FuzzPlans(f *testing.F) {
	f.Add("db", "tcp", "gear0", []byte{127, 1, 0, 1}, []byte{192, 0, 2, 1, 0, 80}, uint16(80))
	f.Add("a\n-A INPUT -j ACCEPT", "tcp\n", "g\n", []byte{127, 1, 0, 1}, []byte{}, uint16(0))
	f.Add("web", "udp", "gear0", []byte{10, 0, 0, 5}, []byte{192, 0, 2, 1, 0x4e, 0x20}, uint16(53))
	f.Add("web", "tcp", "gv+", []byte{10, 0, 0, 5}, append(netip.MustParseAddr("2001:db8::1").AsSlice(), 0x4e, 0x20), uint16(53))
	f.Add(`a"b`, "udp", "gv+", make([]byte, 16), make([]byte, 18), uint16(1))
	f.Fuzz(func(t *testing.T, name, protocol, bridge string, local, remote []byte, port uint16) {
		at, _ := netip.AddrFromSlice(local)
		var backend netip.AddrPort
		if len(remote) > 2 {
			a, _ := netip.AddrFromSlice(remote[:len(remote)-2])
			backend = netip.AddrPortFrom(a, binary.BigEndian.Uint16(remote[len(remote)-2:]))
		}
		l := api.LinkTarget{Service: api.Name(name), Local: at, Port: port, Protocol: api.Protocol(protocol), Localhost: true,
			Backends: []netip.AddrPort{backend}}
		if r, err := PodPlan(netip.MustParseAddr("10.127.0.5"), []api.LinkTarget{l}); err == nil {
			checkText(t, r, 7)
		}
		c := HostConfig{Bridge: bridge, PodNet: netip.MustParsePrefix("10.0.0.0/16"), Address: backend.Addr(), Members: []netip.Addr{backend.Addr()},
			Pods: []HostPod{{Address: at, Ports: []api.HostPort{{Name: api.Name(name), Protocol: api.Protocol(protocol), Port: port, HostPort: backend.Port(), Public: true}},
				Balanced: []uint16{FirstLinkPort + port%1000}}}}
		if r, err := HostPlan(c); err == nil {
			checkText(t, r, 55)
		}
		c.Address, c.Address6 = netip.MustParseAddr("192.0.2.1"), backend.Addr()
		if r, err := HostPlan(c); err == nil {
			checkText(t, r, 110)
		}
	})
}

// checkText fails the test unless r prints at most that number of rules, and nothing but rules of ours.
func checkText(t *testing.T, r Rules, rules int) {
	t.Helper()
	n := 0
	for line := range strings.Lines(r.String()) {
		if !grammar.MatchString(strings.TrimSuffix(line, "\n")) {
			t.Errorf("a plan has the line %q", line)
		}
		if strings.HasPrefix(line, "-A ") {
			n++
		}
	}
	if n > rules {
		t.Errorf("a plan has %d rules, want at most %d:\n%s", n, rules, r)
	}
}

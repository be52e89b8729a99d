package linker

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"gearmesh.dev/api"
)

// egressLine is all that the chains of Egress consist of.
var egressLine = regexp.MustCompile(`^-A GEAR-(EGRESS -i [a-z0-9-]{1,15} -j GEAR-TO-[a-z0-9-]{1,15}` +
	`|TO-[a-z0-9-]{1,15} (-s ([0-9.]+/32|[0-9a-f:]+/128) -j RETURN|(-d [0-9a-f.:]+/[0-9]{1,3} )?-p (tcp|udp)( -m (tcp|udp) --dport [0-9]{1,5}| -m multiport --dports [0-9,]+)? -j RETURN|-j GEAR-NO-[a-z0-9-]{1,15})` +
	`|NO-[a-z0-9-]{1,15} (-m limit --limit 6/min -j NFLOG --nflog-prefix [a-z0-9-]{1,15} --nflog-group 7446|-p tcp -j REJECT --reject-with tcp-reset|-j REJECT --reject-with icmp6?-port-unreachable))$`)

// FuzzEgress checks that nothing but rules of known forms comes out of what a pod is held to, and that those are read back as they are.
func FuzzEgress(f *testing.F) {
	f.Add("gv0123456789ab", "tcp", []byte{198, 51, 100, 0}, 24, uint16(443), uint16(80))
	f.Add("gv+\n-A INPUT", "udp -j ACCEPT", make([]byte, 16), 0, uint16(0), uint16(0))
	f.Add("gv1", "tcp", netip.MustParseAddr("2001:db8::").AsSlice(), 32, uint16(443), uint16(80))
	f.Add("gv1", "udp", []byte{0, 0, 0, 0}, 0, uint16(53), uint16(53))
	f.Fuzz(func(t *testing.T, name, protocol string, network []byte, bits int, port, other uint16) {
		at, _ := netip.AddrFromSlice(network)
		e := &Egress{Interface: name, Allow: []Allowed{{Net: netip.PrefixFrom(at, bits), Protocol: api.Protocol(protocol), Ports: []uint16{port, other}},
			{Net: netip.PrefixFrom(at, bits), Protocol: api.Protocol(protocol)}}}
		c := HostConfig{Bridge: "gv+", PodNet: netip.MustParsePrefix("10.127.0.0/16"), Address: netip.MustParseAddr("192.0.2.1"), Address6: netip.MustParseAddr("2001:db8::1"),
			Pods: []HostPod{{Address: netip.MustParseAddr("10.127.0.5"), Egress: e}}}
		r, err := HostPlan(c)
		if err != nil {
			return
		}
		n := 0
		for line := range strings.Lines(r.String()) {
			line = strings.TrimSuffix(line, "\n")
			if strings.HasPrefix(line, "-A GEAR-EGRESS") || strings.HasPrefix(line, "-A GEAR-TO-") || strings.HasPrefix(line, "-A GEAR-NO-") {
				if n++; !egressLine.MatchString(line) {
					t.Errorf("a plan has the line %q", line)
				}
			}
		}
		if n != 14 { // six in each version of IP, and the two that are allowed in one of them
			t.Errorf("a plan has %d rules of egress, want 14:\n%s", n, r)
		}
		for _, tables := range [][]table{r.v4, r.v6} {
			var saved strings.Builder
			for _, x := range tables {
				saved.WriteString(x.fresh())
			}
			if have, err := parseSaved(strings.ReplaceAll(saved.String(), "-I ", "-A ")); err != nil || len(have) == 0 {
				t.Errorf("it is not read back: %v", err)
			}
		}
	})
}

func TestParseRefused(t *testing.T) {
	got := map[string]uint64{}
	addRefused(got, []byte("[9:1] -A GEAR-NO-gva -m limit --limit 6/min -j NFLOG --nflog-prefix gva --nflog-group 7446\n"+
		"[3:180] -A GEAR-NO-gva -p tcp -j REJECT --reject-with tcp-reset\n[2:90] -A GEAR-NO-gva -j REJECT --reject-with icmp-port-unreachable\n"+
		"[7:7] -A OTHER -j REJECT --reject-with icmp-port-unreachable\nCOMMIT\n"))
	if len(got) != 1 || got["gva"] != 5 {
		t.Errorf("got %v, want 5 of gva", got)
	}
}

func TestRefusalOfHostileBytes(t *testing.T) {
	for _, data := range [][]byte{nil, {1}, make([]byte, 4), append(make([]byte, 4), 255, 255, 9, 0), append(make([]byte, 4), 5, 0, 10, 0, 'x')} {
		if r, ok := refusalOf(4<<8, data); ok {
			t.Errorf("%v is taken for %+v", data, r)
		}
	}
}

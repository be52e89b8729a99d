package linker_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/linker"
)

// heldConfig is hostConfig with one pod that may connect to some things, and one that may not connect to any.
func heldConfig() linker.HostConfig {
	c := hostConfig()
	c.Pods[0].Egress = &linker.Egress{Interface: "gvbbbbbbbbbbbb", Allow: []linker.Allowed{
		{Net: netip.MustParsePrefix("198.51.100.7/24"), Protocol: api.TCP, Ports: []uint16{443, 80, 443}},
		{Net: netip.MustParsePrefix("203.0.113.9/32"), Protocol: api.UDP, Ports: []uint16{53}},
		{Net: netip.MustParsePrefix("0.0.0.0/0"), Protocol: api.TCP, Ports: []uint16{25}},
		{Net: netip.MustParsePrefix("192.0.2.2/32"), Protocol: api.TCP}}}
	c.Pods[1].Egress = &linker.Egress{Interface: "gvaaaaaaaaaaaa"}
	return c
}

func TestEgressPlanIgnoresOrder(t *testing.T) {
	want, err := linker.HostPlan(heldConfig())
	if err != nil {
		t.Fatal(err)
	}
	c := heldConfig()
	allow := c.Pods[0].Egress.Allow
	slices.Reverse(allow)
	allow = append(allow, allow[0])
	c.Pods[0].Egress.Allow = allow
	slices.Reverse(c.Pods)
	if got, err := linker.HostPlan(c); err != nil || !got.Equal(want) {
		t.Fatalf("got %v\n%s, want\n%s", err, got, want)
	}
}

func TestEgressPlanRefuses(t *testing.T) {
	all := netip.MustParsePrefix("0.0.0.0/0")
	tests := map[string]struct {
		change func(e, other *linker.Egress)
		want   string
	}{
		"no interface": {func(e, _ *linker.Egress) { e.Interface = "" }, "1 to 15"},
		"hostile":      {func(e, _ *linker.Egress) { e.Interface = "a\n-A INPUT -j" }, "1 to 15"},
		"pattern":      {func(e, _ *linker.Egress) { e.Interface = "gv+" }, "not a pattern"},
		"taken":        {func(e, other *linker.Egress) { e.Interface = other.Interface }, "another pod's"},
		"no network":   {func(e, _ *linker.Egress) { e.Allow = []linker.Allowed{{Protocol: api.TCP}} }, "IPv6 network"},
		"mapped":       {func(e, _ *linker.Egress) { e.Allow[0].Net = netip.MustParsePrefix("::ffff:192.0.2.0/120") }, "IPv6 network"},
		"no protocol":  {func(e, _ *linker.Egress) { e.Allow = []linker.Allowed{{Net: all}} }, "tcp or udp"},
		"bad protocol": {func(e, _ *linker.Egress) { e.Allow[0].Protocol = "tcp -j ACCEPT" }, "tcp or udp"},
		"port 0":       {func(e, _ *linker.Egress) { e.Allow[0].Ports = []uint16{0} }, "1 to 65535"},
		"too many ports": {func(e, _ *linker.Egress) {
			e.Allow[0].Ports = []uint16{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
		}, "at most 15"},
		"too many addresses": {func(e, _ *linker.Egress) { e.Allow = make([]linker.Allowed, 5000) }, "at most 4096"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := heldConfig()
			tt.change(c.Pods[0].Egress, c.Pods[1].Egress)
			if _, err := linker.HostPlan(c); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want %q", err, tt.want)
			}
		})
	}
}

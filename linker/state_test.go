package linker

import (
	"net/netip"
	"strings"
	"testing"

	"gearmesh.dev/api"
)

func TestParseSockets(t *testing.T) {
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	tcp, err := parseSockets(strings.NewReader(head+
		"   0: 00000000:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n"+
		"   1: 0100007F:0050 0200007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1\n"+
		"   2: 00000000000000000000000001000000:0051 00000000000000000000000000000000:0000 0A 00000000:00000000\n"), api.TCP)
	want := []string{"0.0.0.0:5432", "[::1]:81"}
	if err != nil || len(tcp) != 2 || tcp[0].at.String() != want[0] || tcp[1].at.String() != want[1] {
		t.Errorf("got %v, %v; want %v", tcp, err, want)
	}
	for _, bad := range []string{"1: 00:1538 0 0A", "1: 00000000 0 0A", "1: 0000000G:1 0 0A", "1: 00000000:12345 0 0A"} {
		if got, err := parseSockets(strings.NewReader(bad), api.TCP); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func TestSocketTakes(t *testing.T) {
	l := api.LinkTarget{Local: netip.MustParseAddr("127.1.0.1"), Port: 80, Protocol: api.TCP}
	here := l
	here.Localhost = true
	for _, tt := range []struct {
		at   string
		p    api.Protocol
		link api.LinkTarget
		want bool
	}{
		{"0.0.0.0:80", api.TCP, l, true}, {"[::]:80", api.TCP, l, true}, {"127.1.0.1:80", api.TCP, l, true}, {"[::ffff:127.1.0.1]:80", api.TCP, l, true},
		{"127.0.0.1:80", api.TCP, here, true}, {"127.0.0.1:80", api.TCP, l, false}, {"10.127.0.5:80", api.TCP, here, false},
		{"0.0.0.0:81", api.TCP, l, false}, {"0.0.0.0:80", api.UDP, l, false}, {"[::1]:80", api.TCP, here, false},
	} {
		if got := (socket{tt.p, netip.MustParseAddrPort(tt.at)}).takes(tt.link); got != tt.want {
			t.Errorf("%s/%s for %+v: %v", tt.at, tt.p, tt.link, got)
		}
	}
}

func TestSocketTakesIPv6(t *testing.T) {
	port := api.HostPort{Name: "http", Protocol: api.TCP, Port: 80, HostPort: 20001}
	for at, want := range map[string]bool{"[::]:80": true, "[fd67:6561:7200::a7f:5]:80": true, "0.0.0.0:80": false, "[::1]:80": false, "[::]:81": false,
		"[::ffff:0.0.0.0]:80": false, "10.127.0.5:80": false} {
		if got := (socket{api.TCP, netip.MustParseAddrPort(at)}).takesIPv6(port); got != want {
			t.Errorf("%s: %v", at, got)
		}
	}
	if (socket{api.UDP, netip.MustParseAddrPort("[::]:80")}).takesIPv6(port) {
		t.Error("a socket for UDP takes TCP")
	}
}

func TestParseCounted(t *testing.T) {
	c, err := parseCounted("*nat\n:OUTPUT ACCEPT [5:300]\n:GEAR-LINKS - [0:0]\n[9:540] -A OUTPUT -j GEAR-LINKS\n[4:240] -A GEAR-LINKS -d 127.0.0.1/32 -j RETURN\nCOMMIT\n")
	if err != nil || c.seen["-A GEAR-LINKS -d 127.0.0.1/32 -j RETURN"] != 4 || c.chain("nat", "GEAR-LINKS").hook != "OUTPUT" || c.chain("raw", "GEAR-LINKS").name != "" {
		t.Errorf("got %+v, %v", c, err)
	}
	if _, err := parseCounted("*nat\n:GEAR-LINKS - [0:0]\n[x:1] -A GEAR-LINKS -j RETURN\n"); err == nil {
		t.Error("counters that are no numbers were taken")
	}
}

package realhost

import (
	"net"
	"testing"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/systemd"
)

func TestPortFreeAsksTheKernel(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	h := &Host{}
	tcp, udp := uint16(l.Addr().(*net.TCPAddr).Port), uint16(u.LocalAddr().(*net.UDPAddr).Port)
	if h.PortFree(api.TCP, tcp) || h.PortFree(api.UDP, udp) {
		t.Error("a port that somebody listens on counts as free")
	}
	l.Close()
	if !h.PortFree(api.TCP, tcp) {
		t.Error("a port that nobody listens on does not count as free")
	}
}

func TestUp(t *testing.T) {
	p := api.Pod{}
	p.Metadata.Project, p.Metadata.Name = "shop", "web-aaaaa"
	p.Spec.Template.Containers = []api.Container{{Name: "main"}, {Name: "log"}}
	const first, second = "gear-shop-web-aaaaa.service", "gear-shop-web-aaaaa-log.service"
	for name, tc := range map[string]struct {
		units map[string]systemd.Unit
		want  bool
	}{
		"none loaded": {nil, false},
		"both":        {map[string]systemd.Unit{first: {Active: "active"}, second: {Active: "activating"}}, true},
		"one":         {map[string]systemd.Unit{first: {Active: "active"}}, false},
		"queued":      {map[string]systemd.Unit{first: {Active: "inactive", Job: "start"}, second: {Active: "active"}}, true},
		"failed":      {map[string]systemd.Unit{first: {Active: "failed"}, second: {Active: "active"}}, false},
	} {
		if got := up(p, tc.units); got != tc.want {
			t.Errorf("%s: up is %t", name, got)
		}
	}
}

func TestLinesWithMatchesWholeWords(t *testing.T) {
	text := "-A X -d 10.127.0.1/32 -j DNAT\n-A X --to-destination 10.127.0.11:80\n-A X --to-destination 10.127.0.1:80\n"
	want := "-A X -d 10.127.0.1/32 -j DNAT\n-A X --to-destination 10.127.0.1:80\n"
	if got := linesWith(text, "10.127.0.1"); got != want {
		t.Errorf("got %q", got)
	}
}

func TestCapacity(t *testing.T) {
	c, err := Capacity()
	if err != nil || c.CPU < 1000 || c.Memory < 64<<20 {
		t.Errorf("%+v, %v", c, err)
	}
}

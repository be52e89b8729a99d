package main

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"gearmesh.dev/api"
)

func TestHostsThatFit(t *testing.T) {
	for _, c := range []struct{ cpus, memory, want int }{{2, 23, 3}, {1, 0, 3}, {8, 64, 8}, {16, 8, 6}, {64, 256, 20}} {
		if got := hostsThatFit(c.cpus, c.memory); got != c.want {
			t.Errorf("%d processors, %d GiB: %d hosts, want %d", c.cpus, c.memory, got, c.want)
		}
	}
}

func TestTurned(t *testing.T) {
	from, to := netip.MustParseAddrPort("192.0.2.2:20000"), netip.MustParseAddrPort("192.0.2.2:20001")
	got := turned(`*nat
:GEAR-LINKS - [0:0]
-A OUTPUT -j GEAR-LINKS
-A GEAR-LINKS -d 127.0.0.1/32 -p tcp -m tcp --dport 5432 -m comment --comment "link db" -j DNAT --to-destination 192.0.2.2:20000
-A GEAR-SNAT -o eth0 -j SNAT --to-source 10.126.1.1
COMMIT
`, from, to)
	want := []string{`-A GEAR-LINKS -d 127.0.0.1/32 -p tcp -m tcp --dport 5432 -m comment --comment "link db" -j DNAT --to-destination 192.0.2.2:20001`}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

// The kernel's nf_nat_range2 after its flags, on the wire.
func TestTranslation(t *testing.T) {
	got := translation(netip.MustParseAddrPort("192.0.2.2:20001"))
	want := append([]byte{192, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 2}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x4e, 0x21, 0x4e, 0x21)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

func TestSimulatedPods(t *testing.T) {
	ends, addresses := map[string]bool{}, map[netip.Addr]bool{}
	for i := range relinkPods {
		p, a := simulatedPod(i)
		if err := p.Metadata.UID.Validate(); err != nil {
			t.Fatal(err)
		}
		ends[string(p.Metadata.UID[:12])], addresses[a] = true, true
	}
	if len(ends) != relinkPods || len(addresses) != relinkPods || addresses[netip.MustParseAddr("10.127.0.1")] {
		t.Errorf("%d names of interfaces and %d addresses for %d pods", len(ends), len(addresses), relinkPods)
	}
}

func TestRetargetRows(t *testing.T) {
	ms := func(n ...int) (out []time.Duration) {
		for _, n := range n {
			out = append(out, time.Duration(n)*time.Millisecond)
		}
		return out
	}
	rows := retargetRows(3, ms(10, 20, 30, 400), ms(30, 400), ms(5))
	if rows[0].Value != 400 || *rows[0].Met || rows[1].Value != 25 || rows[0].Ratio != 80 {
		t.Errorf("got %+v", rows)
	}
	if rows := relinkRows(relinked{Last: ms(100), Half: ms(50), Single: 2 * time.Millisecond, Calls: 2}); !*rows[0].Met || rows[0].Ratio != 0.05 {
		t.Errorf("got %+v", rows[0])
	}
	services := (&bench{address: map[string]netip.Addr{"h1": {}, "h2": {}, "h3": {}}}).retargetServices()
	if len(services) != 4 || services[3].Spec.Containers[0].Ready.Interval != api.Duration(100*time.Millisecond) {
		t.Errorf("got %d services", len(services))
	}
}

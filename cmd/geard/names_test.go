package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestNameFlags(t *testing.T) {
	listen := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("10.127.0.1:53")}
	for _, c := range []struct {
		flags nameFlags
		want  string // of the configuration, or of the error
	}{
		{nameFlags{}, "[] [] 100"},
		{nameFlags{forward: "192.0.2.53,[2001:db8::1]:54"}, "[192.0.2.53:53 [2001:db8::1]:54] [] [] 100"},
		{nameFlags{split: "Corp.example.=10.0.0.53 corp.example=10.0.0.54:5353,10.in-addr.arpa=10.0.0.53"},
			"[{corp.example [10.0.0.53:53 10.0.0.54:5353]} {10.in-addr.arpa [10.0.0.53:53]}] [] 100"},
		{nameFlags{secondaries: "192.0.2.7", limits: "stranger-rate=7,cached=9"}, "[] [192.0.2.7:53] 7"},
		{nameFlags{forward: "192.0.2.1"}, "--dns-forward: 192.0.2.1:53: that is this server itself"},
		{nameFlags{forward: "dns.example"}, `--dns-forward: "dns.example" is no address of a server`},
		{nameFlags{forward: "0.0.0.0"}, `--dns-forward: "0.0.0.0" is no address of one server`},
		{nameFlags{forward: "192.0.2.9,192.0.2.9:53"}, "--dns-forward: 192.0.2.9:53 is there twice"},
		{nameFlags{split: "192.0.2.9"}, `--dns-split: "192.0.2.9": want DOMAIN=ADDRESS`},
		{nameFlags{split: "corp.example=10.127.0.1"}, "--dns-split: corp.example: 10.127.0.1:53: that is this server itself"},
		{nameFlags{split: "x.gear.internal=192.0.2.9"}, "names in gear.internal are the cluster's own"},
		{nameFlags{split: "a..b=192.0.2.9"}, "--dns-split: \"a..b=192.0.2.9\": the domain: "},
		{nameFlags{secondaries: "192.0.2.7:0"}, `--dns-secondary: "192.0.2.7:0" is no address of a server`},
		{nameFlags{limits: "speed=1"}, `--dns-limits: "speed=1": there is no limit "speed"; there are cached, forwards,`},
		{nameFlags{limits: "tcp"}, `--dns-limits: "tcp": want a number of 1 or more, such as tcp=256`},
	} {
		got, err := c.flags.config("gear.internal", listen)
		text := fmt.Sprint(got.Split, got.Secondaries, got.Limits.StrangerRate)
		if c.flags.forward != "" {
			text = fmt.Sprint(got.Upstreams(), " ", text)
		}
		if err != nil {
			text = err.Error()
		}
		if text != c.want && (err == nil || !strings.Contains(text, c.want)) {
			t.Errorf("%+v: got %s, want %s", c.flags, text, c.want)
		}
	}
}

// The serial never goes back: not with a clock that does, and not over a restart.
func TestSerialsGrow(t *testing.T) {
	file := filepath.Join(t.TempDir(), serialFile)
	last, written := uint32(0), 0
	for start, clock := range []int64{1000, 1010, 500, 2000, 1} {
		s := loadSerials(file)
		for i := range int64(200) {
			before := s.bound
			n, err := s.next(time.Unix(clock+i/2, 0))
			if err != nil || n <= last {
				t.Fatalf("start %d: %d after %d: %v", start, n, last, err)
			}
			if last = n; s.bound != before {
				written++
			}
		}
	}
	if written > 5*6 {
		t.Errorf("the file is written %d times for 1000 changes", written)
	}
}

func TestSerialsGoOnWithoutDisk(t *testing.T) {
	dir := t.TempDir()
	s := loadSerials(filepath.Join(dir, "missing", serialFile))
	for want := uint32(70); want < 75; want++ {
		if n, err := s.next(time.Unix(70, 0)); n != want || err == nil {
			t.Errorf("%d, want %d: %v", n, want, err)
		}
	}
	damaged := filepath.Join(dir, serialFile)
	if err := os.WriteFile(damaged, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := loadSerials(damaged).next(time.Unix(70, 0)); n != 70 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

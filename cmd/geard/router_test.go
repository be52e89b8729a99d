package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestListenOn(t *testing.T) {
	for _, c := range []struct {
		flag string
		ipv6 bool
		want string // or a part of the error
	}{
		{"", true, "[0.0.0.0:80 [::]:80]"},
		{"", false, "[0.0.0.0:80]"},
		{"192.0.2.1:8080", true, "[192.0.2.1:8080]"},
		{"192.0.2.1:80, [2001:db8::1]:80", false, "[192.0.2.1:80 [2001:db8::1]:80]"},
		{"80", true, `--bind "80"`},
		{"0.0.0.0:80,", true, "addresses with ports are needed"},
	} {
		got, err := listenOn(c.flag, func() bool { return c.ipv6 })
		if text := fmt.Sprint(got); err == nil && text != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q with IPv6 %t: %s, %v; want %s", c.flag, c.ipv6, text, err, c.want)
		}
	}
}

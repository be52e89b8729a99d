package main

import (
	"context"
	"flag"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"strings"

	"gearmesh.dev/api"
	"gearmesh.dev/router"
)

func runRouter(ctx context.Context, args []string, log *slog.Logger) error {
	f := flag.NewFlagSet("geard router", flag.ContinueOnError)
	bind := f.String("bind", "", "addresses and ports that HAProxy listens on for HTTP, with commas (default 0.0.0.0:80, and [::]:80 where the kernel has IPv6)")
	domain := f.String("domain", "gear.internal", "DNS domain of the cluster: each service is SERVICE-PROJECT.DOMAIN")
	agent := f.String("agent", agentSocket, "the agent's unix socket")
	if err := f.Parse(args); err != nil {
		return err
	}
	listen, err := listenOn(*bind, hasIPv6)
	if err != nil {
		return err
	}
	ready(log)
	return router.Run(ctx, router.Options{
		Settings:   router.Settings{Bind: listen, Domain: api.Hostname(*domain), User: "haproxy", Chroot: "/var/lib/haproxy"}.Default(),
		Directory:  func(ctx context.Context) iter.Seq[api.Directory] { return router.Follow(ctx, *agent, log) },
		Supervisor: router.NewSystemd(),
		Logger:     log,
	})
}

// listenOn reads the addresses to listen on.
func listenOn(flag string, hasIPv6 func() bool) ([]netip.AddrPort, error) {
	if flag == "" {
		flag = "0.0.0.0:80"
		if hasIPv6() { // HAProxy would not start otherwise
			flag += ",[::]:80"
		}
	}
	var out []netip.AddrPort
	for _, one := range strings.Split(flag, ",") {
		a, err := netip.ParseAddrPort(strings.TrimSpace(one))
		if err != nil {
			return nil, fmt.Errorf("--bind %q: %w; addresses with ports are needed, such as 0.0.0.0:80,[::]:80", flag, err)
		}
		out = append(out, a)
	}
	return out, nil
}

// hasIPv6 tells whether this host's kernel has IPv6 at all: with ipv6.disable=1 there is no such file. The unit may make no
// socket of IPv6 itself to find out.
func hasIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}

package main

import (
	"context"
	"flag"
	"iter"
	"log/slog"
	"net/netip"

	"gearmesh.dev/api"
	"gearmesh.dev/router"
)

func runRouter(ctx context.Context, args []string, log *slog.Logger) error {
	f := flag.NewFlagSet("geard router", flag.ContinueOnError)
	bind := f.String("bind", "0.0.0.0:80", "address and port that HAProxy listens on for HTTP")
	domain := f.String("domain", "gear.internal", "DNS domain of the cluster: each service is SERVICE-PROJECT.DOMAIN")
	agent := f.String("agent", agentSocket, "the agent's unix socket")
	if err := f.Parse(args); err != nil {
		return err
	}
	listen, err := netip.ParseAddrPort(*bind)
	if err != nil {
		return err
	}
	ready(log)
	return router.Run(ctx, router.Options{
		Settings:   router.Settings{Bind: []netip.AddrPort{listen}, Domain: api.Hostname(*domain), User: "haproxy", Chroot: "/var/lib/haproxy"}.Default(),
		Directory:  func(ctx context.Context) iter.Seq[api.Directory] { return router.Follow(ctx, *agent, log) },
		Supervisor: router.NewSystemd(),
		Logger:     log,
	})
}

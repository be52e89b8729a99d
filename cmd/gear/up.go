package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/install"
)

// hostFlags are what up and join ask about a host.
type hostFlags struct {
	name, address string
	router        bool
	labels        []string
}

func (h *hostFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&h.name, "name", "", "the host's name (default the first part of its host name)")
	f.StringVar(&h.address, "address", "", "where other hosts reach it (default that of the default route's interface)")
	f.BoolVar(&h.router, "router", false, "run a router: HTTP from outside, by host name")
	f.StringSliceVar(&h.labels, "labels", nil, "labels of the host: key=value,key=value")
}

// options puts the flags into install's form.
func (h *hostFlags) options(cmd *cobra.Command, a *app) (install.Options, error) {
	o := install.Options{Name: api.Name(h.name), Labels: map[string]string{}, Progress: a.installed}
	if h.name != "" {
		if _, err := checkedName("host", h.name); err != nil {
			return o, err
		}
	}
	if h.address != "" {
		at, err := netip.ParseAddr(h.address)
		if err != nil {
			return o, usageError(cmd, "--address %q is no IP address", h.address)
		}
		o.Address = at
	}
	for _, l := range h.labels {
		key, value, ok := strings.Cut(l, "=")
		if !ok || key == "" {
			return o, usageError(cmd, "--labels %q is not key=value", l)
		}
		o.Labels[key] = value
	}
	if h.router {
		o.Labels[api.RouterLabel] = "true"
	}
	return o, nil
}

// installed shows a step that has ended.
func (a *app) installed(s install.Step) {
	mark := a.errPaint.green("✔")
	switch {
	case s.Err != nil:
		mark = a.errPaint.red("✗")
	case s.Waits != "":
		mark = a.errPaint.yellow("…")
	case s.Advice != "":
		mark = a.errPaint.yellow("!")
	case s.Done == "":
		mark = a.errPaint.grey("·")
	}
	line := s.String()
	if s.Err != nil {
		line = s.Name // what is wrong follows as the error
	}
	fmt.Fprintf(a.err, "%s %s %s\n", mark, line, a.errPaint.grey(fmt.Sprintf("%.1fs", s.Elapsed.Seconds())))
}

func (a *app) upCmd() *cobra.Command {
	var h hostFlags
	var domain string
	cmd := &cobra.Command{
		Use: "up", Short: "Make this host a cluster: its master, and the first host that runs pods",
		Long: `Sets up master, agent, DNS and, with --router, a router on this host as systemd units. It can be run again at any time:
what is done already is left alone, and nothing that runs is stopped. It needs root, systemd and dockerd.`,
		Example: `  gear up --router
  gear up --name h1 --address 192.0.2.10 --labels zone=a`,
		Args: between(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := h.options(cmd, a)
			if err != nil {
				return err
			}
			o.Domain, o.Context = api.Hostname(domain), a.context
			if _, err := install.Up(cmd.Context(), o); err != nil {
				return err
			}
			fmt.Fprint(a.err, "\nnext: gear token create     lets another host join\n      gear apply -f FILE     runs something\n")
			return nil
		},
	}
	h.add(cmd)
	cmd.Flags().StringVar(&domain, "domain", "", "the cluster's DNS domain (default "+string(install.DefaultDomain)+")")
	return cmd
}

func (a *app) joinCmd() *cobra.Command {
	var h hostFlags
	var master bool
	cmd := &cobra.Command{
		Use: "join MASTER TOKEN", Short: "Make this host a member of a master's cluster",
		Long: `Gets an identity from the master with a token of gear token create, and sets up agent, DNS and, with --router, a router
on this host. The token carries the fingerprint of the cluster's CA, so the master is known before it is trusted.
With a token of gear token create --approve it waits until an administrator lets it in; run again after a break, it waits on with the same key.

With --master this host becomes a further master too (token: gear token create --master). Have 3 or 5 of them: with two, none may fail.`,
		Example: `  gear join 192.0.2.10 TOKEN
  gear join 192.0.2.10 TOKEN --name h2 --router
  gear join 192.0.2.10 TOKEN --master  # and make this host a master`,
		Args: between(2, 2, "the master's address and a token"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := h.options(cmd, a)
			if err != nil {
				return err
			}
			_, err = install.Join(cmd.Context(), install.JoinOptions{Options: o, Master: args[0], Token: args[1], AlsoMaster: master})
			return err
		},
	}
	h.add(cmd)
	cmd.Flags().BoolVar(&master, "master", false, "make this host a further master too; the token must be of gear token create --master")
	return cmd
}

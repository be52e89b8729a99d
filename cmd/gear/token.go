package main

import (
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
)

func (a *app) tokenCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Make tokens that let hosts join", Args: a.unknownCommand, RunE: help}
	var format string
	var req api.TokenRequest
	create := &cobra.Command{
		Use: "create", Short: "Make a token that lets one host join, once",
		Example: `  gear token create
  gear token create --master           # the host becomes a further master too
  gear token create --approve          # the host waits until gear host approve lets it in
  gear token create -o json`,
		Args: between(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(cmd, format, "json"); err != nil {
				return err
			}
			if req.Approve && req.Master {
				return usageError(cmd, "--approve does not go with --master: let the host join with the one, then make it a master with the other")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			t, err := c.CreateToken(cmd.Context(), req)
			if err != nil {
				return err
			}
			if format == "json" {
				return a.printValue(t, format)
			}
			server, err := url.Parse(c.Server())
			if err != nil {
				return fmt.Errorf("reading the master's address: %w", err)
			}
			at, more := server.Hostname(), ""
			if server.Port() != "7443" {
				at = server.Host
			}
			if req.Master {
				more = " --master"
			}
			fmt.Fprintf(a.out, "gear join %s %s%s\n", at, t.Token, more)
			fmt.Fprintf(a.err, "Run this as root on the new host within %s; it works once.\n", short(time.Until(t.Expires)))
			if req.Approve {
				fmt.Fprint(a.err, "The host then waits for you: gear host pending, gear host approve NAME\n")
			}
			return nil
		},
	}
	formatFlag(create, &format, "json")
	create.Flags().BoolVar(&req.Approve, "approve", false, "the host waits for gear host approve before it gets anything")
	create.Flags().BoolVar(&req.Master, "master", false, "the host may become a further master: whoever has this token gets the CA's key")
	cmd.AddCommand(create)
	return cmd
}

// help is what commands do that only have commands below them.
func help(c *cobra.Command, _ []string) error { return c.Help() }

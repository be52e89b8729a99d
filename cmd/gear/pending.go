package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

// The commands about hosts that wait for approval: their token was made by gear token create --approve.

func (a *app) pendingCmd() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "pending", Short: "List the hosts that wait for approval",
		Example: "  gear host pending\n  gear host pending -o json", Args: between(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return show(a, cmd, format, func(c *client.Client) (api.PendingList, error) { return c.PendingHosts(ctx) },
				func(list api.PendingList) {
					if len(list.Items) == 0 {
						fmt.Fprintln(a.err, "no host waits for approval")
						return
					}
					a.pendingTable(list.Items)
				})
		},
	}
	formatFlag(cmd, &format, "json", "yaml")
	return cmd
}

// pendingTable shows hosts with the whole of their fingerprints: they are there to be compared.
func (a *app) pendingTable(list []api.PendingHost) {
	var rows [][]string
	for _, p := range list {
		rows = append(rows, []string{string(p.Name), string(p.State), p.Address.String(), p.From.String(), short(time.Until(p.Until)), printable(p.Fingerprint)})
	}
	writeTable(a.out, a.outPaint, []string{"name", "state", "address", "from", "time left", "fingerprint of its key"}, rows)
}

func (a *app) verdictCmd(state api.PendingState) *cobra.Command {
	verb, short, note := "approve", "Let a host in that waits for approval", "It joins by itself within seconds."
	if state == api.PendingRejected {
		verb, short, note = "reject", "Refuse a host that waits for approval", "Its token is worth nothing any more."
	}
	var fingerprint string
	cmd := &cobra.Command{
		Use: verb + " HOST", Short: short,
		Long: short + `. gear join shows the fingerprint of the host's key, and gear host pending shows the one that asks: they should be the
same. ` + note,
		Example: fmt.Sprintf("  gear host pending\n  gear host %s h4", verb),
		Args:    between(1, 1, "the name of a host that waits"), ValidArgsFunction: a.completePending,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := checkedName("host", args[0])
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			p, err := c.JudgePending(cmd.Context(), name, api.Verdict{State: state, Fingerprint: fingerprint})
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "host %s %s: address %s, key %s\n", p.Name, p.State, p.Address, printable(p.Fingerprint))
			return nil
		},
	}
	cmd.Flags().StringVar(&fingerprint, "fingerprint", "", "only if its key is this one")
	return cmd
}

// completePending completes the names of hosts that wait.
func (a *app) completePending(cmd *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTime)
	defer cancel()
	c, err := a.client()
	if err != nil || len(args) > 0 {
		return nil, none
	}
	list, err := c.PendingHosts(ctx)
	if err != nil {
		return nil, none
	}
	var out []string
	for _, p := range list.Items {
		if strings.HasPrefix(string(p.Name), begin) {
			out = append(out, string(p.Name))
		}
	}
	return out, none
}

// tellPending says that hosts wait, beside what was asked for. It only informs: a master that does not answer is left alone.
func (a *app) tellPending(ctx context.Context, c *client.Client) {
	list, err := c.PendingHosts(ctx)
	for _, p := range list.Items {
		if err == nil && p.State == api.PendingWaiting {
			fmt.Fprintf(a.err, "host %s at %s waits for approval; try: gear host pending\n", p.Name, p.Address)
		}
	}
}

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
	"gearmesh.dev/internal/loop"
)

// The commands of the gossip's key.

func (a *app) meshCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "mesh", Short: "The key that encrypts the hosts' gossip: look at it, change it", Args: a.unknownCommand, RunE: help}
	cmd.AddCommand(a.meshStatusCmd(), a.meshRotateCmd())
	return cmd
}

func (a *app) meshStatusCmd() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "status", Short: "Show whether the key is being changed, and which hosts are waited for",
		Example: "  gear mesh status\n  gear mesh status -o json", Args: between(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return show(a, cmd, format, func(c *client.Client) (api.MeshKeys, error) { return c.Mesh(ctx) },
				func(m api.MeshKeys) { fmt.Fprintln(a.out, meshLine(m)) })
		},
	}
	formatFlag(cmd, &format, "json", "yaml")
	return cmd
}

func (a *app) meshRotateCmd() *cobra.Command {
	var timeout time.Duration
	var detach bool
	cmd := &cobra.Command{
		Use: "rotate", Short: "Change the key of the gossip, without losing a host",
		Long: `Makes a new key and brings it to all hosts in steps: accepted by all, used by all, the old one removed. Each step waits for all living
hosts. A host that is off gets the new key from the master when it is back. Worth doing after a host was removed: it knew the old key.
It follows until the old key is gone; Ctrl-C only stops following. Exit status 4: not in time.`,
		Example: "  gear mesh rotate\n  gear mesh rotate --detach; gear mesh status", Args: between(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			m, err := c.RotateMesh(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, "the key of the gossip is being changed")
			if detach {
				return nil
			}
			return a.followMesh(cmd.Context(), c, m, timeout)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to follow at most")
	cmd.Flags().BoolVar(&detach, "detach", false, "do not follow")
	return cmd
}

// followMesh tells each step until the old key is gone.
func (a *app) followMesh(ctx context.Context, c *client.Client, m api.MeshKeys, timeout time.Duration) error {
	begun, said := time.Now(), ""
	for {
		if line := meshLine(m); line != said {
			said = line
			fmt.Fprintf(a.err, "%6s  %s\n", time.Since(begun).Round(time.Second), line)
		}
		if m.Step == api.MeshSteady {
			return nil
		}
		if time.Since(begun) > timeout {
			return problem{what: "the old key is still in use after " + timeout.String(), why: said, try: "gear hosts", code: exitTimeout}
		}
		if !loop.Sleep(ctx, time.Second) {
			return ctx.Err()
		}
		now, err := c.Mesh(ctx)
		if err != nil {
			return err
		}
		m = now
	}
}

// meshLine says where the keys stand.
func meshLine(m api.MeshKeys) string {
	line := map[api.MeshStep]string{api.MeshSteady: "one key is in use", api.MeshInstall: "the new key is being brought to all hosts", api.MeshUse: "the new key is in use, the old one is accepted"}[m.Step]
	if len(m.Waits) > 0 {
		line += "; waits for " + nameList(m.Waits)
	}
	if len(m.Gone) > 0 {
		line += "; " + nameList(m.Gone) + " will get it when back"
	}
	return line
}

func nameList(names []api.Name) string {
	var out []string
	for _, n := range names {
		out = append(out, printable(string(n)))
	}
	return strings.Join(out, ", ")
}

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"gearmesh.dev/internal/version"
)

func (a *app) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the versions of gear and of the master",
		Example: `  gear version`,
		Args:    between(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintf(a.out, "gear    %s\n", version.Version)
			c, err := a.client()
			if err != nil {
				return nil //nolint:nilerr // without a cluster, gear's own version is all there is
			}
			v, err := c.Version(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "master  %s\n", v)
			return nil
		},
	}
}

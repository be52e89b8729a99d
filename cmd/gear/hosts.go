package main

import (
	"cmp"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
)

func (a *app) hostsCmd() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "hosts", Short: "Show the hosts: the same as gear get hosts -o wide",
		Example: `  gear hosts
  gear hosts -o json`,
		Args: between(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(cmd, format); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			err = a.getAll(cmd.Context(), c, api.KindHost, "", cmp.Or(format, "wide"))
			a.tellPending(cmd.Context(), c)
			return err
		},
	}
	formatFlag(cmd, &format)
	return cmd
}

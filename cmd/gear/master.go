package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/clientconfig"
)

// The commands of the masters themselves.

func (a *app) masterCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "master", Short: "Work on the masters: list, remove",
		Long: `A cluster has one master, or 3 or 5 of which any one or two may fail. gear token create --master and gear join ... --master add one;
a dead one is removed here and another one joins in its place.`,
		Example: `  gear master list
  gear master list --save              # remember all of them for this cluster
  gear master remove h3 --confirm      # h3 is dead, or should be a master no more`,
		Args: a.unknownCommand, RunE: help,
	}
	cmd.AddCommand(a.masterListCmd(), a.masterRemoveCmd())
	return cmd
}

func (a *app) masterListCmd() *cobra.Command {
	var format string
	var save bool
	cmd := &cobra.Command{
		Use: "list", Short: "The masters, which of them leads, and which have a vote", Args: between(0, 0, ""),
		Example: `  gear master list
  gear master list --save              # ask the others too when one does not answer`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(cmd, format, "json", "yaml"); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			list, err := c.Masters(cmd.Context())
			if err != nil {
				return err
			}
			if save {
				if err := a.saveMasters(list); err != nil {
					return err
				}
			}
			if format != "" {
				return a.printValue(list, format)
			}
			a.printMasters(list)
			return nil
		},
	}
	formatFlag(cmd, &format, "json", "yaml")
	cmd.Flags().BoolVar(&save, "save", false, "write their addresses into the client's configuration, so that each can stand in for another")
	return cmd
}

func (a *app) printMasters(list api.MasterList) {
	fmt.Fprintf(a.out, "%-20s %-24s %-8s %s\n", "NAME", "ADDRESS", "STATE", "")
	voters := 0
	for _, m := range list.Items {
		name, at, note := string(m.Name), m.Peer, ""
		if m.Address.IsValid() {
			at = m.Address.String()
		}
		if name == "" {
			name = "(not started)"
		}
		if m.Leads {
			note = "leads"
		}
		if m.State == api.MasterVoter {
			voters++
		}
		fmt.Fprintf(a.out, "%-20s %-24s %-8s %s\n", printable(name), printable(at), m.State, note)
	}
	if voters == 2 {
		fmt.Fprintln(a.err, "With two masters none may fail: add a third with gear token create --master.")
	}
}

// saveMasters writes where the masters are into the context in use, the one that was asked first.
func (a *app) saveMasters(list api.MasterList) error {
	path, file, err := readContexts()
	if err != nil {
		return err
	}
	c, err := file.Context(a.context)
	if err != nil {
		return err
	}
	c.Servers = nil
	for _, m := range list.Items {
		if url := "https://" + m.Address.String(); m.Address.IsValid() && url != c.Server {
			c.Servers = append(c.Servers, url)
		}
	}
	i := slices.IndexFunc(file.Contexts, func(o clientconfig.Context) bool { return o.Name == c.Name })
	file.Contexts[i] = c
	if err := file.Save(path); err != nil {
		return err
	}
	fmt.Fprintf(a.err, "wrote %s of context %q to %s\n", count(1+len(c.Servers), "master"), c.Name, path)
	return nil
}

func (a *app) masterRemoveCmd() *cobra.Command {
	var confirm bool
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Take a master out of the cluster, dead or alive",
		Long: `The others go on without it; it ends by itself when it runs. What its host runs is not touched.
One that has never started has no name: write its ADDRESS:PORT as gear master list shows it.`,
		Example: `  gear master remove h3 --confirm`,
		Args:    between(1, 1, "the name of a master"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := netip.ParseAddrPort(args[0]); err != nil {
				if _, err := checkedName("master", args[0]); err != nil {
					return err
				}
			}
			if !confirm {
				return problem{what: "the master would be taken out of the cluster", try: "gear master remove " + args[0] + " --confirm", code: exitUsage}
			}
			return a.removeMaster(cmd.Context(), args[0])
		},
	}
	cmd.Flags().BoolVar(&confirm, "confirm", false, "do it")
	return cmd
}

func (a *app) removeMaster(ctx context.Context, which string) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	if err := c.RemoveMaster(ctx, which); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "master %s is removed\n", which)
	return nil
}

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
)

// The command that shows what an apply would change in the resources alone: gear plan without pods and rules.

func (a *app) diffCmd() *cobra.Command {
	var files []string
	var format string
	cmd := &cobra.Command{
		Use: "diff -f FILE", Short: "Show the fields that an apply would change",
		Long: `Shows what gear apply of these files would change in the resources themselves, field by field; gear plan also shows what becomes
of pods, units and links. Nothing is stored. Exit status 0: nothing would change; 2: something would.`,
		Example: `  gear diff -f shop.yaml
  gear diff -f manifests/ -p shop -o json`,
		Args: between(0, 0, "no arguments; name files with -f"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(cmd, format, "json", "yaml"); err != nil {
				return err
			}
			if len(files) == 0 {
				return usageError(cmd, "which file? give -f FILE, a directory, or - for standard input")
			}
			p, err := a.askPlan(cmd, files)
			if err != nil {
				return err
			}
			return a.showDiff(changedOnly(p.Resources), format)
		},
	}
	formatFlag(cmd, &format, "json", "yaml")
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "file, directory, or - for standard input, as gear apply takes them; may be given again")
	return cmd
}

func changedOnly(list []api.ResourceChange) []api.ResourceChange {
	out := []api.ResourceChange{}
	for _, r := range list {
		if r.Result != api.ResultUnchanged {
			out = append(out, r)
		}
	}
	return out
}

// showDiff prints changes; its exit status tells whether there are any.
func (a *app) showDiff(changes []api.ResourceChange, format string) error {
	switch {
	case format != "":
		if err := a.printValue(changes, format); err != nil {
			return err
		}
	case len(changes) == 0:
		fmt.Fprintln(a.out, "nothing would change")
	default:
		for _, r := range changes {
			a.resourceChange(r)
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return exited(exitChanges)
}

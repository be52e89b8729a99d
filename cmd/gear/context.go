package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gearmesh.dev/internal/clientconfig"
)

// The commands of the client's own configuration: which clusters it knows, and which one it talks to. No master is asked.

func (a *app) contextCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "context", Short: "Work with several clusters: list, use, import, remove",
		Long: `A context is a cluster as this person sees it: its masters, the CA that vouches for them, and a token. They are in
$GEAR_CONFIG, or gear/config.json below ~/.config. gear up makes one; --context and $GEAR_CONTEXT choose one for a single command.`,
		Example: `  gear context list
  gear context use prod
  ssh root@h1 cat .config/gear/config.json > h1.json && gear context import h1.json --as prod`,
		Args: a.unknownCommand, RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.AddCommand(a.contextListCmd(), a.contextUseCmd(), a.contextImportCmd(), a.contextRemoveCmd())
	return cmd
}

func (a *app) contextListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "Show the clusters that this person knows", Example: "  gear context list", Args: between(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			_, file, err := readContexts()
			if err != nil {
				return err
			}
			if len(file.Contexts) == 0 {
				fmt.Fprintln(a.err, "no cluster is known; gear up makes one, and gear context import takes over those of another host")
				return nil
			}
			var rows [][]string
			for _, c := range file.Contexts {
				mark := ""
				if c.Name == file.Current {
					mark = "*"
				}
				rows = append(rows, []string{c.Name, mark, strings.Join(append([]string{c.Server}, c.Servers...), ", ")})
			}
			writeTable(a.out, a.outPaint, []string{"name", "current", "masters"}, rows)
			return nil
		},
	}
}

func (a *app) contextUseCmd() *cobra.Command {
	return &cobra.Command{
		Use: "use NAME", Short: "Talk to this cluster from now on", Example: "  gear context use prod",
		Args: between(1, 1, "the name of a context"), ValidArgsFunction: completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.changeContexts(func(f clientconfig.File) (clientconfig.File, string, error) {
				f, err := f.Use(args[0])
				return f, fmt.Sprintf("context %s is used from now on", args[0]), err
			})
		},
	}
}

func (a *app) contextImportCmd() *cobra.Command {
	var as string
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Take over the clusters of another configuration",
		Long: `Adds the contexts of another person's or host's configuration to this one. None that is here already is replaced: --as gives the
one context of FILE another name. The current context stays, unless there is none.`,
		Example: `  gear context import h1.json --as prod`,
		Args:    between(1, 1, "a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			more, err := clientconfig.Load(args[0])
			if err != nil {
				return problem{what: fmt.Sprintf("%q cannot be taken over", args[0]), why: err.Error(), code: exitUsage}
			}
			if len(more.Contexts) == 0 {
				return problem{what: fmt.Sprintf("%q has no contexts, or does not exist", args[0]), code: exitNotFound}
			}
			if as != "" {
				if len(more.Contexts) > 1 {
					return usageError(cmd, "--as names one context, and %q has %d", args[0], len(more.Contexts))
				}
				name, err := checkedName("context", as)
				if err != nil {
					return err
				}
				more.Contexts[0].Name = string(name)
			}
			return a.changeContexts(func(f clientconfig.File) (clientconfig.File, string, error) {
				f, err := f.Merge(more)
				return f, fmt.Sprintf("%d imported; gear context use NAME chooses one", len(more.Contexts)), err
			})
		},
	}
	cmd.Flags().StringVar(&as, "as", "", "the name of the context here")
	return cmd
}

func (a *app) contextRemoveCmd() *cobra.Command {
	var confirm string
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Forget a cluster, with the token for it",
		Example: "  gear context remove old --confirm old", Args: between(1, 1, "the name of a context"), ValidArgsFunction: completeContexts,
		RunE: func(_ *cobra.Command, args []string) error {
			if confirm != args[0] {
				return problem{what: fmt.Sprintf("context %s is not removed: its token is nowhere else", args[0]),
					try: fmt.Sprintf("gear context remove %s --confirm %s", args[0], args[0]), code: exitUsage}
			}
			return a.changeContexts(func(f clientconfig.File) (clientconfig.File, string, error) {
				f, err := f.Remove(args[0])
				return f, fmt.Sprintf("context %s is removed; the cluster is as it was", args[0]), err
			})
		},
	}
	cmd.Flags().StringVar(&confirm, "confirm", "", "the name again")
	return cmd
}

// readContexts reads the configuration, and says where it is.
func readContexts() (path string, file clientconfig.File, err error) {
	if path, err = clientconfig.Path(); err != nil {
		return "", file, err
	}
	file, err = clientconfig.Load(path)
	return path, file, err
}

// changeContexts writes the configuration anew, and says what was done.
func (a *app) changeContexts(change func(clientconfig.File) (clientconfig.File, string, error)) error {
	path, file, err := readContexts()
	if err != nil {
		return err
	}
	file, done, err := change(file)
	if err != nil {
		return problem{what: err.Error(), try: "gear context list", code: exitNotFound}
	}
	if err := file.Save(path); err != nil {
		return err
	}
	fmt.Fprintln(a.out, done)
	return nil
}

func completeContexts(_ *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if _, file, err := readContexts(); err == nil && len(args) == 0 {
		for _, c := range file.Contexts {
			if strings.HasPrefix(c.Name, begin) {
				names = append(names, c.Name)
			}
		}
	}
	slices.Sort(names)
	return names, cobra.ShellCompDirectiveNoFileComp
}

package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

func (a *app) applyCmd() *cobra.Command {
	var files []string
	var noWait, prune bool
	var confirm string
	var timeout time.Duration
	var o client.ApplyOptions
	cmd := &cobra.Command{
		Use: "apply -f FILE", Short: "Make the cluster run what files say, and follow it until it does",
		Long: `Creates or replaces the resources of YAML or JSON files in one transaction, all of them or none, and prints for each whether
it was created, configured or unchanged. What is wrong with any of them is said at once, and then nothing is changed.

Then it follows the services' pods until all are ready, and ends early when a pod cannot become so. Ctrl-C only stops
the following. Exit status 2: a file is wrong; 4: not ready in time.

With --dry-run the master checks everything and answers as if it were done; nothing is changed. gear plan says more.
With --prune the services of the files' project, and the aliases that people made in it, are deleted after the apply when the files do
not name them. They are listed first, and the project's name is asked for unless --confirm gives it; secrets, and the
project itself, stay. What others change meanwhile stays, too. --dry-run --prune only shows them.
With --if-revision, which gear plan prints, nothing is done when others have changed one of the resources meanwhile.`,
		Example: `  gear apply -f shop.yaml
  gear apply -f manifests/ -p shop
  gear apply -f shop.yaml --dry-run
  gear apply -f manifests/ --prune --confirm shop
  generate | gear apply -f - --no-wait`,
		Args: between(0, 0, "no arguments; name files with -f"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(files) == 0 {
				return usageError(cmd, "which file? give -f FILE, a directory, or - for standard input")
			}
			if cmd.Flags().Changed("if-revision") && o.IfRevision < 1 {
				return usageError(cmd, "--if-revision is the revision that gear plan prints, from 1")
			}
			if confirm != "" && !prune {
				return usageError(cmd, "--confirm goes with --prune, which deletes what the files do not name")
			}
			list, err := a.readManifests(cmd, files)
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			var going []api.Resource
			if prune {
				if going, err = a.toPrune(cmd, c, list, files, confirm, o.DryRun); err != nil {
					return err
				}
			}
			done, err := c.Apply(cmd.Context(), resourcesOf(list), o)
			if err != nil {
				return refusedApply(err, list, o, files)
			}
			a.printApplied(done)
			if err := a.prune(cmd.Context(), c, going, o.DryRun); err != nil {
				return err
			}
			services := servicesOf(list, done)
			if o.DryRun || noWait || len(services) == 0 {
				return nil
			}
			return a.follow(cmd.Context(), c, services, timeout)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&files, "file", "f", nil, "file, directory, or - for standard input; may be given again")
	f.BoolVar(&o.DryRun, "dry-run", false, "let the master check it, and change nothing")
	f.Int64Var(&o.IfRevision, "if-revision", 0, "only if none of the resources has changed after this revision of the store")
	f.BoolVar(&prune, "prune", false, "delete the project's services and aliases that the files do not name")
	f.StringVar(&confirm, "confirm", "", "with --prune: the project's name, instead of being asked")
	f.BoolVar(&noWait, "no-wait", false, "do not follow the pods")
	f.DurationVar(&timeout, "timeout", 5*time.Minute, "how long to follow")
	return cmd
}

func resourcesOf(list []manifest) []api.Resource {
	out := make([]api.Resource, len(list))
	for i, m := range list {
		out[i] = m.resource
	}
	return out
}

// printApplied prints a line for each resource.
func (a *app) printApplied(done api.Applied) {
	mark := ""
	if done.DryRun {
		mark = " (dry run)"
	}
	for _, r := range done.Resources {
		fmt.Fprintf(a.out, "%s %s%s\n", r.Key(), r.Result, mark)
	}
}

// servicesOf gives the services of an apply as they are stored now.
func servicesOf(list []manifest, done api.Applied) []*api.Service {
	at := map[api.Key]int64{}
	for _, r := range done.Resources {
		at[r.Key()] = r.Revision
	}
	var out []*api.Service
	for _, m := range list {
		if s, ok := m.resource.(*api.Service); ok {
			s.Default()
			s.Metadata.Revision = at[s.Key()]
			out = append(out, s)
		}
	}
	return out
}

// refusedApply says where in the files an apply is wrong, and what to do about a plan that is no longer true.
func refusedApply(err error, list []manifest, o client.ApplyOptions, files []string) error {
	p := whereOf(err, list)
	if e := (*api.Error)(nil); errors.As(err, &e) && e.Code == api.CodeConflict && o.IfRevision != 0 {
		p.try = "gear plan" + fileFlags(files)
	}
	return p
}

func joinLines(a, b string) string {
	if b == "" {
		return a
	}
	return a + "\n" + b
}

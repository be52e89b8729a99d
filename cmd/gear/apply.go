package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

func (a *app) applyCmd() *cobra.Command {
	var files []string
	var noWait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "apply -f FILE", Short: "Make the cluster run what files say, and follow it until it does",
		Long: `Creates or replaces the resources of YAML or JSON files, projects first, and prints for each whether it was created,
configured or unchanged. All files are checked before anything is sent.

Then it follows the services' pods until all are ready, and ends early when a pod cannot become so. Ctrl-C only stops
the following. Exit status 2: a file is wrong; 4: not ready in time.`,
		Example: `  gear apply -f shop.yaml
  gear apply -f manifests/ -p shop
  generate | gear apply -f - --no-wait`,
		Args: between(0, 0, "no arguments; name files with -f"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(files) == 0 {
				return usageError(cmd, "which file? give -f FILE, a directory, or - for standard input")
			}
			list, err := a.readManifests(cmd, files)
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			services, err := a.put(cmd.Context(), c, list)
			if err != nil || noWait || len(services) == 0 {
				return err
			}
			return a.follow(cmd.Context(), c, services, timeout)
		},
	}
	f := cmd.Flags()
	f.StringArrayVarP(&files, "file", "f", nil, "file, directory, or - for standard input; may be given again")
	f.BoolVar(&noWait, "no-wait", false, "do not follow the pods")
	f.DurationVar(&timeout, "timeout", 5*time.Minute, "how long to follow")
	return cmd
}

// put sends the resources in order and gives the services as they are stored.
func (a *app) put(ctx context.Context, c *client.Client, list []manifest) ([]*api.Service, error) {
	var services []*api.Service
	for _, m := range list {
		r, result, err := c.Put(ctx, m.resource)
		if err != nil {
			p := asProblem(err)
			p.why = joinLines(fmt.Sprintf("%s:%d: %s", m.file, m.line, m.resource.Head().Key()), p.why)
			return nil, p
		}
		fmt.Fprintf(a.out, "%s %s\n", r.Head().Key(), result)
		if s, ok := r.(*api.Service); ok {
			services = append(services, s)
		}
	}
	return services, nil
}

func joinLines(a, b string) string {
	if b == "" {
		return a
	}
	return a + "\n" + b
}

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

// The commands of a service's rollout; rollout.go judges how far one is.

func (a *app) rolloutCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "rollout", Short: "Follow a service's rollout, replace its pods, or go back to what it was", Args: a.unknownCommand, RunE: help}
	cmd.AddCommand(a.rolloutStatusCmd(), a.rolloutRestartCmd(), a.rolloutHistoryCmd(), a.rolloutUndoCmd())
	return cmd
}

func (a *app) rolloutStatusCmd() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "status SERVICE", Short: "Follow a service until all its pods run what it says now",
		Long: `Follows the pods of a service as gear apply does, and ends at once when all are ready already. It ends early when a pod cannot
become ready. Ctrl-C only stops the following. Exit status 4: not ready in time.`,
		Example: "  gear rollout status web -p shop\n  gear rollout status web -p shop --timeout 1m",
		Args:    between(1, 1, "the name of a service"), ValidArgsFunction: a.completeNames(api.KindService),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			r, err := a.find(cmd.Context(), c, api.KindService, args[0])
			if err != nil {
				return err
			}
			return a.follow(cmd.Context(), c, []*api.Service{r.(*api.Service)}, timeout)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to follow")
	return cmd
}

func (a *app) rolloutRestartCmd() *cobra.Command {
	var timeout time.Duration
	var noWait bool
	cmd := &cobra.Command{
		Use: "restart SERVICE", Short: "Replace all pods of a service, as after a change of its template",
		Long: `Writes the time into the service's spec.restarted. Its pods are replaced as after any change of what they run, so that the service
goes on serving, and followed until all are ready. A later apply of a file without that field leaves it as it is.
Ctrl-C only stops the following. Exit status 4: not ready in time.`,
		Example: "  gear rollout restart web -p shop\n  gear rollout restart web -p shop --no-wait",
		Args:    between(1, 1, "the name of a service"), ValidArgsFunction: a.completeNames(api.KindService),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			s, err := a.restart(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s restarted\n", s.Key())
			if noWait {
				return nil
			}
			return a.follow(cmd.Context(), c, []*api.Service{s}, timeout)
		},
	}
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not follow the pods")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to follow")
	return cmd
}

// restart writes into a service when it was restarted, on top of what others change at the same time.
func (a *app) restart(ctx context.Context, c *client.Client, name string) (now *api.Service, err error) {
	err = amongOthers("service "+name, func() error {
		r, err := a.exact(ctx, c, api.KindService, name)
		if err != nil {
			return err
		}
		s := r.(*api.Service)
		s.Spec.Restarted = time.Now().UTC().Truncate(time.Millisecond)
		stored, _, err := c.Put(ctx, s)
		if err == nil {
			now = stored.(*api.Service)
		}
		return err
	})
	return now, err
}

// amongOthers tries a change again when somebody else has changed the same since it was read.
func amongOthers(what string, change func() error) error {
	for range 5 {
		err := change()
		if e := (*api.Error)(nil); !errors.As(err, &e) || e.Code != api.CodeConflict {
			return err
		}
	}
	return problem{what: what + " is being changed by others all the time", try: "the same again in a moment", code: exitError}
}

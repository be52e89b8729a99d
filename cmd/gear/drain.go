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

// The commands of a host's maintenance: cordon keeps new pods away, drain also moves those that are there, uncordon ends both.

func (a *app) cordonCmd() *cobra.Command {
	return &cobra.Command{
		Use: "cordon HOST", Short: "Place no new pods on a host; what runs there stays",
		Example: "  gear host cordon h1", Args: between(1, 1, "the name of a host"), ValidArgsFunction: a.completeNames(api.KindHost),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.setHost(cmd.Context(), args[0], "cordoned", func(h *api.Host) { h.Spec.Cordoned = true })
		},
	}
}

func (a *app) uncordonCmd() *cobra.Command {
	return &cobra.Command{
		Use: "uncordon HOST", Short: "Place pods on a host again, after cordon or drain",
		Example: "  gear host uncordon h1", Args: between(1, 1, "the name of a host"), ValidArgsFunction: a.completeNames(api.KindHost),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.setHost(cmd.Context(), args[0], "takes pods again", func(h *api.Host) { h.Spec.Cordoned, h.Spec.Drain = false, false })
		},
	}
}

func (a *app) drainCmd() *cobra.Command {
	var timeout time.Duration
	var detach bool
	cmd := &cobra.Command{
		Use: "drain HOST", Short: "Move a host's pods to other hosts, and place no new ones on it",
		Long: `Moves the pods of a host away: of each service one at a time, and new before old, so that no service has fewer ready pods than
it wants. Pods with volumes on the host stay, since their data is there. It follows until all have moved;
Ctrl-C only stops following. Exit status 4: not in time.`,
		Example: `  gear host drain h1
  gear host drain h1 --timeout 30m
  gear host uncordon h1                # takes pods again`,
		Args: between(1, 1, "the name of a host"), ValidArgsFunction: a.completeNames(api.KindHost),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.setHost(cmd.Context(), args[0], "is being drained", func(h *api.Host) { h.Spec.Drain = true }); err != nil || detach {
				return err
			}
			return a.followDrain(cmd.Context(), args[0], timeout)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to follow at most")
	cmd.Flags().BoolVar(&detach, "detach", false, "do not follow")
	return cmd
}

// setHost changes a host, on top of what others change at the same time.
func (a *app) setHost(ctx context.Context, name, done string, change func(*api.Host)) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	return amongOthers("host "+name, func() error {
		r, err := a.find(ctx, c, api.KindHost, name)
		if err != nil {
			return err
		}
		h := r.(*api.Host)
		change(h)
		_, result, err := c.Put(ctx, h)
		if err == nil {
			fmt.Fprintf(a.out, "host %s %s (%s)\n", h.Metadata.Name, done, result)
		}
		return err
	})
}

// followDrain tells how far the draining is until no pod is left that can move.
func (a *app) followDrain(ctx context.Context, name string, timeout time.Duration) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	key, err := a.key(ctx, c, api.KindHost, name)
	if err != nil {
		return err
	}
	begun, said := time.Now(), ""
	var last *api.Host
	err = a.watchUntil(ctx, c, client.WatchOptions{Kinds: []api.Kind{api.KindHost}}, timeout, func(e *client.Event) (bool, error) {
		if e == nil || e.Object == nil || e.Object.Head().Key() != key {
			return false, nil
		}
		if e.Type == api.EventDelete {
			return true, problem{what: fmt.Sprintf("%s was deleted", key), code: exitNotFound}
		}
		last = e.Object.(*api.Host)
		if !last.Spec.Drain {
			return true, problem{what: fmt.Sprintf("%s is not drained any more", key), why: "somebody has uncordoned it", code: exitError}
		}
		if last.Status.Message != said {
			said = last.Status.Message
			fmt.Fprintf(a.err, "%6s  %s\n", time.Since(begun).Round(time.Second), printable(said))
		}
		return last.Status.Reason == api.ReasonDrained, nil
	})
	if errors.Is(err, errTime) {
		p := problem{what: fmt.Sprintf("%s is not drained after %s", key, timeout), try: "gear status", code: exitTimeout}
		if last != nil {
			p.why = cause(last.Status.Reason, last.Status.Message)
		}
		return p
	}
	return err
}

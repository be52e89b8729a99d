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

func (a *app) waitCmd() *cobra.Command {
	var state string
	var timeout time.Duration
	states := []string{"ready", "deleted"}
	cmd := &cobra.Command{
		Use: "wait --for=ready|deleted KIND NAME", Short: "Wait until a resource is ready, or gone",
		Long: `Waits until a service has all its pods ready, a pod or host is ready, or an alias is active; or until any of them
does not exist any more. Exit status 4: not in time.`,
		Example: `  gear wait --for=ready service web -p shop
  gear wait --for=deleted project shop --timeout 2m`,
		Args: between(2, 2, "a kind and a name"), ValidArgsFunction: a.completeKindName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if state != "ready" && state != "deleted" {
				return usageError(cmd, "--for is ready or deleted%s", didYouMean(state, states))
			}
			k, err := parseKind(cmd, args[0])
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			key, err := a.key(cmd.Context(), c, k, args[1])
			if err != nil {
				return err
			}
			return a.wait(cmd.Context(), c, key, state, timeout)
		},
	}
	cmd.Flags().StringVar(&state, "for", "ready", "ready or deleted")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait at most")
	a.noError(cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions(states, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func (a *app) wait(ctx context.Context, c *client.Client, key api.Key, state string, timeout time.Duration) error {
	if state == "ready" {
		if _, err := c.Get(ctx, key); err != nil {
			return err
		}
	}
	w := waiter{key: key, deleted: state == "deleted"}
	o := client.WatchOptions{Kinds: []api.Kind{key.Kind}, Project: key.Project}
	err := a.watchUntil(ctx, c, o, timeout, func(e *client.Event) (bool, error) {
		if e != nil {
			w.see(*e)
		}
		return w.over()
	})
	switch {
	case errors.Is(err, errTime):
		return problem{what: fmt.Sprintf("%s is not %s after %s", key, state, timeout), why: w.now(),
			try: fmt.Sprintf("gear describe %s%s %s", kindWord(key.Kind), projectFlag(key.Project), key.Name), code: exitTimeout}
	case err == nil:
		fmt.Fprintf(a.out, "%s %s\n", key, state)
	}
	return err
}

func kindWord(k api.Kind) string {
	one, _ := kindWords(k)
	return one
}

// waiter knows one resource.
type waiter struct {
	key      api.Key
	deleted  bool // wait for its end
	resource api.Resource
	gone     bool
	synced   bool
}

func (w *waiter) see(e client.Event) {
	if e.Object == nil {
		w.synced = w.synced || e.Type == api.EventSync
		return
	}
	if e.Object.Head().Key() != w.key {
		return
	}
	w.resource, w.gone = e.Object, e.Type == api.EventDelete
}

// over tells whether the wait has ended.
func (w *waiter) over() (bool, error) {
	absent := w.gone || w.synced && w.resource == nil
	switch {
	case w.deleted:
		return absent, nil
	case absent && w.synced:
		return true, problem{what: fmt.Sprintf("%s was deleted", w.key), code: exitNotFound}
	}
	return w.resource != nil && !w.gone && healthOf(w.resource) <= well, nil
}

// now says how the resource is.
func (w *waiter) now() string {
	switch r := w.resource.(type) {
	case *api.Service:
		return fmt.Sprintf("%d/%d ready; %s", r.Status.Ready, replicas(r), cause(r.Status.Reason, r.Status.Message))
	case *api.Pod:
		_, word := podHealth(r)
		return word + "; " + cause(r.Status.Reason, r.Status.Message)
	case *api.Host:
		return hostState(r) + "; " + cause(r.Status.Reason, r.Status.Message)
	case *api.Alias:
		return cause(r.Status.Reason, r.Status.Message)
	}
	return ""
}

// healthOf tells how any resource is.
func healthOf(r api.Resource) health {
	switch r := r.(type) {
	case *api.Service:
		return serviceHealth(r)
	case *api.Pod:
		h, _ := podHealth(r)
		return h
	case *api.Host:
		return hostHealth(r)
	case *api.Alias:
		if !r.Status.Active {
			return ill
		}
	}
	return well
}

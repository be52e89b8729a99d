package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

// What a service was before, and the way back to it.

func (a *app) rolloutHistoryCmd() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "history SERVICE", Short: "Show what a service was before: its last 10 specs",
		Long: `Shows the specs that a service has had, the newest first, which is the one that is wanted now. A spec counts whenever anything of it
changes, its replicas too, but not when it is restarted. -o yaml shows them in full.`,
		Example: "  gear rollout history web -p shop\n  gear rollout history web -p shop -o yaml",
		Args:    between(1, 1, "the name of a service"), ValidArgsFunction: a.completeNames(api.KindService),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return show(a, cmd, format, func(c *client.Client) (api.ServiceHistory, error) {
				r, err := a.find(ctx, c, api.KindService, args[0])
				if err != nil {
					return api.ServiceHistory{}, err
				}
				return c.History(ctx, r.Head().Metadata.Project, r.Head().Metadata.Name)
			}, a.history)
		},
	}
	formatFlag(cmd, &format, "json", "yaml")
	return cmd
}

func (a *app) history(h api.ServiceHistory) {
	var rows [][]string
	for _, v := range h.Items {
		var images []string
		for _, c := range v.Spec.Containers {
			images = append(images, orDash(c.Image))
		}
		until := "wanted now"
		if !v.Until.IsZero() {
			until = ago(time.Now(), v.Until) + " ago"
		}
		copies := "one a host"
		if v.Spec.Replicas != nil {
			copies = strconv.Itoa(*v.Spec.Replicas)
		}
		rows = append(rows, []string{strconv.FormatInt(v.Generation, 10), until, orDash(printable(v.By)), copies, printable(strings.Join(images, ", "))})
	}
	writeTable(a.out, a.outPaint, []string{"revision", "until", "replaced by", "replicas", "images"}, rows)
}

func (a *app) rolloutUndoCmd() *cobra.Command {
	var timeout time.Duration
	var to int64
	var noWait, dry bool
	cmd := &cobra.Command{
		Use: "undo SERVICE", Short: "Make a service what it was before",
		Long: `Applies the spec that a service had before its last change, or that of a revision of gear rollout history, and follows its pods.
All of the spec becomes what it was, its replicas too. It is a change like any other: refused where the project's policy does not allow it any more, and undone by another undo.
Labels and the time of the last restart stay. --dry-run shows the fields that would change.
Ctrl-C only stops the following. Exit status 4: not ready in time.`,
		Example: "  gear rollout undo web -p shop\n  gear rollout undo web -p shop --to 3 --dry-run",
		Args:    between(1, 1, "the name of a service"), ValidArgsFunction: a.completeNames(api.KindService),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			if dry {
				return a.foreseeUndo(cmd.Context(), c, args[0], to)
			}
			s, err := a.undo(cmd.Context(), c, args[0], to)
			if err != nil || noWait {
				return err
			}
			return a.follow(cmd.Context(), c, []*api.Service{s}, timeout)
		},
	}
	cmd.Flags().Int64Var(&to, "to", 0, "revision of gear rollout history; the one before the newest when left out")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "show what would change; nothing is stored")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not follow the pods")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to follow")
	return cmd
}

// before gives a service with the spec of an earlier revision. It keeps the store's revision, so that no change in between is undone too.
func (a *app) before(ctx context.Context, c *client.Client, name string, to int64) (*api.Service, api.ServiceRevision, error) {
	var v api.ServiceRevision
	r, err := a.exact(ctx, c, api.KindService, name)
	if err != nil {
		return nil, v, err
	}
	s := r.(*api.Service)
	h, err := c.History(ctx, s.Metadata.Project, s.Metadata.Name)
	if err != nil {
		return nil, v, err
	}
	if v, err = chooseVersion(s.Key(), h, to); err != nil {
		return nil, v, err
	}
	s.Spec = v.Spec
	return s, v, nil
}

// chooseVersion finds a revision, or the one before the newest.
func chooseVersion(key api.Key, h api.ServiceHistory, to int64) (api.ServiceRevision, error) {
	var known []string
	for i, v := range h.Items {
		switch {
		case i == 0 && v.Generation == to:
			return v, problem{what: fmt.Sprintf("revision %d of %s is the one that is wanted now", to, key), try: "gear rollout history " + string(key.Name) + projectFlag(key.Project), code: exitError}
		case i > 0 && (to == 0 || v.Generation == to):
			return v, nil
		}
		known = append(known, strconv.FormatInt(v.Generation, 10))
	}
	if to == 0 {
		return api.ServiceRevision{}, problem{what: fmt.Sprintf("%s has never been anything else", key), code: exitNotFound}
	}
	return api.ServiceRevision{}, problem{what: fmt.Sprintf("%s has no revision %d", key, to), why: "kept are " + strings.Join(known, ", "), code: exitNotFound}
}

// undo gives a service an earlier spec again, unless others change it at the same time: then it looks anew at what is before.
func (a *app) undo(ctx context.Context, c *client.Client, name string, to int64) (now *api.Service, err error) {
	err = amongOthers("service "+name, func() error {
		s, v, err := a.before(ctx, c, name, to)
		if err != nil {
			return err
		}
		stored, _, err := c.Put(ctx, s)
		if err == nil {
			now = stored.(*api.Service)
			fmt.Fprintf(a.out, "%s is what it was in revision %d\n", now.Key(), v.Generation)
		}
		return err
	})
	return now, err
}

func (a *app) foreseeUndo(ctx context.Context, c *client.Client, name string, to int64) error {
	s, v, err := a.before(ctx, c, name, to)
	if err != nil {
		return err
	}
	p, err := c.Plan(ctx, []api.Resource{s})
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s would be what it was in revision %d\n", s.Key(), v.Generation)
	for _, r := range changedOnly(p.Resources) {
		a.resourceChange(r)
	}
	return nil
}

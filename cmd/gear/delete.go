package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

func (a *app) deleteCmd() *cobra.Command {
	var confirm string
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "delete KIND NAME", Short: "Delete a resource, after asking",
		Long: `Says what goes with the resource and asks for its name. Without a terminal it does nothing unless --confirm NAME is
given. A service's pods end first; a deleted pod is replaced by another.`,
		Example: `  gear delete service web -p shop
  gear delete project shop --confirm shop --wait`,
		Args: between(2, 2, "a kind and a name"), ValidArgsFunction: a.completeKindName,
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := parseKind(cmd, args[0])
			if err != nil {
				return err
			}
			if k.InProject() && a.project == "" && !strings.Contains(args[1], "/") {
				return usageError(cmd, "which project? give -p PROJECT, or PROJECT/NAME")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			r, err := a.exact(cmd.Context(), c, k, args[1])
			if err != nil {
				return err
			}
			if err := a.confirmed(cmd.Context(), c, r, confirm); err != nil {
				return err
			}
			return a.delete(cmd.Context(), c, r, wait, timeout)
		},
	}
	cmd.Flags().StringVar(&confirm, "confirm", "", "the resource's name again, instead of being asked")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is gone")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait at most")
	return cmd
}

// exact is find without guessing: what is destroyed must be named in full.
func (a *app) exact(ctx context.Context, c *client.Client, k api.Kind, word string) (api.Resource, error) {
	r, err := a.find(ctx, c, k, word)
	if err != nil {
		return nil, err
	}
	_, name, ok := strings.Cut(word, "/")
	if !ok {
		name = word
	}
	if string(r.Head().Metadata.Name) != name {
		return nil, problem{what: fmt.Sprintf("there is no %s %q; did you mean %q?", kindWord(k), name, r.Head().Metadata.Name), code: exitNotFound}
	}
	return r, nil
}

// confirmed makes sure that a person means it.
func (a *app) confirmed(ctx context.Context, c *client.Client, r api.Resource, confirm string) error {
	name := string(r.Head().Metadata.Name)
	again := fmt.Sprintf("gear delete %s%s %s --confirm %s", kindWord(r.Head().Kind), projectFlag(r.Head().Metadata.Project), name, name)
	switch {
	case confirm == name:
		return nil
	case confirm != "":
		return problem{what: fmt.Sprintf("--confirm says %q, but this is %q", confirm, name), code: exitUsage}
	}
	for _, line := range a.consequences(ctx, c, r) {
		fmt.Fprintln(a.err, line)
	}
	if !a.inTTY {
		return problem{what: fmt.Sprintf("%s is not deleted: nobody can be asked", r.Head().Key()), try: again, code: exitUsage}
	}
	fmt.Fprintf(a.err, "Type %s to delete %s: ", a.errPaint.bold(name), r.Head().Key())
	answer, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && answer == "" {
		fmt.Fprintln(a.err)
	}
	if strings.TrimSpace(answer) != name {
		return problem{what: fmt.Sprintf("%s is not deleted", r.Head().Key()), code: exitError}
	}
	return nil
}

// consequences says what goes and what stays. It only informs: what cannot be read is left out.
func (a *app) consequences(ctx context.Context, c *client.Client, r api.Resource) []string {
	m := r.Head().Metadata
	var pods int
	find := func(project api.Name, mine func(*api.Pod) bool) {
		list, err := client.List[api.Pod](ctx, c, project)
		for i := range list.Items {
			if err == nil && mine(&list.Items[i]) {
				pods++
			}
		}
	}
	switch r.Head().Kind {
	case api.KindProject:
		find(m.Name, func(*api.Pod) bool { return true })
		services, _, err := listKind(ctx, c, api.KindService, m.Name)
		if err != nil {
			return nil
		}
		return []string{fmt.Sprintf("Deleting %s ends all of it: %s, %s, their host names.", r.Head().Key(), count(len(services), "service"), count(pods, "pod"))}
	case api.KindService:
		find(m.Project, func(p *api.Pod) bool { return p.Spec.Service == m.Name })
		return []string{fmt.Sprintf("Deleting %s ends its %s; links to it are refused then.", r.Head().Key(), count(pods, "pod"))}
	case api.KindHost:
		find("", func(p *api.Pod) bool { return p.Spec.Host == m.Name })
		return []string{fmt.Sprintf("Deleting %s takes it out of the cluster; its %s move to other hosts that fit.", r.Head().Key(), count(pods, "pod"))}
	case api.KindPod:
		return []string{fmt.Sprintf("Deleting %s ends it; its service starts another.", r.Head().Key())}
	}
	return nil
}

func (a *app) delete(ctx context.Context, c *client.Client, r api.Resource, wait bool, timeout time.Duration) error {
	key := r.Head().Key()
	_, err := c.Delete(ctx, key, 0)
	if err != nil {
		return err
	}
	if wait {
		return a.wait(ctx, c, key, "deleted", timeout)
	}
	_, err = c.Get(ctx, key)
	var e *api.Error
	switch {
	case errors.As(err, &e) && e.Code == api.CodeNotFound:
		fmt.Fprintf(a.out, "%s deleted\n", key)
		return nil
	case err != nil:
		return err
	}
	fmt.Fprintf(a.out, "%s is being deleted\n", key)
	return nil
}

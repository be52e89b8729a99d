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

// deletion is how something is to be deleted.
type deletion struct {
	confirm string
	wait    bool
	timeout time.Duration
	now     bool // of a host
}

func (d *deletion) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.confirm, "confirm", "", "the resource's name again, instead of being asked")
	cmd.Flags().BoolVar(&d.wait, "wait", false, "wait until it is gone")
	cmd.Flags().DurationVar(&d.timeout, "timeout", 5*time.Minute, "how long to wait at most")
}

func (a *app) deleteCmd() *cobra.Command {
	var d deletion
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
			return a.deleteNamed(cmd.Context(), k, args[1], d)
		},
	}
	d.flags(cmd)
	return cmd
}

// deleteNamed deletes what is named in full, when a person means it.
func (a *app) deleteNamed(ctx context.Context, k api.Kind, name string, d deletion) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	r, err := a.exact(ctx, c, k, name)
	if err != nil {
		return err
	}
	if err := a.confirmed(ctx, c, r, d); err != nil {
		return err
	}
	return a.delete(ctx, c, r, d)
}

// removeHostCmd is gear delete host, where people look for it.
func (a *app) removeHostCmd() *cobra.Command {
	var d deletion
	cmd := &cobra.Command{
		Use: "remove HOST", Short: "Take a host out of the cluster, after asking",
		Long: `Moves the host's pods to others that fit, then forgets it: its certificate is refused by every master and every host from then on,
for as long as it would have been good. A host that joins again, also under the same name, gets one that works. The same as gear delete host HOST.
The host still knows the key of the gossip, which authorises nothing.

--now is for a host that was broken into: its certificate is refused at once, nothing that it says counts any more, and its pods are made anew elsewhere
without waiting for it. What runs by a lease (singletons) is started when the lease and the time to end have run out. Volumes on the host are given up, and what runs there runs on, cut off: turn it off.`,
		Example: "  gear host remove h4\n  gear host remove h4 --confirm h4 --wait\n  gear host remove h4 --now",
		Args:    between(1, 1, "the name of a host"), ValidArgsFunction: a.completeNames(api.KindHost),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.deleteNamed(cmd.Context(), api.KindHost, args[0], d)
		},
	}
	d.flags(cmd)
	cmd.Flags().BoolVar(&d.now, "now", false, "do not wait for its pods to move: the host is not trusted any more")
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
func (a *app) confirmed(ctx context.Context, c *client.Client, r api.Resource, d deletion) error {
	name := string(r.Head().Metadata.Name)
	again := fmt.Sprintf("gear delete %s%s %s --confirm %s", kindWord(r.Head().Kind), projectFlag(r.Head().Metadata.Project), name, name)
	if d.now {
		again = fmt.Sprintf("gear host remove %s --now --confirm %s", name, name)
	}
	switch {
	case d.confirm == name:
		return nil
	case d.confirm != "":
		return problem{what: fmt.Sprintf("--confirm says %q, but this is %q", d.confirm, name), code: exitUsage}
	}
	for _, line := range a.consequences(ctx, c, r, d.now) {
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
func (a *app) consequences(ctx context.Context, c *client.Client, r api.Resource, now bool) []string {
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
		if now {
			return []string{fmt.Sprintf("Removing %s at once gives up what is on it: its certificate is refused, its %s are made anew elsewhere, without the data of volumes there.", r.Head().Key(), count(pods, "pod"))}
		}
		return []string{fmt.Sprintf("Deleting %s takes it out of the cluster; its %s move to other hosts that fit, and its certificate is refused then.", r.Head().Key(), count(pods, "pod"))}
	case api.KindPod:
		return []string{fmt.Sprintf("Deleting %s ends it; its service starts another.", r.Head().Key())}
	}
	return nil
}

func (a *app) delete(ctx context.Context, c *client.Client, r api.Resource, d deletion) error {
	key := r.Head().Key()
	if err := remove(ctx, c, key, d.now); err != nil {
		return err
	}
	if d.now {
		fmt.Fprintf(a.err, "%s is cut off; turn it off, and change the key of the gossip, which it knows: gear mesh rotate\n", key)
	}
	if d.wait {
		return a.wait(ctx, c, key, "deleted", d.timeout)
	}
	_, err := c.Get(ctx, key)
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

func remove(ctx context.Context, c *client.Client, key api.Key, now bool) error {
	if now {
		return c.Expel(ctx, key.Name)
	}
	_, err := c.Delete(ctx, key, 0)
	return err
}

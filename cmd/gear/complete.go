package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/contrib/lab"
)

// completeTime is how long a shell waits for live names.
const completeTime = 2 * time.Second

type completion = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// live gives the names of a kind that begin so; none when the cluster does not answer.
func (a *app) live(ctx context.Context, k api.Kind, begin string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	c, err := a.client()
	if err != nil {
		return nil, none
	}
	list, _, err := listKind(ctx, c, k, api.Name(a.project))
	if err != nil {
		return nil, none
	}
	var out []string
	for _, r := range list {
		name := string(r.Head().Metadata.Name)
		if k.InProject() && a.project == "" {
			name = nameOf(r)
		}
		if strings.HasPrefix(name, begin) {
			out = append(out, name)
		}
	}
	return out, none
}

func (a *app) completeNames(k api.Kind) completion {
	return func(cmd *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.live(cmd.Context(), k, begin)
	}
}

// completeKindName completes a kind, then a name of it.
func (a *app) completeKindName(cmd *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return allKindWords(), cobra.ShellCompDirectiveNoFileComp
	case 1:
		if k, err := parseKind(cmd, args[0]); err == nil {
			return a.live(cmd.Context(), k, begin)
		}
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeProjects(cmd *cobra.Command, _ []string, begin string) ([]string, cobra.ShellCompDirective) {
	return a.live(cmd.Context(), api.KindProject, begin)
}

// completeLogTarget completes services and pods.
func (a *app) completeLogTarget(cmd *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	services, _ := a.live(cmd.Context(), api.KindService, begin)
	pods, directive := a.live(cmd.Context(), api.KindPod, begin)
	return append(services, pods...), directive
}

func (a *app) completeLabHosts(f *labFlags) completion {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		l, err := a.open(f, lab.Config{})
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		hosts, err := l.List(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []string
		for _, h := range hosts {
			out = append(out, h.Name)
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

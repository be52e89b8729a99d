package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

// prunedProject gives the project whose resources may be pruned: that of the files, which must be one alone.
func (a *app) prunedProject(cmd *cobra.Command, list []manifest) (api.Name, error) {
	var project api.Name
	for _, m := range list {
		h := m.resource.Head()
		p := h.Metadata.Project
		if h.Kind == api.KindProject {
			p = h.Metadata.Name
		}
		switch {
		case p == "" || p == project:
		case project != "":
			return "", usageError(cmd, "the files are of the projects %s and %s; prune one project at a time", project, p)
		default:
			project = p
		}
	}
	if project == "" || a.project != "" && a.project != string(project) {
		return "", usageError(cmd, "the files name nothing of project %s, so that all of it would go; gear delete does that", orDash(a.project))
	}
	return project, nil
}

// unnamed lists the aliases that people made and the services of a project that the files do not name, in the order in which
// they go. Secrets stay: nobody could read their values back.
func unnamed(ctx context.Context, c *client.Client, project api.Name, list []manifest) ([]api.Resource, error) {
	named := map[api.Key]bool{}
	for _, m := range list {
		named[m.resource.Head().Key()] = true
	}
	var out []api.Resource
	for _, k := range []api.Kind{api.KindAlias, api.KindService} {
		there, _, err := listKind(ctx, c, k, project)
		if err != nil {
			return nil, err
		}
		for _, r := range there {
			meta := r.Head().Metadata
			if !named[r.Head().Key()] && !meta.Deleting && meta.Labels[api.ServiceLabel] == "" {
				out = append(out, r)
			}
		}
	}
	return out, nil
}

// mayPrune lists what goes and makes sure that a person means it.
func (a *app) mayPrune(project api.Name, going []api.Resource, files []string, confirm string) error {
	name := string(project)
	if confirm != "" && confirm != name {
		return problem{what: fmt.Sprintf("--confirm says %q, but the project is %q", confirm, name), code: exitUsage}
	}
	if len(going) == 0 {
		return nil
	}
	fmt.Fprintf(a.err, "The files do not name these of project %s, which are deleted; its secrets stay:\n", name)
	for _, r := range going {
		fmt.Fprintf(a.err, "  %s %s\n", a.errPaint.red("-"), r.Head().Key())
	}
	if confirm == name {
		return nil
	}
	if !a.inTTY {
		return problem{what: "nothing is applied or deleted: nobody can be asked", try: fmt.Sprintf("gear apply%s%s --prune --confirm %s", fileFlags(files), projectFlag(api.Name(a.project)), name), code: exitUsage}
	}
	fmt.Fprintf(a.err, "Type %s to apply the files and delete the above: ", a.errPaint.bold(name))
	answer, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil && answer == "" {
		fmt.Fprintln(a.err)
	}
	if strings.TrimSpace(answer) != name {
		return problem{what: "nothing is applied or deleted", code: exitError}
	}
	return nil
}

// prune deletes what was listed, unless others have changed it since: each with its revision compared.
func (a *app) prune(ctx context.Context, c *client.Client, going []api.Resource, dryRun bool) error {
	for _, r := range going {
		key := r.Head().Key()
		if dryRun {
			fmt.Fprintf(a.out, "%s deleted (dry run)\n", key)
			continue
		}
		_, err := c.Delete(ctx, key, r.Head().Metadata.Revision)
		e := (*api.Error)(nil)
		switch {
		case errors.As(err, &e) && e.Code == api.CodeNotFound:
			continue
		case errors.As(err, &e) && e.Code == api.CodeConflict:
			return problem{what: fmt.Sprintf("the files are applied, but %s has changed meanwhile and stays", key), why: e.Detail, try: "the same again", code: exitError}
		case err != nil:
			return err
		}
		fmt.Fprintf(a.out, "%s deleted\n", key)
	}
	return nil
}

// toPrune finds what an apply of files would prune, and asks for it unless it is a dry run.
func (a *app) toPrune(cmd *cobra.Command, c *client.Client, list []manifest, files []string, confirm string, dryRun bool) ([]api.Resource, error) {
	project, err := a.prunedProject(cmd, list)
	if err != nil {
		return nil, err
	}
	going, err := unnamed(cmd.Context(), c, project, list)
	if err != nil || dryRun {
		return going, err
	}
	return going, a.mayPrune(project, going, files, confirm)
}

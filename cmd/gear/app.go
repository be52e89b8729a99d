package main

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

// app is one run of gear.
type app struct {
	streams
	outPaint, errPaint paint
	context            string // -c
	project            string // -p
}

func newApp(s streams) *app {
	colour := func(tty bool) paint { return paint{tty && s.getenv("NO_COLOR") == "" && s.getenv("TERM") != "dumb"} }
	return &app{streams: s, outPaint: colour(s.outTTY), errPaint: colour(s.errTTY)}
}

const groups = "what,reach,change,hosts,other"

// root makes the tree of commands.
func (a *app) root() *cobra.Command {
	cobra.EnablePrefixMatching = true
	root := &cobra.Command{
		Use:   "gear",
		Short: "gear turns plain Linux hosts into one application platform",
		Long: `gear turns plain Linux hosts into one application platform: it shows and changes what a cluster runs.

Commands and kinds may be shortened as long as they are unique: gear g pods.
Exit status: 0 done, 1 error, 2 command line or manifest wrong (gear plan, gear diff: there is something to do), 3 not there, 4 not in time, 130 interrupted.`,
		Example: `  gear lab up -n 3                     # three hosts on this machine, to try it
  gear up --router                     # make this host a cluster
  gear apply -f shop.yaml              # run what the file says
  gear status -p shop                  # what runs where, problems first`,
		SilenceErrors: true, SilenceUsage: true,
		Args: a.unknownCommand, RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(flagError)
	f := root.PersistentFlags()
	f.StringVarP(&a.project, "project", "p", a.getenv("GEAR_PROJECT"), "project (default $GEAR_PROJECT)")
	f.StringVar(&a.context, "context", a.getenv("GEAR_CONTEXT"), "cluster, as the client's configuration names it (default $GEAR_CONTEXT, else its current one)")
	a.noError(root.RegisterFlagCompletionFunc("project", a.completeProjects))
	a.noError(root.RegisterFlagCompletionFunc("context", func(c *cobra.Command, _ []string, begin string) ([]string, cobra.ShellCompDirective) {
		return completeContexts(c, nil, begin)
	}))
	titles := map[string]string{"what": "Look:", "reach": "Reach in:", "change": "Change:", "hosts": "Hosts:", "other": "Other:"}
	for _, id := range strings.Split(groups, ",") {
		root.AddGroup(&cobra.Group{ID: id, Title: titles[id]})
	}
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("what", a.statusCmd(), a.getCmd(), a.describeCmd(), a.explainCmd(), a.logsCmd(), a.eventsCmd(), a.whyCmd(), a.hostsCmd())
	add("reach", a.execCmd(), a.shellCmd(), a.portForwardCmd(), a.cpCmd())
	add("change", a.applyCmd(), a.diffCmd(), a.rolloutCmd(), a.deleteCmd(), a.waitCmd(), a.projectCmd())
	add("hosts", a.upCmd(), a.joinCmd(), a.tokenCmd(), a.meshCmd(), a.labCmd())
	add("other", a.contextCmd(), a.versionCmd())
	add("hosts", a.hostCmd(), a.planCmd(), a.masterCmd(), a.backupCmd(), a.restoreCmd())
	root.SetHelpCommandGroupID("other")
	root.SetCompletionCommandGroupID("other")
	return root
}

// noError is for calls that fail only when this program is wrong.
func (a *app) noError(err error) {
	if err != nil {
		panic(err)
	}
}

// unknownCommand refuses words after gear itself, since they name no command.
func (a *app) unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return usageError(c, "there is no command %q%s", args[0], didYouMean(args[0], names))
}

// client makes the client of the chosen cluster.
func (a *app) client() (*client.Client, error) {
	_, file, err := readContexts()
	if err != nil {
		return nil, err
	}
	c, err := file.Context(a.context)
	if err != nil {
		return nil, problem{what: "there is no cluster to talk to", why: err.Error(), try: "gear up", code: exitError}
	}
	return client.New(client.Config{ServerName: client.MasterName, Server: c.Server, Others: c.Servers, CA: []byte(c.CA), Token: c.Token})
}

// inProject gives the project to work in: the one asked for, else the only one there is.
func (a *app) inProject(ctx context.Context, c *client.Client) (api.Name, error) {
	if a.project != "" {
		return checkedName("project", a.project)
	}
	list, err := client.List[api.Project](ctx, c, "")
	if err != nil {
		return "", err
	}
	var names []string
	for _, p := range list.Items {
		names = append(names, string(p.Metadata.Name))
	}
	switch len(names) {
	case 0:
		return "", problem{what: "there is no project yet", try: "gear project create NAME", code: exitNotFound}
	case 1:
		return api.Name(names[0]), nil
	}
	slices.Sort(names)
	return "", problem{what: "which project?", why: "there are " + strings.Join(names, ", "), try: "the same with -p " + names[0], code: exitUsage}
}

// checkedName reads a name from the command line.
func checkedName(what, s string) (api.Name, error) {
	n := api.Name(s)
	if err := n.Validate(); err != nil {
		return "", problem{what: "that is no name of a " + what, why: err.Error(), code: exitUsage}
	}
	return n, nil
}

// projectFlag gives " -p PROJECT" for commands that are shown to people.
func projectFlag(project api.Name) string {
	if project == "" {
		return ""
	}
	return " -p " + string(project)
}

// byProject orders resources by project and name.
func byProject(a, b api.Resource) int {
	x, y := a.Head().Metadata, b.Head().Metadata
	return cmp.Or(cmp.Compare(x.Project, y.Project), cmp.Compare(x.Name, y.Name))
}

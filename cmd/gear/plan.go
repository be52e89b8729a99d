package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
)

// exitChanges is the exit status of a plan that has something to do.
const exitChanges = 2

func (a *app) planCmd() *cobra.Command {
	var format, host string
	var files []string
	var local, exitCode, rebalance bool
	cmd := &cobra.Command{
		Use: "plan -f FILE | --host HOST | --rebalance", Short: "Show what an apply would change, what a host's agent would do, or what would be moved",
		Long: `With -f: asks the master what gear apply of these files would change: fields, pods that would be made, replaced (a restart)
or left alone, on which hosts and why, unit files, links and host ports. The controllers and the scheduler work it out on the cluster as it is;
nothing is stored. Exit status 0; with --exit-code 2 when something would change.

With --host: asks a host's agent what it would do now: the tasks of its pods with their reasons, and every unit file, rule or namespace that
is not as it should be. Nothing is changed. Exit status 0: nothing to do; 2: there is.

With --rebalance: which pods of services with placement.rebalance would move to better hosts next, once each has rested for a minute, and why;
or why none is moved now. Nothing is changed.`,
		Example: `  gear plan -f shop.yaml
  gear plan --host h1
  gear plan --local                    # on the host itself, as root; needs no master`,
		Args: between(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(cmd, format, "json", "yaml"); err != nil {
				return err
			}
			if rebalance {
				return a.planRebalance(cmd, len(files) > 0 || local || host != "", format)
			}
			if one := len(files) > 0; one && (local || host != "") || !one && local == (host != "") {
				return usageError(cmd, "say what: -f FILE, or which host: --host HOST or --local")
			}
			if len(files) > 0 {
				return a.planApply(cmd, files, format, exitCode)
			}
			p, err := a.hostPlan(cmd.Context(), local, host)
			if err != nil {
				return err
			}
			return a.planned(p, format)
		},
	}
	formatFlag(cmd, &format, "json", "yaml")
	cmd.Flags().StringArrayVarP(&files, "file", "f", nil, "file, directory, or - for standard input, as gear apply takes them; may be given again")
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "with -f: exit status 2 when something would change")
	cmd.Flags().BoolVar(&rebalance, "rebalance", false, "show which pods would move to better hosts")
	cmd.Flags().StringVar(&host, "host", "", "the host to ask")
	a.noError(cmd.RegisterFlagCompletionFunc("host", a.completeNames(api.KindHost)))
	cmd.Flags().BoolVar(&local, "local", false, "ask this host's own agent, over "+agentSocket)
	return cmd
}

// planRebalance prints the next moves.
func (a *app) planRebalance(cmd *cobra.Command, more bool, format string) error {
	if more {
		return usageError(cmd, "--rebalance is about the whole cluster; leave -f, --host and --local out")
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	p, err := c.NextMoves(cmd.Context())
	if err != nil {
		return err
	}
	if format != "" {
		return a.printValue(p, format)
	}
	switch {
	case p.Held != "":
		fmt.Fprintf(a.out, "nothing is moved: %s\n", printable(p.Held))
	case len(p.Pods) == 0:
		fmt.Fprintln(a.out, "nothing would be better off elsewhere")
	}
	for _, c := range p.Pods {
		fmt.Fprintf(a.out, "%s\n    %s\n", a.podChange(c), printable(c.Message))
	}
	return nil
}

func (a *app) hostPlan(ctx context.Context, local bool, host string) (p api.HostPlan, err error) {
	if local {
		err = askLocal(ctx, "GET", "/v1/plan", &p)
		return p, err
	}
	name, err := checkedName("host", host)
	if err != nil {
		return p, err
	}
	c, err := a.client()
	if err != nil {
		return p, err
	}
	return c.HostPlan(ctx, name)
}

// planned prints a plan; its exit status tells whether there is anything in it.
func (a *app) planned(p api.HostPlan, format string) error {
	if format != "" {
		if err := a.printValue(p, format); err != nil {
			return err
		}
	} else {
		a.printPlan(p)
	}
	if p.Empty() {
		return nil
	}
	return exited(exitChanges)
}

func (a *app) printPlan(p api.HostPlan) {
	if p.Empty() {
		fmt.Fprintf(a.out, "host %s is as it should be\n", p.Host)
		return
	}
	fmt.Fprintln(a.out, a.outPaint.bold("host "+string(p.Host)))
	for _, t := range p.Tasks {
		name := string(t.UID)
		if t.Pod != "" {
			name = string(t.Project) + "/" + string(t.Pod)
		}
		fmt.Fprintf(a.out, "  → %s %s: %s\n", printable(t.Op), name, printable(string(t.Reason)))
	}
	for _, d := range p.Drift {
		a.drift(a.outPaint.yellow("≠"), d)
	}
	if len(p.Drift) > 0 {
		fmt.Fprintf(a.out, "  %s gear host repair %s\n", a.outPaint.bold("try:"), p.Host)
	}
}

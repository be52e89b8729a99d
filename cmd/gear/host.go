package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
)

func (a *app) hostCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "host", Short: "Work on one host: approve, cordon, drain, uncordon, label, repair, remove, eject, forget-pod",
		Example: `  gear host drain h1                   # before maintenance; gear host uncordon h1 after it
  gear host label h1 zone=a
  gear host repair h1
  gear host repair --local             # on the host itself; needs no master
  gear host eject --confirm h1         # on the host itself: take Gearmesh away, leave what runs`,
		Args: a.unknownCommand, RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.AddCommand(a.cordonCmd(), a.drainCmd(), a.uncordonCmd(), a.labelCmd(), a.repairCmd(), a.ejectCmd(), a.forgetPodCmd(),
		a.removeHostCmd(), a.pendingCmd(), a.verdictCmd(api.PendingApproved), a.verdictCmd(api.PendingRejected))
	return cmd
}

func (a *app) repairCmd() *cobra.Command {
	var format string
	var local bool
	cmd := &cobra.Command{
		Use: "repair [HOST]", Short: "Assert everything of a host anew: units, links, namespaces, rules",
		Long: `Compares every unit file, rule and namespace of a host's pods with what they should be, mends what differs, and tells both.
Nothing that runs is stopped or restarted. Without a host it does so on all of them.
Exit status 1 when something could not be mended.`,
		Example: `  gear host repair h1
  gear host repair
  gear host repair --local             # on the host itself, as root; needs no master`,
		Args: between(0, 1, "the name of a host"), ValidArgsFunction: a.completeNames(api.KindHost),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(cmd, format, "json", "yaml"); err != nil {
				return err
			}
			if local && len(args) > 0 {
				return usageError(cmd, "--local means this host; leave %q out", args[0])
			}
			list, err := a.repair(cmd.Context(), local, args)
			if err != nil {
				return err
			}
			return a.repaired(list, format)
		},
	}
	formatFlag(cmd, &format, "json", "yaml")
	cmd.Flags().BoolVar(&local, "local", false, "ask this host's own agent, over "+agentSocket)
	return cmd
}

// repair asks the agents.
func (a *app) repair(ctx context.Context, local bool, args []string) ([]api.Repair, error) {
	if local {
		var r api.Repair
		err := askLocal(ctx, "POST", "/v1/repair", &r)
		return []api.Repair{r}, err
	}
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	if len(args) == 0 {
		hosts, _, err := listKind(ctx, c, api.KindHost, "")
		if err != nil {
			return nil, err
		}
		for _, h := range hosts {
			args = append(args, string(h.Head().Metadata.Name))
		}
	}
	var out []api.Repair
	for _, arg := range args {
		name, err := checkedName("host", arg)
		if err != nil {
			return nil, err
		}
		r, err := c.RepairHost(ctx, name)
		if err != nil {
			if len(args) == 1 {
				return nil, err
			}
			r = api.Repair{Host: name, Error: err.Error()} // the others are repaired all the same
		}
		out = append(out, r)
	}
	return out, nil
}

// repaired prints what repairs came to.
func (a *app) repaired(list []api.Repair, format string) error {
	left := false
	for _, r := range list {
		left = left || len(r.Left) > 0 || r.Error != ""
	}
	if format != "" {
		if err := a.printValue(list, format); err != nil {
			return err
		}
	} else {
		for _, r := range list {
			a.repairedHost(r)
		}
	}
	if left {
		return exited(exitError)
	}
	return nil
}

func (a *app) repairedHost(r api.Repair) {
	fmt.Fprintf(a.out, "%s: %s looked at, %d mended, %d left\n", a.outPaint.bold("host "+string(r.Host)), count(r.Pods, "pod"), len(r.Mended), len(r.Left))
	for _, d := range r.Mended {
		a.drift(a.outPaint.green("✔"), d)
	}
	for _, d := range r.Left {
		a.drift(a.outPaint.red("✗"), d)
	}
	if r.Error != "" {
		fmt.Fprintf(a.out, "  %s %s\n", a.outPaint.red("✗"), printable(r.Error))
	}
}

// drift prints one thing that is, or was, not as it should be.
func (a *app) drift(mark string, d api.Drift) {
	whose := "the host"
	if d.Pod != "" {
		whose = string(d.Project) + "/" + string(d.Pod)
	}
	fmt.Fprintf(a.out, "  %s %s, %s: %s\n", mark, whose, printable(d.What), cause(d.Reason, d.Message))
	for line := range strings.Lines(d.Diff) {
		line = printable(strings.TrimRight(line, "\n"))
		switch {
		case strings.HasPrefix(line, "+"):
			line = a.outPaint.green(line)
		case strings.HasPrefix(line, "-"):
			line = a.outPaint.red(line)
		}
		fmt.Fprintf(a.out, "      %s\n", line)
	}
}

func (a *app) forgetPodCmd() *cobra.Command {
	var confirm, local bool
	cmd := &cobra.Command{
		Use: "forget-pod HOST UID", Short: "Remove a pod that runs on a host and that the master does not know",
		Long: `Stops and removes what a host still has of a pod that the master does not know: units, containers, network. Volumes stay.
gear status names such pods with their uids. Nothing removes them by itself: the master may have lost its memory.`,
		Example: `  gear host forget-pod h1 k3v7qxw2m5n4a6bz --confirm`,
		Args:    between(2, 2, "the name of a host and the uid of a pod"), ValidArgsFunction: a.completeNames(api.KindHost),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := checkedName("host", args[0])
			if err != nil {
				return err
			}
			uid := api.UID(args[1])
			if err := uid.Validate(); err != nil {
				return usageError(cmd, "%v; gear status shows it", err)
			}
			if !confirm {
				return problem{what: "the pod's containers would be stopped and removed", try: fmt.Sprintf("gear host forget-pod %s %s --confirm", host, uid), code: exitUsage}
			}
			if local {
				err = askLocal(cmd.Context(), "DELETE", "/v1/pods/"+string(uid), nil)
			} else {
				err = a.forgetPod(cmd.Context(), host, uid)
			}
			if err == nil {
				fmt.Fprintf(a.out, "pod %s is removed from host %s\n", uid, host)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&confirm, "confirm", false, "do it")
	cmd.Flags().BoolVar(&local, "local", false, "ask this host's own agent, over "+agentSocket)
	return cmd
}

func (a *app) forgetPod(ctx context.Context, host api.Name, uid api.UID) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	return c.ForgetPod(ctx, host, uid)
}

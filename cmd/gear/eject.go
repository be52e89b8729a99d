package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"gearmesh.dev/contrib/install"
)

func (a *app) ejectCmd() *cobra.Command {
	var confirm string
	var master bool
	cmd := &cobra.Command{
		Use: "eject", Short: "Take Gearmesh off this host, and leave what runs",
		Long: `Run on the host itself, as root. Stops and removes Gearmesh's daemons and their units. Pods run on as what they are, units of
systemd, with their links, host ports and volumes, also over a reboot. Nothing follows changes any more: links lead where they lead now, and
names other than those of links are not answered in the pods. gear up or gear join take the pods over again, without a restart.
To the master the host looks as one whose agent is down: delete it there (gear delete host NAME) when it is not to come back.
Says what goes and what stays, and does nothing unless --confirm NAME is the host's name in the cluster.`,
		Example: `  gear host eject                      # says what goes and what stays
  gear host eject --confirm h3`,
		Args: between(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := install.EjectOptions{Options: install.Options{Progress: a.installed}, WithMaster: master}
			e, err := install.PlanEject(o)
			if err != nil {
				return err
			}
			if confirm != string(e.Host) {
				a.ejection(e)
				p := problem{what: "nothing was done", try: "gear host eject --confirm " + string(e.Host), code: exitUsage}
				if confirm != "" {
					p.why = fmt.Sprintf("this host is %q, not %q", e.Host, confirm)
				}
				return p
			}
			if _, err := install.Eject(cmd.Context(), o); err != nil {
				return err
			}
			a.ejection(e)
			return nil
		},
	}
	cmd.Flags().StringVar(&confirm, "confirm", "", "the host's name in the cluster")
	cmd.Flags().BoolVar(&master, "master", false, "remove the master that runs here too; its store stays on disk")
	return cmd
}

// ejection prints what goes and what stays.
func (a *app) ejection(e install.Ejection) {
	goes := strings.Join(e.Goes, ", ")
	if goes == "" {
		goes = "nothing is left to go"
	}
	fmt.Fprintf(a.out, "%s  %s\n", a.outPaint.bold("goes:"), goes)
	for i, s := range e.Stays {
		title := "      "
		if i == 0 {
			title = a.outPaint.bold("stays:")
		}
		fmt.Fprintf(a.out, "%s %s\n", title, s)
	}
}

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
)

func (a *app) projectCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "project", Short: "Make projects", Args: a.unknownCommand, RunE: help}
	var description string
	create := &cobra.Command{
		Use: "create NAME", Short: "Make a project",
		Example: `  gear project create shop --description 'the web shop'`,
		Args:    between(1, 1, "a name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := checkedName("project", args[0])
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			p := &api.Project{Header: api.Header{Kind: api.KindProject, Metadata: api.Metadata{Name: name}}, Spec: api.ProjectSpec{Description: description}}
			r, err := c.Create(cmd.Context(), p)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s created\n", r.Head().Key())
			fmt.Fprintf(a.err, "next: gear apply -f FILE -p %s\n", name)
			return nil
		},
	}
	create.Flags().StringVar(&description, "description", "", "for people")
	cmd.AddCommand(create)
	return cmd
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

// What happened, as the master tells it: a command of its own, and the last part of describe and why.

func (a *app) eventsCmd() *cobra.Command {
	var o client.EventOptions
	var format string
	cmd := &cobra.Command{
		Use: "events [KIND [NAME]]", Short: "Show what happened: what the controllers did, and what hosts found out",
		Long: `Shows what happened in the last hour, the oldest first: pods that were made, moved and ended, and why; containers that failed; hosts that
fell silent. What happens to one resource for one reason again and again is one event with a count. Without -p, of all projects
and of the hosts. Those of a service are also those of its pods.`,
		Example: `  gear events -p shop
  gear events service web -p shop --since 10m
  gear events host h1
  gear events -w`,
		Args: between(0, 2, "perhaps a kind and a name"), ValidArgsFunction: a.completeKindName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(cmd, format, "json"); err != nil {
				return err
			}
			if o.Since < 0 {
				return usageError(cmd, "--since cannot be negative")
			}
			o.Project = api.Name(a.project)
			if err := eventTarget(cmd, &o, args); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			return a.events(cmd.Context(), c, o, format == "json")
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.Follow, "watch", "w", false, "go on, and show what happens")
	f.DurationVar(&o.Since, "since", 0, "only what happened not longer ago, such as 10m")
	formatFlag(cmd, &format, "json")
	return cmd
}

// eventTarget reads what the events are to be of.
func eventTarget(cmd *cobra.Command, o *client.EventOptions, args []string) error {
	if len(args) == 0 {
		return nil
	}
	kind, err := parseKind(cmd, args[0])
	if err != nil {
		return err
	}
	if !kind.InProject() {
		o.Project = ""
	}
	if len(args) == 1 {
		o.Kind = kind
		return nil
	}
	words, _ := kindWords(kind)
	name, err := checkedName(words, args[1])
	if err != nil {
		return err
	}
	if kind == api.KindService { // its pods' are its own too
		o.Service = name
	} else {
		o.Kind, o.Name = kind, name
	}
	return nil
}

// events prints events: each as a line at once when they are followed, and as JSON, else as a table.
func (a *app) events(ctx context.Context, c *client.Client, o client.EventOptions, asJSON bool) error {
	var rows [][]string
	for e, err := range c.Events(ctx, o) {
		switch {
		case err != nil && ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled):
			return exited(exitInterrupted)
		case err != nil:
			return err
		case asJSON:
			if err := json.NewEncoder(a.out).Encode(e); err != nil {
				return err
			}
		case o.Follow:
			row := a.eventRow(&e, e.Last.Local().Format(time.TimeOnly))
			fmt.Fprintln(a.out, row[0], row[1], row[2], row[3], row[4], row[5])
		default:
			rows = append(rows, a.eventRow(&e, ago(time.Now(), e.Last)))
		}
	}
	if len(rows) == 0 && !asJSON && !o.Follow {
		fmt.Fprintf(a.err, "nothing happened%s in the last hour\n", inWords(o.Project))
		return nil
	}
	if len(rows) > 0 {
		writeTable(a.out, a.outPaint, eventHeader(), rows)
	}
	return nil
}

func eventHeader() []string { return []string{"last", "what", "reason", "count", "host", "message"} }

func (a *app) eventRow(e *api.Event, when string) []string {
	reason := string(e.Reason)
	if e.Level == api.EventWarning {
		reason = a.outPaint.yellow("! " + reason)
	}
	return []string{when, e.Key().String(), reason, fmt.Sprintf("%d×", e.Count), string(e.Host), printable(strings.Join(strings.Fields(e.Message), " "))}
}

// recentEvents is how many events a description shows.
const recentEvents = 8

// recent prints the last events of a resource. That they cannot be read hides nothing else.
func (a *app) recent(ctx context.Context, c *client.Client, r api.Resource) {
	h := r.Head()
	o := client.EventOptions{Project: h.Metadata.Project, Kind: h.Kind, Name: h.Metadata.Name}
	if h.Kind == api.KindService {
		o = client.EventOptions{Project: h.Metadata.Project, Service: h.Metadata.Name}
	}
	var rows [][]string
	for e, err := range c.Events(ctx, o) {
		if err != nil {
			fmt.Fprintf(a.out, "\n%s its events are not known: %v\n", a.outPaint.yellow("!"), err)
			return
		}
		rows = append(rows, a.eventRow(&e, ago(time.Now(), e.Last)))
	}
	if len(rows) > 0 {
		fmt.Fprintf(a.out, "\n%s\n", a.outPaint.bold("events"))
		writeTable(a.out, a.outPaint, eventHeader(), rows[max(0, len(rows)-recentEvents):])
	}
}

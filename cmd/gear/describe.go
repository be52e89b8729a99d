package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

func (a *app) describeCmd() *cobra.Command {
	return &cobra.Command{
		Use: "describe KIND NAME", Short: "Show everything about one resource: state, spec, and what belongs to it",
		Example: `  gear describe service web -p shop
  gear describe host h1`,
		Args: between(2, 2, "a kind and a name"), ValidArgsFunction: a.completeKindName,
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := parseKind(cmd, args[0])
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			r, err := a.find(cmd.Context(), c, k, args[1])
			if err != nil {
				return err
			}
			return a.describe(cmd.Context(), c, r)
		},
	}
}

func (a *app) describe(ctx context.Context, c *client.Client, r api.Resource) error {
	m := r.Head().Metadata
	fmt.Fprintln(a.out, a.outPaint.bold(r.Head().Key().String()))
	writeTable(a.out, a.outPaint, nil, a.facts(r))
	if err := a.related(ctx, c, r, m.Name); err != nil {
		return err
	}
	a.recent(ctx, c, r)
	return a.section("spec", specOf(r))
}

// facts gives the first lines of a description.
// classes names the volume classes of a host.
func classes(list []api.Name) string {
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = string(c)
	}
	return strings.Join(out, ", ")
}

func (a *app) facts(r api.Resource) [][]string {
	m := r.Head().Metadata
	rows := [][]string{{"  state", a.headline(r)}}
	add := func(what, value string) {
		if value != "" {
			rows = append(rows, []string{"  " + what, value})
		}
	}
	switch r := r.(type) {
	case *api.Host:
		add("address", columns{}.address(r))
		add("agent", r.Status.Version)
		add("capacity", capacity(r.Status.Capacity))
		add("most policy", string(r.Status.MaxPolicy))
		add("volume classes", classes(r.Status.VolumeClasses))
		add("seen", ago(time.Now(), r.Status.Seen)+" ago")
	case *api.Pod:
		add("service", string(r.Spec.Service))
		add("host", string(r.Spec.Host))
		add("made for", string(r.Spec.Cause))
	}
	add("labels", labels(m.Labels))
	add("uid", string(m.UID))
	add("revision", fmt.Sprint(m.Revision))
	if !m.Created.IsZero() {
		add("created", fmt.Sprintf("%s (%s ago)", m.Created.Local().Format(time.DateTime), ago(time.Now(), m.Created)))
	}
	return rows
}

// headline says how a resource is, and why.
func (a *app) headline(r api.Resource) string {
	c := columns{paint: a.outPaint, wide: true}
	switch r := r.(type) {
	case *api.Host:
		return join(c.state(hostHealth(r), hostState(r)), cause(r.Status.Reason, r.Status.Message))
	case *api.Service:
		h := serviceHealth(r)
		return join(c.state(h, fmt.Sprintf("%d/%d ready", r.Status.Ready, replicas(r))), c.message(h, r.Status.Reason, r.Status.Message))
	case *api.Pod:
		h, word := podHealth(r)
		return join(c.state(h, word), c.message(h, r.Status.Reason, r.Status.Message))
	case *api.Alias:
		return c.alias(r)
	}
	if r.Head().Metadata.Deleting {
		return c.state(coming, "deleting")
	}
	return c.state(well, "there")
}

func join(a, b string) string {
	if b == "" {
		return a
	}
	return a + "  " + b
}

// related prints what belongs to a resource.
func (a *app) related(ctx context.Context, c *client.Client, r api.Resource, name api.Name) error {
	switch r := r.(type) {
	case *api.Project:
		services, _, err := listKind(ctx, c, api.KindService, name)
		if err != nil {
			return err
		}
		return a.sectionTable(ctx, c, "services", api.KindService, services)
	case *api.Service:
		return a.relatedPods(ctx, c, r.Metadata.Project, func(p *api.Pod) bool { return p.Spec.Service == name })
	case *api.Host:
		return a.relatedPods(ctx, c, "", func(p *api.Pod) bool { return p.Spec.Host == name })
	case *api.Pod:
		a.containers(r)
		if w, err := c.Why(ctx, r.Metadata.Project, r.Metadata.Name); err != nil {
			fmt.Fprintf(a.out, "\n%s its links are not known: %v\n", a.outPaint.yellow("!"), err)
		} else {
			a.links(w)
			a.egress(w.Egress)
		}
		return a.section("placement", r.Spec.Placement)
	}
	return nil
}

func (a *app) relatedPods(ctx context.Context, c *client.Client, project api.Name, belongs func(*api.Pod) bool) error {
	all, _, err := listKind(ctx, c, api.KindPod, project)
	if err != nil {
		return err
	}
	var pods []api.Resource
	for _, r := range all {
		if p, ok := r.(*api.Pod); ok && belongs(p) {
			pods = append(pods, p)
		}
	}
	return a.sectionTable(ctx, c, "pods", api.KindPod, pods)
}

func (a *app) sectionTable(ctx context.Context, c *client.Client, title string, k api.Kind, items []api.Resource) error {
	if len(items) == 0 {
		return nil
	}
	fmt.Fprintf(a.out, "\n%s\n", a.outPaint.bold(title))
	return a.table(ctx, c, k, items, "")
}

func (a *app) containers(p *api.Pod) {
	var rows [][]string
	for _, s := range p.Status.Containers {
		rows = append(rows, []string{string(s.Name), string(s.State), fmt.Sprint(s.Restarts), s.Unit, ago(time.Now(), s.Started), cause(s.Reason, s.Message)})
	}
	if len(rows) > 0 {
		fmt.Fprintf(a.out, "\n%s\n", a.outPaint.bold("containers"))
		writeTable(a.out, a.outPaint, []string{"name", "state", "restarts", "unit", "running for", "message"}, rows)
	}
}

// section prints a value as YAML under a title.
func (a *app) section(title string, v any) error {
	text, err := asYAML(v)
	if err != nil || strings.TrimSpace(string(text)) == "null" || strings.TrimSpace(string(text)) == "{}" {
		return err
	}
	fmt.Fprintf(a.out, "\n%s\n", a.outPaint.bold(title))
	for line := range strings.Lines(string(text)) {
		fmt.Fprint(a.out, "  ", line)
	}
	return nil
}

func specOf(r api.Resource) any {
	switch r := r.(type) {
	case *api.Project:
		return r.Spec
	case *api.Host:
		return r.Spec
	case *api.Service:
		return r.Spec
	case *api.Secret:
		return r.Spec
	case *api.Alias:
		return r.Spec
	case *api.Pod:
		return r.Spec.Template
	}
	return nil
}

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

func (a *app) getCmd() *cobra.Command {
	var format, selector string
	var watch bool
	cmd := &cobra.Command{
		Use: "get KIND [NAME]", Short: "Show resources in a table, or as the API has them",
		Long: `Shows projects, hosts, secrets (their names), services, pods or aliases. Without -p, resources of all projects are listed.

-o json and -o yaml print exactly what the API answers. -o jsonpath=PATH picks values out of that (RFC 9535), one on a line;
with --watch, out of each resource that changes.`,
		Example: `  gear get pods -p shop
  gear get pods -o wide
  gear get pods -l service=web,host=h1
  gear get service shop/web -o yaml
  gear get pods -l service=web -o 'jsonpath=$.items[*].spec.host'
  gear get hosts -o 'jsonpath=$.items[?@.status.state != "ready"].metadata.name'
  gear get hosts --watch`,
		Args: between(1, 2, "a kind and perhaps a name"), ValidArgsFunction: a.completeKindName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(cmd, format); err != nil {
				return err
			}
			k, err := parseKind(cmd, args[0])
			if err != nil {
				return err
			}
			if err := checkSelector(cmd, selector, args[1:]); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			switch {
			case watch:
				return a.watch(cmd.Context(), c, k, args[1:], selector, format)
			case len(args) == 2:
				return a.getOne(cmd.Context(), c, k, args[1], format)
			}
			return a.getAll(cmd.Context(), c, k, selector, format)
		},
	}
	formatFlag(cmd, &format)
	cmd.Flags().StringVarP(&selector, "selector", "l", "", "only what has these labels: LABEL=VALUE, LABEL!=VALUE, LABEL or !LABEL, parted by commas; pods also have service and host, hosts have host")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on, and show each change")
	return cmd
}

// pageSize is how many resources are asked for at a time.
const pageSize = 2000

func checkSelector(cmd *cobra.Command, selector string, names []string) error {
	if selector != "" && len(names) > 0 {
		return usageError(cmd, "a name and --selector exclude each other; give one of them")
	}
	if _, err := api.ParseSelector(selector); err != nil {
		return usageError(cmd, "--selector: %v", err)
	}
	return nil
}

func (a *app) getOne(ctx context.Context, c *client.Client, k api.Kind, name, format string) error {
	r, err := a.find(ctx, c, k, name)
	if err != nil {
		return err
	}
	if asValue(format) {
		return a.printValue(r, format)
	}
	return a.table(ctx, c, k, []api.Resource{r}, format)
}

func (a *app) getAll(ctx context.Context, c *client.Client, k api.Kind, selector, format string) error {
	items, revision, err := selectKind(ctx, c, k, client.ListOptions{Project: api.Name(a.project), Selector: selector, PageSize: pageSize})
	if err != nil {
		return err
	}
	if asValue(format) {
		return a.printValue(api.List[api.Resource]{Revision: revision, Items: append([]api.Resource{}, items...)}, format)
	}
	if len(items) == 0 && format != "name" {
		_, many := kindWords(k)
		fmt.Fprintf(a.err, "there are no %s%s%s\n", many, inWords(api.Name(a.project)), withWords(selector))
		return nil
	}
	return a.table(ctx, c, k, items, format)
}

func inWords(p api.Name) string {
	if p == "" {
		return ""
	}
	return " in project " + string(p)
}

func withWords(selector string) string {
	if selector == "" {
		return ""
	}
	return " with " + selector
}

// table prints resources of one kind.
func (a *app) table(ctx context.Context, c *client.Client, k api.Kind, items []api.Resource, format string) error {
	if format == "name" {
		for _, r := range items {
			fmt.Fprintln(a.out, nameOf(r))
		}
		return nil
	}
	hosts, err := hostAddresses(ctx, c, k)
	if err != nil {
		return err
	}
	col := columns{paint: a.outPaint, wide: format == "wide", project: k.InProject() && a.project == "", now: time.Now(), hosts: hosts}
	var rows [][]string
	for _, r := range items {
		rows = append(rows, col.row(r))
	}
	header, rows := dense(col.header(k), rows)
	writeTable(a.out, a.outPaint, header, rows)
	return nil
}

// dense leaves out the columns of free text that say nothing.
func dense(header []string, rows [][]string) ([]string, [][]string) {
	for i := len(header) - 1; i >= 0; i-- {
		free := header[i] == "message" || header[i] == "description" || header[i] == "labels"
		if !free || slices.ContainsFunc(rows, func(r []string) bool { return r[i] != "" }) {
			continue
		}
		header = slices.Delete(header, i, i+1)
		for n := range rows {
			rows[n] = slices.Delete(rows[n], i, i+1)
		}
	}
	return header, rows
}

// nameOf gives a name that other commands take: NAME or PROJECT/NAME.
func nameOf(r api.Resource) string {
	m := r.Head().Metadata
	if m.Project != "" {
		return string(m.Project) + "/" + string(m.Name)
	}
	return string(m.Name)
}

// hostAddresses gives the addresses of hosts, which the table of pods needs.
func hostAddresses(ctx context.Context, c *client.Client, k api.Kind) (map[api.Name]string, error) {
	if k != api.KindPod {
		return nil, nil
	}
	list, err := client.List[api.Host](ctx, c, "")
	if err != nil {
		return nil, err
	}
	return addressesOf(list.Items), nil
}

func addressesOf(hosts []api.Host) map[api.Name]string {
	out := map[api.Name]string{}
	for _, h := range hosts {
		if h.Spec.Address.IsValid() {
			out[h.Metadata.Name] = h.Spec.Address.String()
		}
	}
	return out
}

// watch prints a line, or an object, for each change.
func (a *app) watch(ctx context.Context, c *client.Client, k api.Kind, names []string, selector, format string) error {
	hosts, err := hostAddresses(ctx, c, k)
	if err != nil {
		return err
	}
	w := watchTable{app: a, format: format, col: columns{paint: a.outPaint, wide: format == "wide", project: k.InProject() && a.project == "", hosts: hosts}, kind: k}
	for e, err := range c.Watch(ctx, client.WatchOptions{Kinds: []api.Kind{k}, Project: api.Name(a.project), Selector: selector}) {
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			fmt.Fprintf(a.err, "gear: %v\n", err)
			continue
		}
		if e.Object == nil || len(names) > 0 && !slices.Contains([]string{nameOf(e.Object), string(e.Object.Head().Metadata.Name)}, names[0]) {
			continue
		}
		if err := w.show(e); err != nil {
			return err
		}
	}
	return nil // people end it with Ctrl-C
}

// watchTable prints rows that come one by one, in columns that only grow.
type watchTable struct {
	*app
	format string
	kind   api.Kind
	col    columns
	widths []int
}

func (w *watchTable) show(e client.Event) error {
	if strings.HasPrefix(w.format, jsonPathPrefix) {
		return w.printValue(e.Object, w.format)
	}
	switch w.format {
	case "json":
		return w.printLine(map[string]any{"type": e.Type, "revision": e.Revision, "object": e.Object})
	case "yaml":
		fmt.Fprintln(w.out, "---")
		return w.printValue(e.Object, "yaml")
	case "name":
		fmt.Fprintln(w.out, nameOf(e.Object))
		return nil
	}
	if w.widths == nil {
		header := w.col.header(w.kind)
		w.widths = make([]int, len(header))
		for i := range header {
			header[i] = strings.ToUpper(header[i])
		}
		w.line(header)
	}
	w.col.now = time.Now()
	row := w.col.row(e.Object)
	if e.Type == api.EventDelete {
		row[len(row)-1] = "deleted"
	}
	w.line(row)
	return nil
}

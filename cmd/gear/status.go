package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

func (a *app) statusCmd() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "status", Short: "Show what runs where: problems first, then projects as trees",
		Example: `  gear status
  gear status -p shop
  gear status -o json`,
		Args: between(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkFormat(cmd, format, "json"); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			s, err := gather(cmd.Context(), c, api.Name(a.project))
			if err != nil {
				return err
			}
			if format == "json" {
				return a.printValue(s, format)
			}
			s.print(a.out, a.outPaint, time.Now())
			return nil
		},
	}
	formatFlag(cmd, &format, "json")
	return cmd
}

// overview is everything that gear status shows.
type overview struct {
	Problems []trouble     `json:"problems"`
	Hosts    []api.Host    `json:"hosts"`
	Projects []api.Project `json:"projects"`
	Services []api.Service `json:"services"`
	Pods     []api.Pod     `json:"pods"`
	Aliases  []api.Alias   `json:"aliases"`
}

// trouble is something that somebody should look at.
type trouble struct {
	What  string     `json:"what"`
	Cause string     `json:"cause,omitempty"`
	Try   string     `json:"try,omitempty"`
	Since *time.Time `json:"since,omitempty"`
}

// gather reads a project, or all.
func gather(ctx context.Context, c *client.Client, project api.Name) (*overview, error) {
	s := &overview{}
	if project != "" {
		p, err := client.Get[api.Project](ctx, c, "", project)
		if err != nil {
			return nil, err
		}
		s.Projects = []api.Project{*p}
	} else if err := into(&s.Projects)(client.List[api.Project](ctx, c, "")); err != nil {
		return nil, err
	}
	if err := into(&s.Hosts)(client.List[api.Host](ctx, c, "")); err != nil {
		return nil, err
	}
	if err := into(&s.Services)(client.List[api.Service](ctx, c, project)); err != nil {
		return nil, err
	}
	if err := into(&s.Pods)(client.List[api.Pod](ctx, c, project)); err != nil {
		return nil, err
	}
	if err := into(&s.Aliases)(client.List[api.Alias](ctx, c, project)); err != nil {
		return nil, err
	}
	s.sort()
	s.findProblems()
	return s, nil
}

func into[T any](to *[]T) func(api.List[T], error) error {
	return func(l api.List[T], err error) error {
		*to = append([]T{}, l.Items...)
		return err
	}
}

func (s *overview) sort() {
	slices.SortFunc(s.Projects, func(a, b api.Project) int { return byProject(&a, &b) })
	slices.SortFunc(s.Hosts, func(a, b api.Host) int { return byProject(&a, &b) })
	slices.SortFunc(s.Services, func(a, b api.Service) int { return byProject(&a, &b) })
	slices.SortFunc(s.Pods, func(a, b api.Pod) int { return byProject(&a, &b) })
	slices.SortFunc(s.Aliases, func(a, b api.Alias) int { return byProject(&a, &b) })
}

// findProblems lists what is ill: hosts first, since they explain pods; then pods, and services
// that no pod explains; then aliases.
func (s *overview) findProblems() {
	s.Problems = []trouble{}
	add := func(key api.Key, why, try string) {
		s.Problems = append(s.Problems, trouble{What: key.String(), Cause: why, Try: try})
	}
	for _, h := range s.Hosts {
		if hostHealth(&h) == ill || h.Status.State == api.HostReady && h.Status.Reason != "" {
			add(h.Key(), cmp.Or(cause(h.Status.Reason, h.Status.Message), hostState(&h)), nextOnHost(&h))
		}
	}
	explained := map[string]bool{}
	for _, p := range s.Pods {
		if h, word := podHealth(&p); h == ill {
			explained[nameOfService(&p)] = true
			add(p.Key(), cmp.Or(cause(p.Status.Reason, p.Status.Message), word), next(&p))
		}
	}
	for _, v := range s.Services {
		if serviceHealth(&v) == ill && !explained[nameOf(&v)] {
			add(v.Key(), cause(v.Status.Reason, v.Status.Message), "gear describe service"+projectFlag(v.Metadata.Project)+" "+string(v.Metadata.Name))
		}
	}
	for _, v := range s.Aliases {
		if !v.Status.Active {
			add(v.Key(), cmp.Or(cause(v.Status.Reason, v.Status.Message), "it is not in force"), "gear describe alias"+projectFlag(v.Metadata.Project)+" "+string(v.Metadata.Name))
		}
	}
}

func nameOfService(p *api.Pod) string {
	return string(p.Metadata.Project) + "/" + string(p.Spec.Service)
}

// print writes the problems and the trees.
func (s *overview) print(w io.Writer, c paint, now time.Time) {
	for _, t := range s.Problems {
		fmt.Fprintf(w, "%s %s\n", c.red("✗"), c.bold(t.What))
		for line := range strings.Lines(t.Cause) {
			fmt.Fprintf(w, "  %s\n", strings.TrimRight(line, "\n"))
		}
		fmt.Fprintf(w, "  %s %s\n", c.bold("try:"), t.Try)
	}
	if len(s.Problems) > 0 {
		fmt.Fprintln(w)
	}
	hosts := addressesOf(s.Hosts)
	for i, p := range s.Projects {
		if i > 0 {
			fmt.Fprintln(w)
		}
		s.project(w, c, p.Metadata.Name, hosts, now)
	}
	if len(s.Projects) > 0 {
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, s.hostLine(c))
}

// project writes the tree of a project.
func (s *overview) project(w io.Writer, c paint, project api.Name, hosts map[api.Name]string, now time.Time) {
	fmt.Fprintln(w, c.bold(string(project)))
	var rows [][]string
	for _, v := range s.Services {
		if v.Metadata.Project != project {
			continue
		}
		h := serviceHealth(&v)
		rows = append(rows, []string{c.dot(h) + " " + c.bold(string(v.Metadata.Name)), c.word(h, fmt.Sprintf("%d/%d ready", v.Status.Ready, replicas(&v))),
			"", s.names(&v), c.grey(ago(now, v.Metadata.Created))})
		rows = append(rows, s.pods(c, &v, hosts, now)...)
	}
	if len(rows) == 0 {
		fmt.Fprintln(w, "  no services yet; try: gear apply -f FILE")
		return
	}
	writeTable(w, c, nil, rows)
}

// pods gives the branches of a service's tree.
func (s *overview) pods(c paint, v *api.Service, hosts map[api.Name]string, now time.Time) [][]string {
	var rows [][]string
	for _, p := range s.Pods {
		if p.Metadata.Project != v.Metadata.Project || p.Spec.Service != v.Metadata.Name {
			continue
		}
		h, word := podHealth(&p)
		if n := restarts(&p); n > 0 {
			word += fmt.Sprintf(", %s", count(n, "restart"))
		}
		rows = append(rows, []string{"├ " + c.dot(h) + " " + string(p.Metadata.Name), c.word(h, word), orDash(string(p.Spec.Host)),
			addresses(&p, hosts), c.grey(ago(now, p.Metadata.Created))})
	}
	if n := len(rows); n > 0 {
		rows[n-1][0] = "└" + strings.TrimPrefix(rows[n-1][0], "├")
	}
	return rows
}

// names gives the host names of a service.
func (s *overview) names(v *api.Service) string {
	var out []string
	for _, al := range s.Aliases {
		if al.Status.Active && al.Metadata.Project == v.Metadata.Project && al.Spec.Service == v.Metadata.Name {
			out = append(out, string(al.Spec.Host))
		}
	}
	slices.Sort(out)
	return text.Snip(strings.Join(slices.Compact(out), ", "), 60, "…")
}

// hostLine says how many hosts there are and how they are.
func (s *overview) hostLine(c paint) string {
	if len(s.Hosts) == 0 {
		return c.dot(ill) + " no hosts; try: gear token create, then gear join on a host"
	}
	ready, worst := 0, well
	for _, h := range s.Hosts {
		if hostHealth(&h) == well {
			ready++
		}
		worst = max(worst, hostHealth(&h))
	}
	return fmt.Sprintf("%s %s, %d ready", c.dot(worst), count(len(s.Hosts), "host"), ready)
}

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
)

func (a *app) whyCmd() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "why POD", Short: "Explain a pod: why it exists, why it is where it is, its units, rules and links",
		Example: `  gear why web-7f3k2 -p shop
  gear why web-7f -o json              # the start of a name is enough when it is unique`,
		Args: between(1, 1, "the name of a pod"), ValidArgsFunction: a.completeNames(api.KindPod),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(cmd, format, "json", "yaml"); err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			p, err := a.find(cmd.Context(), c, api.KindPod, args[0])
			if err != nil {
				return err
			}
			w, err := c.Why(cmd.Context(), p.Head().Metadata.Project, p.Head().Metadata.Name)
			if err != nil {
				return err
			}
			if format != "" {
				return a.printValue(w, format)
			}
			a.why(w)
			a.recent(cmd.Context(), c, p)
			return nil
		},
	}
	formatFlag(cmd, &format, "json", "yaml")
	return cmd
}

// why prints an explanation, what decides first.
func (a *app) why(w api.Why) {
	p := &w.Pod
	fmt.Fprintln(a.out, a.outPaint.bold(p.Key().String()))
	writeTable(a.out, a.outPaint, nil, a.facts(p))
	if h, _ := podHealth(p); h == ill {
		fmt.Fprintf(a.out, "  %s %s\n", a.outPaint.bold("try:"), next(p))
	}
	a.placement(p.Spec.Placement)
	a.containers(p)
	a.links(w)
	a.egress(w.Egress)
	a.texts("units", w.Units)
	a.texts("rules", w.Rules)
	if w.Dropped {
		fmt.Fprintf(a.out, "\n%s host %s could not be asked; this is what the master knows\n", a.outPaint.yellow("!"), orDash(string(p.Spec.Host)))
	}
}

func (a *app) placement(d *api.Decision) {
	if d == nil {
		return
	}
	fmt.Fprintf(a.out, "\n%s\n", a.outPaint.bold("placement"))
	if d.Host != "" {
		fmt.Fprintf(a.out, "  host %s, score %d\n", d.Host, d.Score)
	} else {
		fmt.Fprintln(a.out, "  no host fits")
	}
	for _, r := range d.Reasons {
		fmt.Fprintf(a.out, "    %s\n", r)
	}
	for _, o := range d.Others {
		fmt.Fprintf(a.out, "  host %s would have had score %d\n", o.Host, o.Score)
	}
	rejected := map[string]int{}
	for r, n := range d.Rejected {
		rejected[string(r)] = n
	}
	for _, r := range sortedKeys(rejected) {
		fmt.Fprintf(a.out, "  %s left out: %s\n", count(rejected[r], "host"), r)
	}
}

func (a *app) texts(title string, files []api.TextFile) {
	for _, f := range files {
		fmt.Fprintf(a.out, "\n%s %s\n", a.outPaint.bold(title+":"), f.Name)
		for line := range strings.Lines(f.Text) {
			fmt.Fprintf(a.out, "  %s\n", printable(strings.TrimRight(line, "\n")))
		}
	}
}

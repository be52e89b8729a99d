package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
)

// askPlan asks the master what an apply of files would change.
func (a *app) askPlan(cmd *cobra.Command, files []string) (api.ApplyPlan, error) {
	list, err := a.readManifests(cmd, files)
	if err != nil {
		return api.ApplyPlan{}, err
	}
	c, err := a.client()
	if err != nil {
		return api.ApplyPlan{}, err
	}
	p, err := c.Plan(cmd.Context(), resourcesOf(list))
	if err != nil {
		return p, whereOf(err, list)
	}
	return p, nil
}

// planApply shows what an apply of files would change.
func (a *app) planApply(cmd *cobra.Command, files []string, format string, exitCode bool) error {
	p, err := a.askPlan(cmd, files)
	if err != nil {
		return err
	}
	if format != "" {
		err = a.printValue(p, format)
	} else {
		a.printApplyPlan(p, files)
	}
	if err == nil && exitCode && !p.Empty() {
		return exited(exitChanges)
	}
	return err
}

// whereOf puts files and lines into a refusal, where the master says which resource of the request it is about.
func whereOf(err error, list []manifest) problem {
	p := asProblem(err)
	for i, m := range list {
		at, here := fmt.Sprintf("resources[%d]", i), fmt.Sprintf("%s:%d", m.file, m.line)
		p.what = strings.ReplaceAll(p.what, at, here)
		p.why = strings.ReplaceAll(strings.ReplaceAll(p.why, at+".", here+": "), at+":", here+":")
	}
	return p
}

func (a *app) printApplyPlan(p api.ApplyPlan, files []string) {
	for _, r := range p.Resources {
		a.resourceChange(r)
	}
	if p.Empty() {
		fmt.Fprintln(a.out, "nothing would change")
		return
	}
	a.podChanges(p)
	a.unitChanges(p.Units)
	a.ruleChanges(p.Rules)
	fmt.Fprintf(a.out, "\n%s\n", summary(p))
	fmt.Fprintf(a.out, "%s gear apply%s%s --if-revision %d\n", a.outPaint.bold("try:"), fileFlags(files), projectFlag(api.Name(a.project)), p.Revision)
}

func fileFlags(files []string) string {
	var b strings.Builder
	for _, f := range files {
		b.WriteString(" -f " + f)
	}
	return b.String()
}

// resourceChange prints one resource, and its fields as a diff.
func (a *app) resourceChange(r api.ResourceChange) {
	mark := map[api.ApplyResult]string{api.ResultCreated: a.outPaint.green("+"), api.ResultConfigured: a.outPaint.yellow("~"), api.ResultUnchanged: " "}[r.Result]
	fmt.Fprintf(a.out, "%s %s %s\n", mark, r.Key(), r.Result)
	for _, f := range r.Fields {
		if f.Old != nil {
			fmt.Fprintf(a.out, "    %s\n", a.outPaint.red(fmt.Sprintf("- %s: %s", printable(f.Field), oneLine(f.Old))))
		}
		if f.New != nil {
			fmt.Fprintf(a.out, "    %s\n", a.outPaint.green(fmt.Sprintf("+ %s: %s", printable(f.Field), oneLine(f.New))))
		}
	}
}

// oneLine prints a value on one line.
func oneLine(v any) string {
	if s, ok := v.(string); ok {
		return printable(s)
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return printable(string(text))
}

func (a *app) podChanges(p api.ApplyPlan) {
	if len(p.Pods) == 0 && !p.Cut {
		return
	}
	fmt.Fprintf(a.out, "\n%s\n", a.outPaint.bold("pods"))
	for _, c := range p.Pods {
		fmt.Fprintf(a.out, "  %s\n", a.podChange(c))
		if c.Decision != nil && c.NewHost != "" && len(c.Decision.Rejected) > 0 {
			fmt.Fprintf(a.out, "      %s\n", a.outPaint.grey(leftOut(c.Decision)))
		}
	}
	if p.Cut {
		fmt.Fprintln(a.out, "  … and so on: that is too much to work out to its end")
	}
}

// podChange says in one line what becomes of a pod.
func (a *app) podChange(c api.PodChange) string {
	was := fmt.Sprintf("%s/%s on %s", c.Project, orDash(string(c.Pod)), orDash(string(c.Host)))
	where := "on " + string(c.NewHost)
	if c.NewHost == "" {
		where = a.outPaint.red("nowhere: " + printable(c.Message))
	}
	switch c.Op {
	case api.PodMake:
		return fmt.Sprintf("%s new pod %s %s: %s", a.outPaint.green("+"), newPodName(c), where, c.Reason)
	case api.PodReplace:
		return fmt.Sprintf("%s %s ends, a new one %s takes its place: %s", a.outPaint.yellow("±"), was, where, c.Reason)
	case api.PodEnd:
		return fmt.Sprintf("%s %s ends: %s", a.outPaint.red("-"), was, c.Reason)
	case api.PodPlace:
		return fmt.Sprintf("%s %s/%s, which waits for a host, goes %s", a.outPaint.green("→"), c.Project, c.Pod, where)
	}
	return fmt.Sprintf("%s %s runs on", a.outPaint.grey("="), was)
}

// newPodName names a pod that would be made, where its name is known before.
func newPodName(c api.PodChange) string {
	if c.Pod != "" {
		return fmt.Sprintf("%s/%s", c.Project, c.Pod)
	}
	return fmt.Sprintf("of %s/%s", c.Project, c.Service)
}

// leftOut says how many hosts were left out and why.
func leftOut(d *api.Decision) string {
	by := map[string]int{}
	for r, n := range d.Rejected {
		by[string(r)] = n
	}
	var parts []string
	for _, r := range sortedKeys(by) {
		parts = append(parts, fmt.Sprintf("%s: %s", count(by[r], "host"), r))
	}
	return "left out " + strings.Join(parts, ", ")
}

func (a *app) unitChanges(list []api.UnitChange) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(a.out, "\n%s\n", a.outPaint.bold("units of such a pod"))
	for _, u := range list {
		mark := map[string]string{"added": a.outPaint.green("+"), "removed": a.outPaint.red("-")}[u.Change]
		if mark == "" {
			mark = a.outPaint.yellow("~")
		}
		fmt.Fprintf(a.out, "  %s %s %s\n", mark, printable(u.Unit), u.Change)
		for line := range strings.Lines(u.Diff) {
			a.diffLine(strings.TrimRight(line, "\n"))
		}
	}
}

func (a *app) diffLine(line string) {
	line = printable(line)
	if strings.HasPrefix(line, "-") {
		line = a.outPaint.red(line)
	} else {
		line = a.outPaint.green(line)
	}
	fmt.Fprintf(a.out, "      %s\n", line)
}

func (a *app) ruleChanges(list []api.RuleChange) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(a.out, "\n%s\n", a.outPaint.bold("rules, changed without a restart"))
	for _, r := range list {
		at := "routers"
		if r.Host != "" {
			at = "host " + string(r.Host)
		}
		if r.Pod != "" {
			at = fmt.Sprintf("%s/%s on %s", r.Project, r.Pod, r.Host)
		}
		fmt.Fprintf(a.out, "  %s %s, %s\n", a.outPaint.yellow("~"), at, printable(r.What))
		for _, o := range r.Old {
			a.diffLine("- " + o)
		}
		for _, n := range r.New {
			a.diffLine("+ " + n)
		}
	}
}

// summary counts in one line what would happen.
func summary(p api.ApplyPlan) string {
	results, ops := map[api.ApplyResult]int{}, map[api.PodOp]int{}
	for _, r := range p.Resources {
		results[r.Result]++
	}
	for _, c := range p.Pods {
		ops[c.Op]++
	}
	var parts []string
	for _, r := range []api.ApplyResult{api.ResultCreated, api.ResultConfigured, api.ResultUnchanged} {
		if results[r] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", results[r], r))
		}
	}
	out := strings.Join(parts, ", ") + "; "
	if ops[api.PodMake]+ops[api.PodReplace]+ops[api.PodEnd]+ops[api.PodPlace] == 0 {
		return out + "no pod is touched"
	}
	parts = nil
	for _, x := range []struct {
		op   api.PodOp
		word string
	}{{api.PodMake, "made"}, {api.PodReplace, "replaced"}, {api.PodEnd, "ended"}, {api.PodPlace, "placed"}, {api.PodKeep, "left alone"}} {
		if ops[x.op] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", ops[x.op], x.word))
		}
	}
	return out + "pods: " + strings.Join(parts, ", ")
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

// logView is how lines are shown.
type logView struct {
	follow bool
	since  time.Duration
	tail   int
	times  bool
	json   bool
}

func (a *app) logsCmd() *cobra.Command {
	var v logView
	var format string
	var o client.LogOptions
	cmd := &cobra.Command{
		Use: "logs [SERVICE|POD]", Short: "Show what containers write, of all hosts, merged by time",
		Long: `Shows the lines of a service's pods, of one pod, or of the whole project, on whatever hosts they run.
With -f new pods join in. Lines outlive what wrote them: a pod that is gone is found by its full name, and a service's
with --gone.`,
		Example: `  gear logs -f web -p shop
  gear logs web-7f3k2 -n 100 --system
  gear logs web --previous             # what it wrote before it crashed
  gear logs --host h1 --unit gear-agent
  gear logs --since 10m --grep 'status=5..'`,
		Args: between(0, 1, "at most one service or pod"), ValidArgsFunction: a.completeLogTarget,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := checkFormat(cmd, format, "json"); err != nil {
				return err
			}
			if _, err = regexp.Compile(o.Grep); err != nil {
				return usageError(cmd, "--grep %q is no regular expression: %v", o.Grep, err)
			}
			if o.Host != "" && len(args)+len(o.Container) > 0 || o.Unit != "" && o.Host == "" {
				return usageError(cmd, "--host and --unit are for a host's own journal, without a service or pod")
			}
			if v.follow && (o.Previous || o.Gone) {
				return usageError(cmd, "-f waits for lines to come, and what is gone writes none")
			}
			if v.since < 0 || v.tail < -1 {
				return usageError(cmd, "--since and -n cannot be negative")
			}
			v.json = format == "json"
			c, err := a.client()
			if err != nil {
				return err
			}
			return a.logs(cmd.Context(), c, v, o, args)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&v.follow, "follow", "f", false, "wait for more lines")
	f.DurationVar(&v.since, "since", 0, "only lines that are not older, such as 10m")
	f.IntVarP(&v.tail, "tail", "n", -1, "at most so many old lines of each container")
	f.StringVar(&o.Grep, "grep", "", "only lines that match a regular expression; -n counts those")
	f.StringVarP((*string)(&o.Container), "container", "c", "", "only of this container")
	f.BoolVar(&o.Previous, "previous", false, "of the run of each container before its newest")
	f.BoolVar(&o.System, "system", false, "of a pod, also what systemd and the kernel say of it, such as OOM kills")
	f.BoolVar(&o.Gone, "gone", false, "of a service, also of its pods that are gone; all hosts are asked")
	f.StringVar((*string)(&o.Host), "host", "", "a host's own journal")
	f.StringVar(&o.Unit, "unit", "", "with --host: only of this systemd unit, such as gear-agent")
	a.noError(cmd.RegisterFlagCompletionFunc("host", a.completeNames(api.KindHost)))
	f.BoolVar(&v.times, "timestamps", false, "begin lines with their time")
	formatFlag(cmd, &format, "json")
	return cmd
}

func (a *app) logs(ctx context.Context, c *client.Client, v logView, o client.LogOptions, args []string) error {
	o.Follow, o.Since = v.follow, v.since
	if v.tail >= 0 {
		o.Tail = &v.tail
	}
	missing := error(nil)
	if o.Host == "" {
		var err error
		if missing, err = a.logTarget(ctx, c, &o, args); err != nil {
			return err
		}
	}
	p := linePrinter{w: a.out, paint: a.outPaint, view: v}
	err := a.stream(ctx, c, o, &p)
	var told *api.Error
	if missing != nil && errors.As(err, &told) && told.Code == api.CodeNotFound {
		return missing
	}
	return err
}

// logTarget fills in the project, and the service or pod that a word stands for. A name that is not known may be of
// a pod that is gone: missing is what to say when no host knows it either.
func (a *app) logTarget(ctx context.Context, c *client.Client, o *client.LogOptions, args []string) (missing, err error) {
	word := ""
	if len(args) == 1 {
		word = args[0]
	}
	if project, name, ok := strings.Cut(word, "/"); ok {
		a.project, word = project, name
	}
	if o.Project, err = a.inProject(ctx, c); err != nil || word == "" {
		return nil, err
	}
	name, err := checkedName("service or pod", word)
	if err != nil {
		return nil, err
	}
	services, _, err := listKind(ctx, c, api.KindService, o.Project)
	if err != nil {
		return nil, err
	}
	pods, _, err := listKind(ctx, c, api.KindPod, o.Project)
	if err != nil {
		return nil, err
	}
	for _, list := range [][]api.Resource{services, pods} {
		r, err := a.meant(api.Key{Kind: api.KindPod, Project: o.Project, Name: name}, list)
		switch {
		case err != nil:
		case r.Head().Kind == api.KindService:
			o.Service = r.Head().Metadata.Name
			return nil, nil
		default:
			o.Pod = r.Head().Metadata.Name
			return nil, nil
		}
	}
	missing = problem{what: fmt.Sprintf("project %s has neither a service nor a pod %q%s", o.Project, name, didYouMean(word, namesOf(services, pods))),
		try: "gear status -p " + string(o.Project), code: exitNotFound}
	if o.Follow {
		return nil, missing
	}
	o.Pod = name
	return missing, nil
}

func namesOf(lists ...[]api.Resource) []string {
	var out []string
	for _, l := range lists {
		for _, r := range l {
			out = append(out, string(r.Head().Metadata.Name))
		}
	}
	return out
}

// stream prints lines until there are no more. A lost connection is taken up again when following:
// lines since the last one are asked for, and those already shown are left out.
func (a *app) stream(ctx context.Context, c *client.Client, o client.LogOptions, p *linePrinter) error {
	for {
		err := p.all(ctx, c, o)
		var lost *client.ConnectError
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // people end gear logs -f with Ctrl-C
		case !o.Follow || err != nil && !errors.As(err, &lost):
			return err
		}
		fmt.Fprintln(a.err, "gear: the connection was lost; connecting again")
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
		if !p.last.IsZero() {
			o.Since, o.Tail = time.Since(p.last)+time.Second, nil
		}
		p.shown = p.last
	}
}

// linePrinter prints lines with the names of their pods in front, in a column that only grows.
type linePrinter struct {
	w     io.Writer
	paint paint
	view  logView
	width int
	last  time.Time // of the newest line printed
	shown time.Time // lines up to this one were printed before
}

func (p *linePrinter) all(ctx context.Context, c *client.Client, o client.LogOptions) error {
	for l, err := range c.Logs(ctx, o) {
		if err != nil {
			return err
		}
		if !p.shown.IsZero() && !l.Time.After(p.shown) {
			continue
		}
		if err := p.line(l); err != nil {
			return err
		}
	}
	return nil
}

func (p *linePrinter) line(l api.LogLine) error {
	if l.Time.After(p.last) {
		p.last = l.Time
	}
	if p.view.json {
		return (&app{streams: streams{out: p.w}}).printLine(l)
	}
	who := string(l.Pod)
	if who == "" {
		who = string(l.Host)
	}
	if l.Container != "" && l.Container != api.DefaultContainer {
		who += "/" + string(l.Container)
	}
	if l.Source != "" {
		who += " " + printable(l.Source)
	}
	p.width = max(p.width, len(who))
	at := ""
	if p.view.times {
		at = p.paint.grey(l.Time.Local().Format("15:04:05.000")) + " "
	}
	_, err := fmt.Fprintf(p.w, "%s%s %s %s\n", at, p.paint.of(who, fmt.Sprintf("%-*s", p.width, who)), p.paint.grey("│"), printable(l.Text))
	return err
}

// printable keeps text from steering the terminal. The API escapes it already; a client of many
// masters does not rely on that.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '\uFFFD'
		}
		return r
	}, s)
}

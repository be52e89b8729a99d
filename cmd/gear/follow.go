package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"gearmesh.dev/api"
	"gearmesh.dev/client"
)

// tick is how often the picture is drawn anew and the clock looked at.
const tick = 200 * time.Millisecond

// follow shows how services become ready, until they are or cannot be. It shows; it never acts.
func (a *app) follow(ctx context.Context, c *client.Client, services []*api.Service, timeout time.Duration) error {
	r, begin := newRollout(services), time.Now()
	screen := &screen{app: a, begin: begin, told: map[api.UID]string{}}
	err := a.watchUntil(ctx, c, watchOf(services), timeout, func(e *client.Event) (bool, error) {
		now := time.Now()
		if e != nil {
			r.see(*e, now)
		}
		screen.show(r)
		if r.done(now) {
			return true, nil
		}
		_, err := r.failed(now)
		return err != nil, err
	})
	screen.end(r)
	switch {
	case errors.Is(err, errTime):
		return a.late(r, timeout)
	case ctx.Err() != nil:
		fmt.Fprintf(a.err, "gear: no longer following; the pods go on: gear status%s\n", projectFlag(services[0].Metadata.Project))
		return exited(exitInterrupted)
	case err != nil:
		if p, _ := r.failed(time.Now()); p != nil {
			a.lastLines(ctx, c, p)
		}
		return err
	}
	a.urls(ctx, c, services)
	return nil
}

func watchOf(services []*api.Service) client.WatchOptions {
	o := client.WatchOptions{Kinds: []api.Kind{api.KindService, api.KindPod}, Project: services[0].Metadata.Project}
	for _, s := range services {
		if s.Metadata.Project != o.Project {
			o.Project = ""
		}
	}
	return o
}

// errTime says that the time to wait has run out.
var errTime = errors.New("the time ran out")

// watchUntil passes on events, and nil at each tick, until judge says that it is over.
func (a *app) watchUntil(ctx context.Context, c *client.Client, o client.WatchOptions, timeout time.Duration, judge func(*client.Event) (over bool, err error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTime)
	defer cancel()
	type item struct {
		event client.Event
		err   error
	}
	items := make(chan item)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(items)
		for e, err := range c.Watch(ctx, o) {
			select {
			case items <- item{e, err}:
			case <-ctx.Done():
				return
			}
		}
	})
	defer func() { cancel(); wg.Wait() }()
	clock := time.NewTicker(tick)
	defer clock.Stop()
	var lost error
	for {
		var e *client.Event
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-clock.C:
		case i, more := <-items:
			switch {
			case !more && ctx.Err() != nil:
				return context.Cause(ctx)
			case !more:
				return lost
			case i.err != nil:
				lost = i.err
				continue
			}
			e = &i.event
		}
		if over, err := judge(e); over {
			return err
		}
	}
}

// late says what is missing when the time is over.
func (a *app) late(r *rollout, timeout time.Duration) error {
	p := problem{what: fmt.Sprintf("not all is ready after %s", timeout), code: exitTimeout}
	for _, key := range r.keys() {
		n, all := r.ready(key)
		if all {
			continue
		}
		s := r.services[key]
		p.why = joinLines(p.why, fmt.Sprintf("%s: %d/%d ready; %s", key, n, replicas(s), cause(s.Status.Reason, s.Status.Message)))
		p.try = "gear status" + projectFlag(key.Project)
	}
	p.why = strings.TrimPrefix(p.why, "\n")
	return p
}

// lastLines prints the end of what a pod wrote, to say more than its exit code.
func (a *app) lastLines(ctx context.Context, c *client.Client, p *api.Pod) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	n := 20
	var lines []string
	for l, err := range c.Logs(ctx, client.LogOptions{Project: p.Metadata.Project, Pod: p.Metadata.Name, Tail: &n}) {
		if err != nil {
			break // there may be nothing to show, and the pod's cause is shown anyhow
		}
		lines = append(lines, printable(l.Text))
	}
	if len(lines) == 0 {
		return
	}
	lines = lines[max(0, len(lines)-n):]
	fmt.Fprintf(a.err, "%s\n", a.errPaint.grey("last lines of "+string(p.Metadata.Name)+":"))
	for _, l := range lines {
		fmt.Fprintf(a.err, "  %s %s\n", a.errPaint.grey("│"), l)
	}
}

// urls ends a rollout with where it can be seen.
func (a *app) urls(ctx context.Context, c *client.Client, services []*api.Service) {
	var names []string
	for _, s := range services {
		list, err := client.List[api.Alias](ctx, c, s.Metadata.Project)
		if err != nil {
			return
		}
		for _, al := range list.Items {
			if al.Spec.Service == s.Metadata.Name && al.Status.Active {
				names = append(names, "http://"+string(al.Spec.Host))
			}
		}
	}
	slices.Sort(names)
	for _, n := range slices.Compact(names) {
		fmt.Fprintf(a.err, "  %s\n", n)
	}
}

// screen shows a rollout: drawn in place on a terminal, else a line for each change.
type screen struct {
	*app
	begin time.Time
	drawn int // lines of the last picture
	told  map[api.UID]string
}

func (s *screen) show(r *rollout) {
	if !s.errTTY {
		s.tell(r)
		return
	}
	s.draw(s.picture(r))
}

// tell prints what changed, a line a pod.
func (s *screen) tell(r *rollout) {
	if !r.synced {
		return
	}
	for _, key := range r.keys() {
		for _, p := range r.podsOf(key) {
			line := s.podLine(r, p)
			if s.told[p.Metadata.UID] != line {
				s.told[p.Metadata.UID] = line
				fmt.Fprintf(s.err, "%6s %s\n", s.elapsed(), line)
			}
		}
	}
}

func (s *screen) elapsed() string { return fmt.Sprintf("%.1fs", time.Since(s.begin).Seconds()) }

// podLine says how a pod is.
func (s *screen) podLine(r *rollout, p *api.Pod) string {
	h, word := podHealth(p)
	mark := s.errPaint.dot(h)
	if h == well {
		mark = s.errPaint.green("✔")
	}
	if !r.current(p) {
		mark, word = s.errPaint.grey("·"), word+", to be replaced"
	}
	line := fmt.Sprintf("%s %s  %s  %s", mark, p.Metadata.Name, orDash(string(p.Spec.Host)), s.errPaint.word(h, word))
	if h != well && p.Status.Message != "" {
		line += "  " + strings.ReplaceAll(cause(p.Status.Reason, p.Status.Message), "\n", " ")
	}
	return line
}

// maxDrawn bounds the pods of a service that are drawn; those that are not ready come first.
const maxDrawn = 12

// picture gives the lines of the terminal.
func (s *screen) picture(r *rollout) []string {
	var out []string
	for _, key := range r.keys() {
		n, all := r.ready(key)
		pods := r.podsOf(key)
		slices.SortStableFunc(pods, func(a, b *api.Pod) int { return s.rank(a) - s.rank(b) })
		mark := s.errPaint.yellow("◐")
		switch {
		case all:
			mark = s.errPaint.green("✔")
		case len(pods) > 0 && s.rank(pods[0]) == -int(ill):
			mark = s.errPaint.red("✗")
		}
		out = append(out, fmt.Sprintf("%s %s  %d/%d ready  %s", mark, s.errPaint.bold(string(key.Project)+"/"+string(key.Name)), n, replicas(r.services[key]), s.errPaint.grey(s.elapsed())))
		if all {
			continue
		}
		for i, p := range pods {
			if i == maxDrawn {
				out = append(out, fmt.Sprintf("    … and %d more", len(pods)-i))
				break
			}
			out = append(out, "    "+s.podLine(r, p))
		}
	}
	return out
}

// rank orders pods, worst first.
func (s *screen) rank(p *api.Pod) int {
	h, _ := podHealth(p)
	return -int(h)
}

// draw replaces the last picture.
func (s *screen) draw(lines []string) {
	var b strings.Builder
	b.WriteString("\r") // the terminal may have echoed ^C
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.drawn)
	}
	b.WriteString("\x1b[J")
	for _, l := range lines {
		if w := s.size(); w > 0 {
			l = text.Trim(l, w-1)
		}
		b.WriteString(l + "\x1b[0m\n")
	}
	s.drawn = len(lines)
	fmt.Fprint(s.err, b.String())
}

// end says how it came out.
func (s *screen) end(r *rollout) {
	if s.errTTY {
		s.draw(s.picture(r))
		return
	}
	for _, key := range r.keys() {
		if n, all := r.ready(key); all {
			fmt.Fprintf(s.err, "%6s ✔ %s %d/%d ready\n", s.elapsed(), key, n, replicas(r.services[key]))
		}
	}
}

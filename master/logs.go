package master

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"regexp"
	"strconv"
	"sync"
	"time"

	"gearmesh.dev/api"
	"gearmesh.dev/internal/loop"
)

const (
	// maxLogPods is how many pods one request may follow: each is a connection.
	maxLogPods = 500
	// reorderWindow is how long a followed line is held back for an older one of another host.
	reorderWindow = 200 * time.Millisecond
	maxLogLine    = 1 << 20
)

// logQuery is what a request for logs asks for.
type logQuery struct {
	project, service, pod api.Name
	more                  url.Values // what the agent alone reads: container, grep, unit, previous, system
	gone                  bool       // of every host, also of pods that are no more
	follow                bool
	tail                  int           // -1 for all
	since                 time.Duration // 0 for all
}

func (c *call) logQuery() (logQuery, error) {
	v := c.URL.Query()
	q := logQuery{project: c.name("project"), service: api.Name(v.Get("service")), pod: api.Name(v.Get("pod")), tail: -1, more: url.Values{}}
	for _, key := range []string{"container", "grep", "unit", "previous", "system"} {
		if text := v.Get(key); text != "" {
			q.more.Set(key, text)
		}
	}
	bad := func(key, want string) error {
		return api.Errorf(api.CodeBadRequest, "%s %.40q is not right; write %s", key, v.Get(key), want)
	}
	for key, name := range map[string]api.Name{"service": q.service, "pod": q.pod} {
		if name != "" && name.Validate() != nil {
			return q, bad(key, "a name such as web")
		}
	}
	var err error
	if text := v.Get("follow"); text != "" {
		if q.follow, err = strconv.ParseBool(text); err != nil {
			return q, bad("follow", "1 or 0")
		}
	}
	for key, to := range map[string]*bool{"gone": &q.gone, "previous": new(bool), "system": new(bool)} {
		if text := v.Get(key); text != "" {
			if *to, err = strconv.ParseBool(text); err != nil {
				return q, bad(key, "1 or 0")
			}
		}
	}
	if _, err := regexp.Compile(v.Get("grep")); err != nil {
		return q, bad("grep", "a regular expression")
	}
	if text := v.Get("tail"); text != "" {
		if q.tail, err = strconv.Atoi(text); err != nil || q.tail < 0 {
			return q, bad("tail", "a number of lines")
		}
	}
	if text := v.Get("since"); text != "" {
		if q.since, err = time.ParseDuration(text); err != nil || q.since <= 0 {
			return q, bad("since", "a duration such as 10m")
		}
	}
	return q, nil
}

// forAgent gives the query as the agent takes it: with the pod's names, which are what the journal
// knows it by, also when nothing else of it is left on the host.
func (q logQuery) forAgent(p *api.Pod) url.Values {
	return q.values(url.Values{"project": {string(p.Metadata.Project)}, "pod": {string(p.Metadata.Name)}})
}

// values adds to v how much is asked for.
func (q logQuery) values(v url.Values) url.Values {
	maps.Copy(v, q.more)
	if q.follow {
		v.Set("follow", "1")
	}
	if q.tail >= 0 {
		v.Set("tail", strconv.Itoa(q.tail))
	}
	if q.since > 0 {
		v.Set("since", q.since.String())
	}
	return v
}

// logs answers GET on a project's logs: every host with a pod that is asked for, merged by time.
func (m *Master) logs(c *call) error {
	q, err := c.logQuery()
	if err != nil {
		return err
	}
	if key := (api.Key{Kind: api.KindProject, Name: q.project}); !m.cache.has(key) {
		return notFound(key)
	}
	pods := m.logPods(q)
	if len(pods) > maxLogPods {
		return api.Errorf(api.CodeBadRequest, "%d pods have logs here, and at most %d are merged; ask for one service or pod", len(pods), maxLogPods)
	}
	if len(pods) == 0 && q.pod != "" && !q.follow || q.gone && !q.follow {
		return m.goneLogs(c, q)
	}
	if q.follow {
		m.followLogs(c, q)
	} else {
		m.pastLogs(c, q, pods)
	}
	return nil
}

// logPods gives the pods that are asked for and have a host.
func (m *Master) logPods(q logQuery) []*api.Pod {
	var out []*api.Pod
	for _, r := range m.cache.list(api.KindPod, q.project) {
		p, ok := r.(*api.Pod)
		if ok && p.Spec.Host != "" && (q.service == "" || p.Spec.Service == q.service) && (q.pod == "" || p.Metadata.Name == q.pod) {
			out = append(out, p)
		}
	}
	return out
}

// pastLogs sends what there is.
func (m *Master) pastLogs(c *call, q logQuery, pods []*api.Pod) {
	ctx, cancel := context.WithCancel(c.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var sources []<-chan api.LogLine
	for _, p := range pods {
		lines := make(chan api.LogLine, 16)
		sources = append(sources, lines)
		wg.Go(func() {
			defer close(lines)
			if err := m.readLogs(ctx, p, q, into(ctx, lines)); err != nil && ctx.Err() == nil {
				_ = into(ctx, lines)(notice(p, err))
			}
		})
	}
	_ = mergeSorted(ctx, sources, func(l api.LogLine) error { return c.send(l) }) // the client has gone
}

// followLogs sends what there is and what comes, also of pods that come later.
func (m *Master) followLogs(c *call, q logQuery) {
	ctx, cancel := context.WithCancel(c.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	lines := make(chan api.LogLine, 256)
	wg.Go(func() { m.joinPods(ctx, q, lines) })
	wg.Go(func() {
		select {
		case <-m.stopping:
			cancel()
		case <-ctx.Done():
		}
	})
	_ = c.sendLine(nil) // the answer begins, though nobody may write for long
	_ = mergeLive(ctx, lines, reorderWindow, func(l api.LogLine) error { return c.send(l) })
}

// joinPods follows every pod that is asked for, from when it has a host until it is gone.
func (m *Master) joinPods(ctx context.Context, q logQuery, lines chan<- api.LogLine) {
	var wg sync.WaitGroup
	defer wg.Wait()
	following := map[api.UID]bool{}
	for ctx.Err() == nil {
		changed := m.cache.signal()
		for _, p := range m.logPods(q) {
			if following[p.Metadata.UID] || len(following) >= maxLogPods {
				continue
			}
			following[p.Metadata.UID] = true
			ask := q
			wg.Go(func() { m.followPod(ctx, p, ask, into(ctx, lines)) })
		}
		q.tail, q.since = -1, 0 // of a pod that comes later, everything is new
		select {
		case <-changed:
			loop.Sleep(ctx, 100*time.Millisecond)
		case <-ctx.Done():
		}
	}
}

// followPod reads a pod's log to its end, again after a connection that broke, without lines
// that were sent already.
func (m *Master) followPod(ctx context.Context, p *api.Pod, q logQuery, emit func(api.LogLine) error) {
	var last time.Time
	silent := false
	for ctx.Err() == nil {
		err := m.readLogs(ctx, p, q, func(l api.LogLine) error {
			if !l.Time.After(last) {
				return nil
			}
			last, silent = l.Time, false
			return emit(l)
		})
		now, exists := m.cache.get(p.Key())
		if ctx.Err() != nil || !exists || now.Head().Metadata.UID != p.Metadata.UID {
			return
		}
		if err != nil && !silent {
			_ = emit(notice(p, err))
			silent = true
		}
		if !last.IsZero() {
			q.tail, q.since = -1, time.Since(last)+time.Second
		}
		loop.Sleep(ctx, time.Second)
	}
}

// readLogs asks a pod's host for its log and passes each line on. Whose line it is the master
// knows itself: a host cannot speak for another's pods.
func (m *Master) readLogs(ctx context.Context, p *api.Pod, q logQuery, emit func(api.LogLine) error) error {
	body, err := m.askAgent(ctx, p.Spec.Host, "/v1/pods/"+string(p.Metadata.UID)+"/logs", q.forAgent(p))
	if err != nil {
		return err
	}
	return scanLogs(body, p.Spec.Host, func(l api.LogLine) error {
		l.Project, l.Service, l.Pod = p.Metadata.Project, p.Spec.Service, p.Metadata.Name
		return emit(l)
	})
}

// scanLogs passes on the lines of an agent's answer as those of its host.
func scanLogs(body io.ReadCloser, host api.Name, emit func(api.LogLine) error) error {
	defer body.Close()
	scanner := bufio.NewScanner(body)
	scanner.Buffer(nil, maxLogLine)
	for scanner.Scan() {
		if len(scanner.Bytes()) == 0 {
			continue
		}
		var l api.LogLine
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			return fmt.Errorf("reading the log from host %q: %w", host, err)
		}
		l.Host, l.Text, l.Source = host, printable(l.Text), printable(l.Source)
		if err := emit(l); err != nil {
			return err
		}
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("reading the log from host %q: %w", host, err)
	}
	return nil
}

// into gives a function that sends to a channel until ctx ends.
func into(ctx context.Context, lines chan<- api.LogLine) func(api.LogLine) error {
	return func(l api.LogLine) error {
		select {
		case lines <- l:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// notice is a line of the master's own: why there are none of a pod.
func notice(p *api.Pod, err error) api.LogLine {
	return api.LogLine{Time: time.Now().UTC(), Host: p.Spec.Host, Project: p.Metadata.Project, Service: p.Spec.Service,
		Pod: p.Metadata.Name, Text: printable(fmt.Sprintf("gear: the log cannot be read: %v", err))}
}
